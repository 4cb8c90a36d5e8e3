"""Bodies that a tenant wants kept: what is kept of them, and where they are not (R27)."""

import json
import sqlite3
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.ledger.captures.builders import keys
from tests.sidecar.bodies import KEPT, MAIL, SPLIT, TOKENS, answered, ask, asking, counted, question
from tests.sidecar.builders import limit, policy
from tests.sidecar.conftest import SetUp, now
from tests.sidecar.remembering import Remembering
from tests.sidecar.test_failures import until
from tollkeeper.amounts import Unit
from tollkeeper_ledger.captures.sqlite import SqliteCaptures
from tollkeeper_ledger.captures.vault import Vault
from tollkeeper_ledger.export import export


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


async def test_a_type_of_any_bytes_is_kept_as_what_can_be_read_of_it(stage: SetUp, tmp_path: Path) -> None:
    store = SqliteCaptures(tmp_path / "bodies.db")
    running = await stage(asking(), Vault(store, keys()))
    _, request_id, _ = await ask(running, question(), {"Content-Type": "text/\udcff\u00e9"})
    await running.finished()
    kept = Vault(store, keys()).read(request_id, now())
    store.close()
    assert kept is not None
    assert kept.request.content_type.startswith("text/?")


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
