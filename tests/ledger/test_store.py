"""What a SQLite file survives: full disks, second owners, and files that are no ledger."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.ledger.builders import Desk, account_of, budget, record
from tollkeeper.leases import Want
from tollkeeper.usage import Charge
from tollkeeper_ledger.errors import LedgerInUse, LedgerUnavailable
from tollkeeper_ledger.reader import SqliteReader
from tollkeeper_ledger.sqlite import SqliteStore

LIMIT = budget(allocation=10**9)
ACCOUNT = account_of(LIMIT)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "ledger.db", LIMIT)
    yield desk
    desk.store.close()


def test_a_second_owner_is_refused_and_told_who_owns_the_ledger(desk: Desk) -> None:
    with pytest.raises(LedgerInUse, match=r"process \d+ writes it"):
        SqliteStore(desk.sqlite.path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(LedgerUnavailable, match="choose a folder that can be written"):
        SqliteStore(tmp_path / "file" / "ledger.db")


def test_a_file_that_is_no_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"something else" * 1000)
    with pytest.raises(LedgerUnavailable, match=r"ledger\.db: it is no ledger, nor any SQLite database"):
        SqliteStore(tmp_path / "ledger.db")


def test_a_ledger_of_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    with pytest.raises(LedgerUnavailable, match="schema version 999"):
        SqliteStore(tmp_path / "ledger.db")


def test_a_sqlite_that_is_too_old_is_said_to_be_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 31, 1))
    with pytest.raises(LedgerUnavailable, match=r"3\.33 or newer is needed"):
        SqliteStore(tmp_path / "ledger.db")
    monkeypatch.undo()
    SqliteStore(tmp_path / "ledger.db").close()


def test_a_ledger_that_could_not_be_read_is_said_to_be_so_and_let_go_of(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as other:
        other.execute("ALTER TABLE marks RENAME TO elsewhere")
        with pytest.raises(LedgerUnavailable, match=r"ledger\.db: no such table: marks") as kept:
            SqliteStore(path)
        other.execute("ALTER TABLE elsewhere RENAME TO marks")
    # The error is kept, and with it every frame that it came through.
    SqliteStore(path).close()
    assert kept.tb is not None


def test_a_full_disk_books_nothing_and_space_that_comes_back_is_used(desk: Desk) -> None:
    desk.lease("g", Want(ACCOUNT, 10**6, 10**6))
    before = desk.known(ACCOUNT)
    pages = desk.sqlite._connection.execute("PRAGMA page_count").fetchone()[0]
    desk.sqlite._connection.execute(f"PRAGMA max_page_count = {pages}")
    usages = [record("g", Charge(ACCOUNT, 1, 1), request=f"r{n}") for n in range(500)]
    with pytest.raises(LedgerUnavailable, match="free some space"):
        desk.charge(*usages)
    assert desk.known(ACCOUNT) == before
    desk.sqlite._connection.execute("PRAGMA max_page_count = 1000000")
    desk.charge(*usages)
    after = desk.known(ACCOUNT)
    assert after is not None
    assert after[0].spent == 500


def test_a_lease_that_is_given_back_leaves_no_row(desk: Desk) -> None:
    desk.lease("g1", Want(ACCOUNT, 100, 100))
    desk.lease("g1", returns={ACCOUNT: 100})
    assert desk.sqlite._connection.execute("SELECT count(*) FROM leases").fetchone() == (0,)


def test_a_ledger_that_was_closed_is_one_file_although_a_reader_has_it_open(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.db"
    desk = Desk(ledger, LIMIT)
    desk.lease("g", Want(ACCOUNT, 100, 100))
    with closing(SqliteReader(ledger)) as reader:
        assert reader.account(ACCOUNT) is not None
        desk.store.close()
        copy = tmp_path / "copy.db"
        copy.write_bytes(ledger.read_bytes())
    with closing(SqliteReader(copy)) as reader:
        known = reader.account(ACCOUNT)
        assert known is not None
        assert known.held == 100
