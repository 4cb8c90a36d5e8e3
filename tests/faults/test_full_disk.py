"""A disk that is full in the middle of a commit, at whichever byte, and the space coming back."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.faults.holding import everything_holds
from tests.ledger.builders import Desk, account_of, budget, record
from tests.postgres_server import PostgresServer
from tests.sidecar.test_spool import largest_file
from tollkeeper.leases import Want
from tollkeeper.usage import Charge
from tollkeeper_ledger.errors import LedgerUnavailable
from tollkeeper_ledger.sqlite import SqliteStore
from tollkeeper_ledger.storage import LedgerAt, PostgresLedger

LIMIT = budget(allocation=10**6, minimum=0)
ACCOUNT = account_of(LIMIT)
USAGES = [record("g1", Charge(ACCOUNT, 3, 5), request=f"r{number}") for number in range(20)]
PAGE = 4096
LOG_HEADER, FRAME_HEADER = 32, 24


@contextmanager
def desk_at(path: LedgerAt) -> Iterator[Desk]:
    """A ledger with a lease that covers the usages; it is closed however the test ends."""
    desk = Desk(path, LIMIT)
    try:
        desk.lease("g1", Want(ACCOUNT, 1000, 1000))
        yield desk
    finally:
        desk.store.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_at(tmp_path / "ledger.db") as desk:
        yield desk


def refusal_of_usage(desk: Desk) -> str | None:
    """What the ledger says to the usages; nothing when it books them."""
    try:
        desk.charge(*USAGES)
    except LedgerUnavailable as error:
        return str(error)
    return None


def test_a_log_that_takes_no_more_from_any_byte_on_books_nothing_and_then_all(desk: Desk) -> None:
    wal = desk.sqlite.path.with_name("ledger.db-wal")
    before = everything_holds(desk.sqlite.path).facts()
    stands = wal.stat().st_size
    refused = 0
    for room in range(0, 100 * PAGE, PAGE // 2 + 1):
        with largest_file(stands + room):
            refusal = refusal_of_usage(desk)
        if refusal is None:
            break
        refused += 1
        assert "\n" not in refusal
        assert everything_holds(desk.sqlite.path).facts() == before
    assert refused > 10
    books = everything_holds(desk.sqlite.path, served={ACCOUNT: 3 * len(USAGES)})
    assert books.accounts[ACCOUNT].spent == 3 * len(USAGES)
    desk.charge(*USAGES)
    assert everything_holds(desk.sqlite.path).facts() == books.facts()


def test_after_a_full_disk_the_next_start_finds_the_same(desk: Desk) -> None:
    wal = desk.sqlite.path.with_name("ledger.db-wal")
    before = everything_holds(desk.sqlite.path).facts()
    with largest_file(wal.stat().st_size + 3 * PAGE), pytest.raises(LedgerUnavailable):
        desk.charge(*USAGES)
    desk.reopen()
    assert everything_holds(desk.sqlite.path).facts() == before
    desk.charge(*USAGES)
    assert everything_holds(desk.sqlite.path).accounts[ACCOUNT].spent == 3 * len(USAGES)


def test_a_ledger_that_finds_no_room_to_be_made_is_let_go_of_and_made_once_there_is_some(tmp_path: Path) -> None:
    refusals = []
    for room in range(0, 200 * PAGE, 2 * PAGE + 1):
        path = tmp_path / f"with-{room}-bytes.db"
        try:
            with largest_file(room):
                SqliteStore(path).close()
            break
        except LedgerUnavailable as error:
            # As long as it is kept its frames are alive, and whatever they hold open with them.
            refusals.append(error)
        with desk_at(path):
            assert everything_holds(path).accounts[ACCOUNT].held == 1000
    assert len(refusals) > 10


@contextmanager
def mounted(disk: Path, size: str) -> Iterator[Path]:
    """A file system of so much room for the time of the block."""
    if os.geteuid() != 0:
        pytest.skip("a small file system can be mounted by root alone")
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", "2m") as disk:
        yield disk


def filled(disk: Path, free: int) -> Path:
    """A file that leaves so many bytes of room."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(PAGE))
        except OSError:
            file.truncate(max(0, file.tell() // PAGE * PAGE - free))
    return filler


def frames_of(size: int) -> int:
    """How many pages the first so many bytes of a log hold."""
    return (size - LOG_HEADER) // (FRAME_HEADER + PAGE)


@pytest.fixture
def desk_on_a_small_disk(small_disk: Path) -> Iterator[Desk]:
    with desk_at(small_disk / "ledger.db") as desk:
        yield desk


def test_a_real_disk_with_room_for_any_part_of_a_commit_says_that_it_is_full(desk_on_a_small_disk: Desk) -> None:
    path = desk_on_a_small_disk.sqlite.path
    wal = path.with_name("ledger.db-wal")
    before, stands = everything_holds(path).facts(), wal.stat().st_size
    refused = 0
    for pages in range(100):
        # A commit that was refused leaves in the log, as room for the next one, what it could write of itself.
        filler = filled(path.parent, max(0, pages * PAGE - (wal.stat().st_size - stands)))
        refusal = refusal_of_usage(desk_on_a_small_disk)
        filler.unlink()
        if refusal is None:
            break
        refused += 1
        assert "database or disk is full; free some space; nothing of this was booked" in refusal
        assert everything_holds(path).facts() == before
    assert refused >= frames_of(wal.stat().st_size) - frames_of(stands) > 5
    assert everything_holds(path).accounts[ACCOUNT].spent == 3 * len(USAGES)


@pytest.fixture
def postgres_on_a_small_disk(postgres: PostgresServer) -> Iterator[tuple[Path, PostgresLedger]]:
    """A file system with a database in it; the server's log of transactions is elsewhere."""
    with mounted(postgres._folder / "small", "24m") as disk:
        shutil.chown(disk, postgres._folder.owner(), postgres._folder.group())
        with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE TABLESPACE small LOCATION '{disk}'".encode())
            connection.execute("CREATE DATABASE on_a_small_disk TABLESPACE small")
            try:
                yield disk, PostgresLedger(postgres.dsn("on_a_small_disk"))
            finally:
                connection.execute("DROP DATABASE on_a_small_disk WITH (FORCE)")
                connection.execute("DROP TABLESPACE small")
    disk.rmdir()


def test_a_real_disk_of_postgresql_that_is_full_books_nothing_and_then_all(
    postgres_on_a_small_disk: tuple[Path, PostgresLedger],
) -> None:
    disk, ledger = postgres_on_a_small_disk
    with desk_at(ledger) as desk:
        before, refused = everything_holds(ledger).facts(), 0
        for pages in range(100):
            filler = filled(disk, pages * PAGE)
            refusal = refusal_of_usage(desk)
            filler.unlink()
            if refusal is None:
                break
            refused += 1
            assert "could not extend file" in refusal
            assert refusal.endswith("free some space; nothing of this was booked")
            assert "\n" not in refusal
            assert everything_holds(ledger).facts() == before
        assert refused > 1
        assert everything_holds(ledger, served={ACCOUNT: 3 * len(USAGES)}).accounts[ACCOUNT].spent == 3 * len(USAGES)
