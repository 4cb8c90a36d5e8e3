"""kill -9 at every point of the write path, enumerated: no point is left out, and none is drawn by lot."""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.faults import gateways
from tests.faults.crashing import Crash, Crashing
from tests.faults.holding import everything_holds
from tests.faults.points import lines_in
from tests.faults.story import CALLS, Caller
from tests.postgres_server import PostgresServer
from tollkeeper_ledger.storage import LedgerAt, PostgresLedger, open_store
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
    caller = Caller(open_store(ledger))
    told = [everything_holds(ledger).facts()]
    for call in CALLS:
        caller.make(call)
        told.append(everything_holds(ledger).facts())
    caller.close()
    return told


def goes_on(ledger: LedgerAt, crash: Crash, told: list[list[object]]) -> None:
    """After a crash a call is there whole or not at all, what was answered is there, and the callers' retries end well."""
    answered = len(crash.answers)
    caller = Caller(open_store(ledger))
    found = everything_holds(ledger).facts()
    assert found in told[answered : answered + 2], f"at {crash.point!r} after {crash.answers[-1:]}"
    for call in CALLS[answered:]:
        caller.make(call)
    assert everything_holds(ledger).facts() == told[-1], f"at {crash.point!r} after {crash.answers[-1:]}"
    caller.close()


def test_of_a_commit_to_sqlite_whole_calls_stand_and_retries_end_as_if_nothing_had_been(
    crashing: Crashing, copies: New, tmp_path: Path, empty: Path
) -> None:
    told = told_in_order(Path(shutil.copy(empty, tmp_path / "undisturbed.db")))
    points = []
    for _, ledger, crash in crashing.all_points("story", copies):
        points.append(crash.point)
        goes_on(ledger, crash, told)
    assert points.count("COMMIT") == points.count("committed") == len(CALLS)
    assert {point.split()[0] for point in points} >= {"BEGIN", "INSERT", "DELETE", "SELECT", "COMMIT", "committed"}


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


def emptied(ledger: PostgresLedger) -> None:
    """Take everything out of a ledger on PostgreSQL: quicker than a new database for each point."""
    with psycopg.connect(ledger.dsn, autocommit=True) as connection:
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition "
            "AND relnamespace = 'public'::regnamespace AND relname NOT IN ('ledger_schema', 'identity', 'chain_head')"
        ).fetchall()
        assert len(tables) > 10
        changes = [f'DELETE FROM "{table}"' for (table,) in tables]  # noqa: S608 - our own tables
        changes.append("UPDATE chain_head SET seq = 0, hash = decode(repeat('00', 32), 'hex')")
        connection.execute("; ".join(changes).encode())


def test_of_one_commit_to_postgresql_nothing_or_the_whole_call_stands(
    crashing: Crashing, postgres: PostgresServer, tmp_path: Path
) -> None:
    ledger = PostgresLedger(postgres.new_database())
    told = told_in_order(ledger)
    before = CALLS[: [call.name for call in CALLS].index("group")]

    def new(point: int) -> tuple[Path, LedgerAt]:
        emptied(ledger)
        caller = Caller(open_store(ledger))
        for call in before:
            caller.make(call)
        caller.close()
        folder = tmp_path / str(point)
        folder.mkdir()
        (folder / "answers").write_text("".join(f"{call.name}\n" for call in before))
        return folder, ledger

    points = []
    for _, _, crash in crashing.all_points("group", new):
        points.append(crash.point)
        goes_on(ledger, crash, told)
    assert points.count("committed") == 1
    began = len(points) - points[::-1].index("BEGIN")
    assert len(points[began:]) > 15


@pytest.mark.slow
def test_of_a_commit_to_postgresql_whole_calls_stand_and_retries_end_as_if_nothing_had_been(
    crashing: Crashing, postgres: PostgresServer, tmp_path: Path
) -> None:
    ledger = PostgresLedger(postgres.new_database())
    told = told_in_order(ledger)

    def new(point: int) -> tuple[Path, LedgerAt]:
        emptied(ledger)
        folder = tmp_path / str(point)
        folder.mkdir()
        return folder, ledger

    points = []
    for _, _, crash in crashing.all_points("story", new):
        points.append(crash.point)
        goes_on(ledger, crash, told)
    assert points.count("committed") == len(CALLS) < points.count("COMMIT") == points.count("COMMIT, unheard")
    assert any(point.startswith("UPDATE chain_head") for point in points)
