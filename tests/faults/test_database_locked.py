"""A database that another program has locked: calls are told so within a bound, nothing of them is booked, and it goes on."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.faults.holding import everything_holds
from tests.ledger.builders import Desk, account_of, budget, record
from tests.postgres_server import PostgresServer
from tollkeeper.leases import Want
from tollkeeper.usage import Charge
from tollkeeper_ledger import sqlite
from tollkeeper_ledger.errors import LedgerUnavailable
from tollkeeper_ledger.postgres import session, store
from tollkeeper_ledger.storage import PostgresLedger

LIMIT = budget(minimum=0)
ACCOUNT = account_of(LIMIT)
OTHER_PROGRAM = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1], isolation_level=None) as other:
    for statement in sys.argv[2:]:
        other.execute(statement)
    print("locked", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_program(path: Path, *statements: str) -> Iterator[None]:
    """A process that does this to the file, and lets go of it at the end of the block."""
    command = [sys.executable, "-c", OTHER_PROGRAM, str(path), *statements]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        try:
            yield
        finally:
            other.communicate(timeout=60)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "LOCK_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(store, "LONGEST_CONTENTION_SECONDS", 1.0)
    bounds = tuple(one.replace("lock_timeout = '5s'", "lock_timeout = '300ms'") for one in session._BOUNDS)
    assert bounds != session._BOUNDS
    monkeypatch.setattr(session, "_BOUNDS", bounds)


@pytest.mark.parametrize("lock", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
def test_a_sqlite_file_that_another_program_writes(tmp_path: Path, lock: str) -> None:
    path = tmp_path / "ledger.db"
    desk = Desk(path, LIMIT)
    desk.lease("g1", Want(ACCOUNT, 300, 300))
    before = everything_holds(path).facts()
    with another_program(path, lock):
        with pytest.raises(LedgerUnavailable, match="database is locked; another program holds the file; end it"):
            desk.charge(record("g1", Charge(ACCOUNT, 20, 50), request="r1"))
        # Questions are answered meanwhile.
        assert everything_holds(path).facts() == before
    desk.charge(record("g1", Charge(ACCOUNT, 20, 50), request="r1"))
    books = everything_holds(path, served={ACCOUNT: 20})
    assert (books.accounts[ACCOUNT].spent, books.accounts[ACCOUNT].held) == (20, 280)
    desk.store.close()


def test_a_sqlite_file_that_another_program_keeps_to_itself_is_not_opened_and_is_later(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    desk = Desk(path, LIMIT)
    desk.lease("g1", Want(ACCOUNT, 300, 300))
    desk.store.close()
    alone = ("PRAGMA locking_mode = EXCLUSIVE", "BEGIN IMMEDIATE", "UPDATE identity SET id = id")
    with (
        another_program(path, *alone),
        pytest.raises(LedgerUnavailable, match="database is locked; another program holds the file; end it"),
    ):
        Desk(path, LIMIT)
    desk = Desk(path, LIMIT)
    desk.charge(record("g1", Charge(ACCOUNT, 20, 50)))
    desk.store.close()
    assert everything_holds(path, served={ACCOUNT: 20}).accounts[ACCOUNT].held == 280


@pytest.mark.parametrize("table", ["accounts", "chain_head", "requests"])
def test_a_table_of_postgresql_that_another_session_locks(postgres: PostgresServer, table: str) -> None:
    ledger = PostgresLedger(postgres.new_database())
    desk = Desk(ledger, LIMIT)
    desk.lease("g1", Want(ACCOUNT, 300, 300))
    before = everything_holds(ledger).facts()
    usage = record("g1", Charge(ACCOUNT, 20, 50), request="r1")
    began = time.monotonic()
    with psycopg.connect(ledger.dsn) as other:
        other.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
        with pytest.raises(
            LedgerUnavailable, match="another session holds what this needs; see pg_stat_activity"
        ) as said:
            desk.charge(usage)
        assert "\n" not in str(said.value)
    assert time.monotonic() - began < 10
    assert everything_holds(ledger).facts() == before
    desk.charge(usage)
    assert everything_holds(ledger, served={ACCOUNT: 20}).accounts[ACCOUNT].held == 280
    desk.store.close()
