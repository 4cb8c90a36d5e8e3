"""Bodies in the running process: swept by the clock, opened when there is a key, and no obstacle to serving (R27)."""

import asyncio
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.ledger.captures.builders import CAPTURED, DAY, NOON, body, capture, keys
from tests.sidecar.builders import policy
from tests.sidecar.test_failures import until
from tollkeeper.captures import KeptBodies
from tollkeeper.policy import CurrentPolicy
from tollkeeper.redactionrules import Redaction
from tollkeeper_cli import keeping as module
from tollkeeper_cli.keeping import keeping
from tollkeeper_ledger.captures.errors import CapturesFull, CapturesUnavailable
from tollkeeper_ledger.captures.sqlite import SqliteCaptures
from tollkeeper_ledger.captures.vault import Vault

GIB = 2**30
NOBODY = CurrentPolicy(policy())


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that stands until it is set; sweeps follow each other quickly."""
    monkeypatch.setattr(module, "SWEEP_SECONDS", 0.01)
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteCaptures]:
    store = SqliteCaptures(tmp_path / "bodies.db")
    yield store
    store.close()


def kept(store: SqliteCaptures) -> list[str]:
    return [one.request_id for one in store.listed(None, datetime(2000, 1, 1, tzinfo=UTC), 100)]


async def test_what_is_over_by_the_clock_goes_while_the_process_runs(
    tmp_path: Path, clock: Clock, store: SqliteCaptures
) -> None:
    """R27."""
    async with keeping(tmp_path / "ledger.db", keys(), NOBODY, clock, largest=GIB) as keeper:
        assert keeper is not None
        await asyncio.to_thread(keeper.keep, [capture("r1"), capture("r2", expires_at=NOON + 2 * DAY)])
        assert kept(store) == ["r2", "r1"]
        with capture_logs() as logs:
            clock.now = CAPTURED + DAY
            await until(lambda: kept(store) == ["r2"])
            await until(lambda: len(logs) > 0)
    assert logs[0]["event"] == "bodies whose time is over are deleted"
    assert logs[0]["captures"] == 1


async def test_a_shorter_retention_holds_as_soon_as_it_is_in_force(
    tmp_path: Path, clock: Clock, store: SqliteCaptures
) -> None:
    """R27."""
    current = CurrentPolicy(policy())
    async with keeping(tmp_path / "ledger.db", keys(), current, clock, largest=GIB) as keeper:
        assert keeper is not None
        await asyncio.to_thread(keeper.keep, [capture("mine"), capture("ours", tenant="acme")])
        current.publish(policy(capture=KeptBodies(timedelta(minutes=30), Redaction())))
        await until(lambda: kept(store) == ["ours"])


async def test_without_a_key_nothing_is_kept_and_what_was_is_swept(
    tmp_path: Path, clock: Clock, store: SqliteCaptures
) -> None:
    """R27."""
    Vault(store, keys()).keep([capture()])
    clock.now = CAPTURED + DAY
    async with keeping(tmp_path / "ledger.db", None, NOBODY, clock, largest=GIB) as keeper:
        assert keeper is None
        await until(lambda: kept(store) == [])


async def test_without_a_key_and_bodies_no_file_is_made(tmp_path: Path, clock: Clock) -> None:
    async with keeping(tmp_path / "ledger.db", None, NOBODY, clock, largest=GIB):
        await asyncio.sleep(0)
    assert not list(tmp_path.iterdir())  # noqa: ASYNC240 - a folder of this test alone


async def test_a_file_that_cannot_be_opened_is_told_once_and_tried_again(tmp_path: Path, clock: Clock) -> None:
    file = tmp_path / "bodies.db"
    file.write_bytes(b"no database" * 1000)
    with capture_logs() as logs:
        async with keeping(tmp_path / "ledger.db", keys(), NOBODY, clock, largest=GIB) as keeper:
            assert keeper is not None
            with pytest.raises(CapturesUnavailable, match="move it away"):
                await asyncio.to_thread(keeper.keep, [capture()])
            await until(lambda: len(logs) > 0)
            file.unlink()
            await until(lambda: logs[-1]["event"] == "bodies whose time is over are deleted again")
            await asyncio.to_thread(keeper.keep, [capture()])
    assert [line["event"] for line in logs] == [
        "bodies whose time is over cannot be deleted",
        "bodies whose time is over are deleted again",
    ]


async def test_beyond_its_bound_nothing_is_kept_until_there_is_room_again(
    tmp_path: Path, clock: Clock, store: SqliteCaptures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R27."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    large = body(os.urandom(2**18))
    async with keeping(tmp_path / "ledger.db", keys(), NOBODY, clock, largest=2**20) as keeper:
        assert keeper is not None
        for number in range(4):
            await asyncio.to_thread(keeper.keep, [capture(f"r{number}", answer=large)])
        with pytest.raises(
            CapturesFull, match=r"take the 1048576 bytes that they may: raise capture.largest_store_bytes"
        ):
            await asyncio.to_thread(keeper.keep, [capture("too many")])
        store.delete("r0")
        await asyncio.to_thread(keeper.keep, [capture("again")])
    assert set(kept(store)) == {"r1", "r2", "r3", "again"}


async def test_the_bound_is_looked_at_now_and_then(tmp_path: Path, clock: Clock, store: SqliteCaptures) -> None:
    looks = 0

    def looked(_: SqliteCaptures, most: int) -> bool:
        nonlocal looks
        looks += 1
        return False

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SqliteCaptures, "takes", looked)
        async with keeping(tmp_path / "ledger.db", keys(), NOBODY, clock, largest=2**20) as keeper:
            assert keeper is not None
            for number in range(5):
                await asyncio.to_thread(keeper.keep, [capture(f"r{number}")])
    assert (looks, len(kept(store))) == (1, 5)


async def test_a_file_that_is_moved_away_is_written_no_more_and_another_is_made(tmp_path: Path, clock: Clock) -> None:
    """R27: as the message about a damaged file advises."""
    file, moved = tmp_path / "bodies.db", tmp_path / "moved.db"
    async with keeping(tmp_path / "ledger.db", keys(), NOBODY, clock, largest=GIB) as keeper:
        assert keeper is not None
        await asyncio.to_thread(keeper.keep, [capture("before")])
        file.rename(moved)
        await asyncio.to_thread(keeper.keep, [capture("after")])
    store = SqliteCaptures(file)
    assert kept(store) == ["after"]
    store.close()
