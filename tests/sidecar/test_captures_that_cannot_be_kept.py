"""Bodies that find no room, cannot be redacted or stored, or wait at a stop: no request hears of it (R27)."""

import asyncio
import threading

import pytest
from structlog.testing import capture_logs

from tests.sidecar.bodies import HOSTILE, TOKENS, ask, asking, counted, question, until_counted
from tests.sidecar.conftest import SetUp
from tests.sidecar.remembering import Remembering
from tests.sidecar.test_failures import until
from tollkeeper.errors import Unavailable
from tollkeeper_sidecar import capturing


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
