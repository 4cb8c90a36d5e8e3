"""Bodies that a tenant wants kept: what is kept of them, and that nothing of it touches a request (R27)."""

import asyncio
import json
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from tests.ledger.captures.builders import keys
from tests.sidecar.builders import MODEL, SECRET, key, limit, policy
from tests.sidecar.conftest import SetUp, Stage, now
from tests.sidecar.test_failures import until
from tollkeeper.amounts import Unit
from tollkeeper.captures import Capture, KeptBodies
from tollkeeper.errors import Unavailable
from tollkeeper.patterns import TookTooLong
from tollkeeper.policy import PolicySet
from tollkeeper.redactionrules import UNLESS_STATED, OwnPattern, Redaction
from tollkeeper_ledger.captures.sqlite import SqliteCaptures
from tollkeeper_ledger.captures.vault import Vault
from tollkeeper_ledger.export import export
from tollkeeper_sidecar import capturing

TOKENS = limit("tokens", 10**7, Unit.TOKENS)
KEPT = KeptBodies(timedelta(days=30), Redaction())
SPLIT = KeptBodies(timedelta(days=1), Redaction(UNLESS_STATED, (OwnPattern("split", "and for you"),)))
HOSTILE = KeptBodies(timedelta(days=1), Redaction((), (OwnPattern("own", "a.*b|a"),)))
OTHER_SECRET = "tk_ba9876543210_secret"
OTHER = {"Authorization": f"Bearer {OTHER_SECRET}"}
MAIL = "alice@example.com"
USAGE = {"Provider-Usage": "input=300,output=40"}
Headers = dict[str, str]


class Remembering:
    """A keeper in memory that can fail, or wait until it is let go."""

    def __init__(self) -> None:
        self.kept: list[Capture] = []
        self.calls = 0
        self.fault: Exception | None = None
        self.refuses = ""
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def keep(self, captures: Sequence[Capture]) -> None:
        self.calls += 1
        self.may_go_on.wait(30)
        if self.fault is not None:
            raise self.fault
        if any(one.request_id == self.refuses for one in captures):
            raise ValueError("this one cannot be stored")
        self.kept += captures


@pytest.fixture
def keeper() -> Iterator[Remembering]:
    one = Remembering()
    yield one
    one.may_go_on.set()


def asking(kept: KeptBodies | None = KEPT) -> PolicySet:
    return policy(TOKENS, capture=kept)


def question(**fields: Any) -> bytes:
    """A body with odd spaces, as a caller may send one."""
    return json.dumps({"messages": [{"role": "user", "content": "why?"}], "model": MODEL, **fields}, indent=1).encode()


@asynccontextmanager
async def answered(
    running: Stage, body: bytes, headers: Headers | None = None
) -> AsyncIterator[aiohttp.ClientResponse]:
    sent = {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json", **USAGE, **(headers or {})}
    url = f"{running.running.url}/openai/v1/chat/completions"
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=sent) as answer:
        yield answer


async def ask(running: Stage, body: bytes, headers: Headers | None = None) -> tuple[int, str, bytes]:
    async with answered(running, body, headers) as answer:
        return answer.status, answer.headers["Tollkeeper-Request-Id"], await answer.read()


