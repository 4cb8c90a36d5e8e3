"""kill -9 at every point of the write path, enumerated: no point is left out, and none is drawn by lot."""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from tests.faults import gateways
from tests.faults.crashing import Crashing
from tests.faults.holding import Asking, all_holds, everything_holds
from tests.faults.points import lines_in
from tests.faults.story import CALLS, Caller
from tests.ledger.conftest import NewLedger
from tollkeeper_ledger.storage import LedgerAt, open_store
from tollkeeper_sidecar.recovery import recover

New = Callable[[int], tuple[Path, LedgerAt]]


@pytest.fixture(scope="module")
def crashing() -> Iterator[Crashing]:
    with Crashing() as running:
        yield running


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A SQLite ledger in which nothing stands."""
    path = tmp_path / "empty.db"
    open_store(path).close()
    return path


@pytest.fixture
def copies(tmp_path: Path, empty: Path) -> New:
    """A folder and a ledger for each point; those of the point before go."""

    def new(point: int) -> tuple[Path, LedgerAt]:
        shutil.rmtree(tmp_path / str(point - 1), ignore_errors=True)
        folder = tmp_path / str(point)
        folder.mkdir()
        return folder, Path(shutil.copy(empty, folder / "ledger.db"))

    return new


def told_in_order(ledger: LedgerAt) -> list[list[object]]:
    """What the ledger says before the story and after each of its calls, when nothing goes wrong."""
    with closing(Caller(open_store(ledger))) as caller, closing(Asking(ledger)) as asking:
        told = [all_holds(asking).facts()]
        for call in CALLS:
            caller.make(call)
            told.append(all_holds(asking).facts())
    return told


@dataclass
class Walk:
    """The story on one storage, over and over until a process was killed at every point of each of its calls.

    Each process is started for one call. Killed before the call is booked, it leaves what stood before, where the retry
    is killed at the next point; killed after that, it leaves what stands after the call, and the retry changes nothing.
    """

    crashing: Crashing
    told: list[list[object]]
    folder: Path
    points: dict[tuple[int, int], str] = field(default_factory=dict)
    """The points by their call and place."""

    def life(self, ledger: LedgerAt) -> bool:
        """The story once, with a crash at each point that none before had and that this one comes to; if there was any."""
        before = len(self.points)
        open_store(ledger).close()
        with closing(Asking(ledger)) as asking:
            for number in range(len(CALLS)):
                self._killed_until_it_is_booked(ledger, asking, number)
        return len(self.points) > before

    def _killed_until_it_is_booked(self, ledger: LedgerAt, asking: Asking, number: int) -> None:
        call, (before, after) = CALLS[number].name, self.told[number : number + 2]
        for place in count(1):
            if (number, place) in self.points:
                continue
            crash = self.crashing.run(str(number), self.folder, ledger, place)
            found = all_holds(asking).facts()
            if crash is None:
                assert found == after, f"after {call!r}"
                return
            self.points[number, place] = crash.point
            if found != before:
                assert found == after, f"at {crash.point!r} of {call!r}"
                assert self.crashing.run(str(number), self.folder, ledger, 0) is None
                assert all_holds(asking).facts() == after, f"at the retry of {call!r} after {crash.point!r}"
                return


def test_of_a_commit_whole_calls_stand_and_retries_end_as_if_nothing_had_been(
    crashing: Crashing, new_ledger: NewLedger, tmp_path: Path
) -> None:
    walk = Walk(crashing, told_in_order(new_ledger()), tmp_path)
    while walk.life(new_ledger()):
        pass
    points = list(walk.points.values())
    for number in range(len(CALLS)):
        of_call = [point for (call, _), point in sorted(walk.points.items()) if call == number]
        assert of_call.count("committed") == 1
        assert of_call.index("COMMIT") < of_call.index("committed")
    assert {point.split()[0] for point in points} >= {"BEGIN", "INSERT", "DELETE", "SELECT", "COMMIT", "committed"}
    assert points.count("COMMIT, unheard") in (0, points.count("COMMIT"))


def test_of_a_ledger_that_is_being_made_on_sqlite_the_next_start_makes_the_rest(
    crashing: Crashing, tmp_path: Path
) -> None:
    def new(point: int) -> tuple[Path, LedgerAt]:
        folder = tmp_path / str(point)
        folder.mkdir()
        return folder, folder / "ledger.db"

    points = []
    for _, ledger, crash in crashing.all_points("make", new):
        points.append(crash.point)
        caller = Caller(open_store(ledger))
        caller.make(CALLS[0])
        caller.close()
        assert everything_holds(ledger).kinds == {"allocate": 1}
    assert sum(point.startswith("CREATE TABLE") for point in points) > 10


def test_of_a_gateway_what_was_served_is_charged_or_held_and_what_was_answered_is_charged_exactly(
    crashing: Crashing, copies: New
) -> None:
    points = set()
    for folder, ledger, crash in crashing.all_points("live", copies):
        points.add(crash.point)
        everything_holds(ledger, served=_served(folder))
        asyncio.run(_recover(folder, ledger))
        books = everything_holds(ledger, served=_served(folder))
        assert set(crash.answers) <= books.requests
        for account in books.accounts.values():
            assert account.held == 0, crash
            assert account.spent <= gateways.served(folder) <= account.spent + account.unreconciled
            assert account.unreconciled in (0, gateways.HELD)
        assert not list((folder / "spool").glob("*"))
    assert points >= {
        "the provider has served", "settled, not synced", "os.fdatasync", "synced, not answered", "not reported",
        "reported, not acknowledged", "os.unlink", "os.rmdir", "closed, its spool is there", "COMMIT", "os.write",
    }  # fmt: skip


def test_of_a_recovery_the_next_one_does_the_rest(crashing: Crashing, copies: New, tmp_path: Path) -> None:
    folder, ledger = left_by_a_gateway(crashing, copies)

    def new(point: int) -> tuple[Path, LedgerAt]:
        copied = tmp_path / f"recovery-{point}"
        shutil.copytree(folder, copied)
        return copied, copied / ledger.name

    outcomes = []
    for copied, copy, _ in crashing.all_points("recover", new):
        everything_holds(copy, served=_served(copied))
        asyncio.run(_recover(copied, copy))
        outcomes.append(everything_holds(copy, served=_served(copied)).facts())
        assert not list((copied / "spool").glob("*"))
    assert len(outcomes) > 20
    assert all(outcome == outcomes[0] for outcome in outcomes)


def left_by_a_gateway(crashing: Crashing, copies: New) -> tuple[Path, Path]:
    """A gateway's folder and ledger, ended while usage was synced and not reported, and a request under way."""
    folder, ledger = copies(0)
    assert crashing.run("live", folder, ledger, 0) is None
    passed = lines_in(folder, "passed")
    fourth = [number for number, point in enumerate(passed, 1) if point == "the provider has served"][3]
    folder, ledger = copies(1)
    assert crashing.run("live", folder, ledger, fourth)
    assert isinstance(ledger, Path)
    return folder, ledger


def _served(folder: Path) -> dict[str, int]:
    served = gateways.served(folder)
    return {gateways.ACCOUNT: served} if served else {}


async def _recover(folder: Path, ledger: LedgerAt) -> None:
    async with gateways.authority_of(ledger) as authority:
        await recover(folder / "spool", authority, gateways.BOOT)