async def counted(running: Stage, name: str) -> float:
    async with aiohttp.ClientSession() as session, session.get(f"{running.running.metrics_url}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


@pytest.mark.parametrize("stream", [False, True])
async def test_what_was_sent_and_what_was_got_is_kept_to_the_byte(
    stage: SetUp, keeper: Remembering, stream: bool
) -> None:
    """R27."""
    running = await stage(asking(), keeper)
    before, body = now(), question(stream=stream)
    status, request_id, got = await ask(running, body)
    await running.finished()
    (kept,) = keeper.kept
    assert (kept.request.content, kept.answer.content) == (body, got)
    assert (kept.request_id, kept.tenant, kept.status) == (request_id, "research", status)
    assert before <= kept.captured_at <= now()
    assert kept.expires_at - kept.captured_at == timedelta(days=30)
    assert kept.request.content_type == "application/json"
    assert kept.answer.content_type.startswith("text/event-stream" if stream else "application/json")
    assert (kept.request.size, kept.request.truncated) == (len(body), False)
    assert (kept.answer.size, kept.answer.truncated) == (len(got), False)
    assert b'"usage"' not in got or not stream


async def test_nothing_is_kept_of_a_tenant_that_does_not_ask_for_it(stage: SetUp, keeper: Remembering) -> None:
    """R27."""
    running = await stage(asking(None), keeper)
    await ask(running, question())
    running.policy.publish(replace(asking(), version=2))
    await ask(running, question())
    await running.finished()
    assert len(keeper.kept) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_what_has_to_be_redacted_leaves_memory_for_nobody(
    stage: SetUp, keeper: Remembering, stream: bool
) -> None:
    """R27: in a stream, each word comes in an event of its own."""
    running = await stage(asking(SPLIT), keeper)
    messages = [{"role": "user", "content": f"ask {MAIL}, card 4111 1111 1111 1111"}]
    _, _, got = await ask(running, question(stream=stream, messages=messages))
    await running.finished()
    (kept,) = keeper.kept
    asked = json.loads(kept.request.content)["messages"][0]["content"]
    assert asked == "ask [redacted:EmailAddresses], card [redacted:CardNumbers]"
    assert b"[redacted:split]" in kept.answer.content
    assert kept.answer.size == len(got)


async def test_a_refused_request_is_not_kept(stage: SetUp, keeper: Remembering) -> None:
    """R27."""
    tight = limit("tokens", 10, Unit.TOKENS)
    running = await stage(policy(tight, capture=KEPT), keeper)
    status, _, _ = await ask(running, question())
    bad, _, _ = await ask(running, b"no json")
    await running.finished()
    assert (status, bad) == (429, 400)
    assert keeper.kept == []


async def test_a_request_that_never_reached_the_provider_is_not_kept(stage: SetUp, keeper: Remembering) -> None:
    running = await stage(asking(), keeper)
    await running.provider.stop()
    status, _, _ = await ask(running, question())
    await running.finished()
    assert status == 502
    assert keeper.kept == []


async def test_a_providers_refusal_is_kept_as_the_caller_got_it(stage: SetUp, keeper: Remembering) -> None:
    running = await stage(asking(), keeper)
    status, _, got = await ask(running, question(), {"Provider-Behaviour": "error-500"})
    await running.finished()
    (kept,) = keeper.kept
    assert (kept.status, kept.answer.content) == (status, got)


async def test_an_answer_that_never_came_leaves_what_was_asked(stage: SetUp, keeper: Remembering) -> None:
    running = await stage(asking(), keeper)
    status, _, _ = await ask(running, question(), {"Provider-Behaviour": "die-midway"})
    await running.finished()
    (kept,) = keeper.kept
    assert (status, kept.status) == (502, 502)
    assert (kept.request.content, kept.answer.content) == (question(), b"")


async def test_of_a_client_that_leaves_is_kept_what_it_got(stage: SetUp, keeper: Remembering) -> None:
    running = await stage(asking(), keeper)
    async with answered(running, question(stream=True), {"Provider-Behaviour": "slow=5"}) as answer:
        first = await answer.content.readany()
    await until(lambda: bool(running.served()))
    await running.finished()
    (kept,) = keeper.kept
    assert kept.answer.content.startswith(first)
    assert kept.answer.size == len(kept.answer.content)
    assert b"[DONE]" not in kept.answer.content
    assert running.account(TOKENS).spent == 340


async def test_bodies_are_cut_at_their_bound_and_that_is_told(stage: SetUp, keeper: Remembering) -> None:
    running = await stage(asking(), keeper, captured_body_bytes=2000)
    body = question(messages=[{"role": "user", "content": f"{'x' * 1900} {MAIL} {'y' * 9000}"}])
    _, _, got = await ask(running, body, {"Provider-Usage": "input=9000,output=2000"})
    await running.finished()
    (kept,) = keeper.kept
    assert (len(kept.request.content), kept.request.size, kept.request.truncated) == (2000, len(body), True)
    assert (kept.answer.content, kept.answer.size, kept.answer.truncated) == (got[:2000], len(got), True)
    assert b"alice" not in kept.request.content


async def test_a_secret_across_the_cut_leaves_no_half_of_it(stage: SetUp, keeper: Remembering) -> None:
    body = question(messages=[{"role": "user", "content": f"mail {MAIL} now"}])
    running = await stage(asking(), keeper, captured_body_bytes=body.index(b"example"))
    await ask(running, body)
    await running.finished()
    (kept,) = keeper.kept
    assert b"alice" not in kept.request.content
    assert kept.request.truncated


@pytest.mark.parametrize("fault", [Unavailable("the disk is full"), ValueError("nobody foresaw this")])
async def test_a_store_that_fails_changes_nothing_and_is_told_once(
    stage: SetUp, keeper: Remembering, fault: Exception
) -> None:
    """R27."""
    running = await stage(asking(), keeper)
    keeper.fault = fault
    with capture_logs() as logs:
        for number in range(3):
            assert (await ask(running, question()))[0] == 200
            await until(lambda number=number: keeper.calls > number)  # type: ignore[misc]
        await until_counted(running, 'tollkeeper_captures_dropped_total{reason="not_stored"}', 3)
        keeper.fault = None
        await ask(running, question())
        await until(lambda: len(keeper.kept) == 1)
        await running.finished()
    said = [line["event"] for line in logs if "bodies" in line["event"]]
    assert said == ["bodies cannot be kept, and are dropped", "bodies are kept again"]
    assert running.account(TOKENS).spent == 4 * 340


async def until_counted(running: Stage, name: str, count: float) -> None:
    async with asyncio.timeout(30):
        while await counted(running, name) != count:  # noqa: ASYNC110 - the condition is another thread's
            await asyncio.sleep(0.01)


async def test_a_store_that_does_not_answer_holds_up_nobody_and_what_finds_no_room_is_dropped(
    stage: SetUp, keeper: Remembering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R27."""
    monkeypatch.setattr(capturing, "MOST_WAITING", 8)
    monkeypatch.setattr(capturing, "AT_ONCE", 1)
    running = await stage(asking(), keeper)
    keeper.may_go_on.clear()
    with capture_logs() as logs:
        await ask(running, question())
        await until(lambda: keeper.calls == 1)
        assert [(await ask(running, question(stream=True)))[0] for _ in range(5)] == [200] * 5
        assert await counted(running, "tollkeeper_gateway_waiting_captures") == 2
        assert await counted(running, 'tollkeeper_captures_dropped_total{reason="no_room"}') == 3
        keeper.may_go_on.set()
        await running.finished()
    assert len(keeper.kept) == 3
    assert [line["event"] for line in logs].count("bodies are dropped: too many wait to be kept") == 1
    assert running.account(TOKENS).spent == 6 * 340


async def test_bodies_take_no_more_memory_than_they_may(stage: SetUp, keeper: Remembering) -> None:
    running = await stage(asking(), keeper, captures_bytes=3000)
    large = question(messages=[{"role": "user", "content": "x" * 4000}])
    assert (await ask(running, large))[0] == 200
    assert (await ask(running, question(stream=True), {"Provider-Usage": "input=300,output=4000"}))[0] == 200
    assert await counted(running, 'tollkeeper_captures_dropped_total{reason="no_room"}') == 2
    assert (await ask(running, question()))[0] == 200
    await running.finished()
    assert len(keeper.kept) == 1


async def test_what_waits_at_a_stop_is_kept(stage: SetUp, keeper: Remembering) -> None:
    running = await stage(asking(), keeper)
    keeper.may_go_on.clear()
    for _ in range(5):
        await ask(running, question())
    stopping = asyncio.create_task(running.finished())
    keeper.may_go_on.set()
    await stopping
    assert len(keeper.kept) == 5


async def test_a_store_that_does_not_answer_keeps_no_gateway_from_its_end(
    stage: SetUp, keeper: Remembering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capturing, "FINISH_SECONDS", 0.05)
    monkeypatch.setattr(capturing, "GIVE_UP_SECONDS", 0.05)
    monkeypatch.setattr(capturing, "AT_ONCE", 1)
    running = await stage(asking(), keeper)
    keeper.may_go_on.clear()
    for _ in range(3):
        await ask(running, question())
    await until(lambda: keeper.calls == 1)
    with capture_logs() as logs:
        await running.finished()
    (told,) = [line for line in logs if line["event"] == "bodies that waited to be kept are dropped at the stop"]
    assert told["captures"] == 2
    assert running.account(TOKENS).spent == 3 * 340


async def test_redaction_that_is_under_way_at_a_stop_is_given_up(
    stage: SetUp, keeper: Remembering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of a process that meets a search in RE2 aborts it."""
    monkeypatch.setattr(capturing, "FINISH_SECONDS", 0.05)
    monkeypatch.setattr(capturing, "REDACTION_SECONDS", 3600.0)
    running = await stage(asking(HOSTILE), keeper)
    assert (await ask(running, question(messages=[{"role": "user", "content": "a" * 500_000}])))[0] == 200
    await asyncio.wait_for(running.finished(), 30)
    assert not [one for one in threading.enumerate() if one.name == "captures"]
    assert keeper.kept == []


async def test_a_body_that_cannot_be_redacted_is_kept_by_nobody(
    stage: SetUp, keeper: Remembering, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await stage(asking(), keeper)

    def fails(content: bytes, *_: object, **__: object) -> bytes:
        raise ValueError(content)

    monkeypatch.setattr("tollkeeper_sidecar.recording.redacted_body", fails)
    with capture_logs() as logs:
        assert (await ask(running, question()))[0] == 200
        await running.finished()
    assert keeper.kept == []
    (told,) = [line for line in logs if line["event"] == "bodies cannot be kept, and are dropped"]
    assert "a body cannot be redacted: ValueError" in told["error"]
    assert "why?" not in repr(logs)


async def test_a_capture_that_no_store_can_take_costs_no_other_its_own(
    stage: SetUp, keeper: Remembering, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await stage(asking(), keeper)
    keeper.may_go_on.clear()
    await ask(running, question())
    await until(lambda: keeper.calls == 1)
    _, bad, _ = await ask(running, question())
    await ask(running, question())
    keeper.refuses = bad
    keeper.may_go_on.set()
    await running.finished()
    assert len(keeper.kept) == 2
    assert bad not in {one.request_id for one in keeper.kept}


async def test_a_type_of_any_bytes_is_kept_as_what_can_be_read_of_it(stage: SetUp, tmp_path: Path) -> None:
    store = SqliteCaptures(tmp_path / "bodies.db")
    running = await stage(asking(), Vault(store, keys()))
    _, request_id, _ = await ask(running, question(), {"Content-Type": "text/\udcff\u00e9"})
    await running.finished()
    kept = Vault(store, keys()).read(request_id, now())
    store.close()
    assert kept is not None
    assert kept.request.content_type.startswith("text/?")


async def test_rules_that_take_too_long_cost_their_tenant_its_bodies_and_nobody_else_any(
    stage: SetUp, keeper: Remembering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R27."""
    monkeypatch.setattr(capturing, "REDACTION_SECONDS", 0.2)
    running = await stage(asking(HOSTILE), keeper)
    body = question(messages=[{"role": "user", "content": "a" * 500_000}])
    with capture_logs() as logs:
        for _ in range(3):
            assert (await ask(running, body))[0] == 200
        await until_counted(running, 'tollkeeper_captures_dropped_total{reason="too_slow"}', 3)
        running.policy.publish(replace(asking(), version=2))
        await ask(running, question())
        await running.finished()
    (told,) = [line for line in logs if "takes too long" in line["event"]]
    assert (told["tenant"], "'a.*b|a'" in told["error"]) == ("research", True)
    assert len(keeper.kept) == 1


async def test_a_slow_body_of_one_tenant_costs_no_other_of_the_same_rules_its_own(
    stage: SetUp, keeper: Remembering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R27: most tenants have the rules that hold where nothing is said, and so the same."""
    running = await stage(two_tenants(), keeper)
    monkeypatch.setattr("tollkeeper_sidecar.recording.redacted_body", slow_where_it_says(b"slowly"))
    with capture_logs() as logs:
        await ask(running, question(user="slowly"))
        await ask(running, question())
        _, theirs, _ = await ask(running, question(), OTHER)
        await running.finished()
    (told,) = [line for line in logs if "takes too long" in line["event"]]
    assert told["tenant"] == "research"
    assert "a rule that is built in" in told["error"]
    assert [one.request_id for one in keeper.kept] == [theirs]


@pytest.mark.parametrize("gone", [False, True])
async def test_what_waits_of_a_tenant_that_keeps_nothing_any_more_is_not_kept(
    stage: SetUp, keeper: Remembering, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    """R27: `bodies: Never`, then `captures delete`, leaves nothing."""
    monkeypatch.setattr(capturing, "AT_ONCE", 1)
    running = await stage(two_tenants(), keeper)
    keeper.may_go_on.clear()
    await ask(running, question(), OTHER)
    await until(lambda: keeper.calls == 1)
    await ask(running, question())
    async with answered(running, question(stream=True), {"Provider-Behaviour": "slow=1"}) as answer:
        await answer.content.readany()
        running.policy.publish(keeping_no_more_of_research(gone=gone))
        await answer.read()
    keeper.may_go_on.set()
    await until_counted(running, 'tollkeeper_captures_dropped_total{reason="not_asked_for"}', 2)
    await running.finished()
    assert [one.tenant for one in keeper.kept] == ["acme"]


def keeping_no_more_of_research(*, gone: bool) -> PolicySet:
    both = two_tenants()
    never = {} if gone else {"research": replace(both.tenants["research"], capture=None)}
    return replace(both, version=2, tenants={"acme": both.tenants["acme"], **never})


@pytest.mark.parametrize(("days", "kept_days"), [(1, 1), (90, 30)])
async def test_what_waits_is_kept_no_longer_than_its_tenant_wants_now(
    stage: SetUp, keeper: Remembering, monkeypatch: pytest.MonkeyPatch, days: int, kept_days: int
) -> None:
    """R27."""
    monkeypatch.setattr(capturing, "AT_ONCE", 1)
    running = await stage(two_tenants(), keeper)
    keeper.may_go_on.clear()
    await ask(running, question(), OTHER)
    await until(lambda: keeper.calls == 1)
    await ask(running, question())
    now_in_force = policy(TOKENS, capture=replace(KEPT, retention=timedelta(days=days)))
    running.policy.publish(replace(now_in_force, version=2))
    keeper.may_go_on.set()
    await running.finished()
    (mine,) = [one for one in keeper.kept if one.tenant == "research"]
    assert mine.expires_at - mine.captured_at == timedelta(days=kept_days)


async def test_a_tenant_whose_bodies_take_long_leaves_room_for_those_of_others(
    stage: SetUp, keeper: Remembering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R27."""
    monkeypatch.setattr(capturing, "MOST_WAITING", 8)
    monkeypatch.setattr(capturing, "AT_ONCE", 1)
    running = await stage(two_tenants(), keeper)
    keeper.may_go_on.clear()
    await ask(running, question())
    await until(lambda: keeper.calls == 1)
    for _ in range(10):
        await ask(running, question())
    theirs = [(await ask(running, question(), OTHER))[1] for _ in range(2)]
    assert await counted(running, 'tollkeeper_captures_dropped_total{reason="no_room"}') == 8
    keeper.may_go_on.set()
    await running.finished()
    assert {one.request_id for one in keeper.kept if one.tenant == "acme"} == set(theirs)


async def test_a_tenants_bodies_leave_memory_for_those_of_others(stage: SetUp, keeper: Remembering) -> None:
    running = await stage(two_tenants(), keeper, captured_body_bytes=1024, captures_bytes=160_000)
    keeper.may_go_on.clear()
    large = question(messages=[{"role": "user", "content": "x" * 16_000}])
    for _ in range(12):
        await ask(running, large)
    await ask(running, large, OTHER)
    keeper.may_go_on.set()
    await running.finished()
    assert [one.tenant for one in keeper.kept].count("acme") == 1


def two_tenants() -> PolicySet:
    """Tenants `research` and `acme`, with the same rules and a key each."""
    keys_of_both = (key(), key(OTHER_SECRET, tenant="acme"))
    both = policy(TOKENS, keys=keys_of_both, capture=KEPT)
    return replace(both, tenants={**both.tenants, "acme": replace(both.tenants["acme"], capture=KEPT)})


def slow_where_it_says(word: bytes) -> Callable[..., bytes]:
    def redacted(content: bytes, *_: object, **__: object) -> bytes:
        if word in content:
            raise TookTooLong(
                "the pattern '[a-z]+@' takes too long: write it so that less of a text fits its beginning"
            )
        return content

    return redacted


async def test_without_a_key_nothing_is_kept_and_that_is_told_once(stage: SetUp) -> None:
    """R27."""
    running = await stage(asking())
    with capture_logs() as logs:
        assert [(await ask(running, question()))[0] for _ in range(2)] == [200, 200]
    (told,) = [line for line in logs if "no key to encrypt" in line["event"]]
    assert told["tenant"] == "research"
    assert await counted(running, 'tollkeeper_captures_dropped_total{reason="no_key"}') == 2
    await running.finished()
    assert running.account(TOKENS).spent == 2 * 340


@pytest.mark.parametrize("stream", [False, True])
async def test_no_word_of_a_body_stands_in_ledger_spool_export_or_log(
    stage: SetUp, tmp_path: Path, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """R27: what is kept lies in a file of its own, sealed; what was redacted lies nowhere."""
    store = SqliteCaptures(tmp_path / "bodies.db")
    running = await stage(asking(), Vault(store, keys()), report_seconds=3600.0)
    with capture_logs() as logs:
        _, request_id, got = await ask(
            running, question(stream=stream, messages=[{"role": "user", "content": f"swordfish {MAIL}"}])
        )
        await until(lambda: len(store.listed(None, now(), 10)) == 1)
        words = (b"swordfish", MAIL.encode(), b"can see how")
        assert words[2] in got or stream
        written = files_in(tmp_path)
        assert any("gateway" in path.parts for path in written)
        assert not any(word in content for content in written.values() for word in words)
        await running.finished()
    exported = b"".join(export(running.authority.reader.chain()))
    assert request_id.encode() in exported
    assert not any(word in exported for word in words)
    assert not any(word.decode() in repr(logs) + caplog.text for word in words)
    kept = Vault(store, keys()).read(request_id, now())
    assert kept is not None
    assert b"swordfish [redacted:EmailAddresses]" in kept.request.content
    store.close()


def files_in(folder: Path) -> dict[Path, bytes]:
    """All that we wrote there; the provider's own book is not ours."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "provider.jsonl")
    return {path: path.read_bytes() for path in files}


async def test_a_ledger_knows_nothing_of_bodies(stage: SetUp, tmp_path: Path, keeper: Remembering) -> None:
    running = await stage(asking(), keeper)
    await ask(running, question())
    await running.finished()
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema")]
    connection.close()
    assert not any("capture" in name for name in tables)
