"""A ledger file of an older release goes on: nothing of it is lost, and it answers as if it had always been new."""

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import orjson
import pytest

from tests.ledger.builders import NOW, Desk, account_of, budget, record
from tollkeeper.usage import Caller, Charge, Outcome
from tollkeeper.views import UsageFilter
from tollkeeper_ledger.bodies import unpacked
from tollkeeper_ledger.errors import LedgerUnavailable
from tollkeeper_ledger.packed import charges_in
from tollkeeper_ledger.reader import SqliteReader
from tollkeeper_ledger.schema import MIGRATIONS, migrate
from tollkeeper_ledger.sqlite import SqliteStore

LIMIT, OTHER = budget(allocation=10**9), budget("other", allocation=10**9)
ACCOUNT, OTHER_ACCOUNT = account_of(LIMIT), account_of(OTHER)
NEW_TABLES = ("requests", "reports", "words", "occurrences", "charges", "hours", "days")


def filled(path: Path) -> None:
    """A ledger of this release with usages of several kinds."""
    desk = Desk(path, LIMIT, OTHER)
    callers = [
        Caller("team"),
        Caller("team", "alice", "chat", "summariser", "s1", "i1", "key-1", "research", "job-7"),
        Caller("team", "bob"),
    ]
    for number in range(30):
        desk.charge(
            record(
                "g",
                Charge(ACCOUNT, 5, 0),
                *([Charge(OTHER_ACCOUNT, 5, 0)] if number % 2 else []),
                request=f"r{number}",
                caller=callers[number % 3],
                model=("gpt-5", "gpt-5-mini")[number % 2],
                tool=(None, "search")[number % 5 == 0],
                status=(200, 429)[number % 4 == 0],
                outcome=(Outcome.OK, Outcome.PROVIDER_ERROR)[number % 4 == 0],
                finished_at=NOW + timedelta(hours=number, microseconds=number),
            )
        )
    desk.store.close()


def as_version_4(new: Path, old: Path) -> None:
    """What release 4 would have written of the same: its tables, with the rows that they have in common."""
    with closing(sqlite3.connect(old, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for step in MIGRATIONS[:4]:
            assert isinstance(step, str)
            connection.executescript(step)
        connection.execute("DELETE FROM identity")
        connection.execute("PRAGMA user_version = 4")
        connection.execute("ATTACH ? AS new", (str(new),))
        for (table,) in connection.execute("SELECT name FROM main.sqlite_schema WHERE type = 'table'").fetchall():
            names = ", ".join(row[1] for row in connection.execute(f"PRAGMA main.table_info({table})"))
            if table == "charges":
                connection.executemany("INSERT INTO main.charges VALUES (?, ?, ?, ?)", charges_of_version_4(connection))
                continue
            columns = {"requests": "id, place >> 20"}.get(table, names)
            connection.execute(f"INSERT INTO main.{table} SELECT {columns} FROM new.{table}")  # noqa: S608 - names of tables
        for seq, body in connection.execute("SELECT seq, body FROM transactions").fetchall():
            transaction = orjson.loads(unpacked(body))
            if isinstance(transaction["usage"], list):
                (transaction["usage"],) = transaction["usage"]
                text = orjson.dumps(transaction, option=orjson.OPT_SORT_KEYS)
                connection.execute("UPDATE transactions SET body = ? WHERE seq = ?", (text, seq))


def charges_of_version_4(connection: sqlite3.Connection) -> list[tuple[int, ...]]:
    """Account, seq, amount and balance of each charge; at that time each had a transaction of its own."""
    packed = connection.execute("SELECT account, seq, packed FROM new.charges").fetchall()
    return [(account, seq, *charges_in([one])[["amount", "balance"]].tolist()[0]) for account, seq, one in packed]


def rows(path: Path, table: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return sorted(connection.execute(f"SELECT * FROM {table}").fetchall(), key=repr)  # noqa: S608 - a table of this test


@pytest.fixture
def old(tmp_path: Path) -> Path:
    filled(tmp_path / "new.db")
    as_version_4(tmp_path / "new.db", tmp_path / "old.db")
    return tmp_path / "old.db"


def test_a_file_of_version_4_gets_the_columns_that_this_release_would_have_written(old: Path) -> None:
    assert len(rows(old, "requests")[0]) == 2
    SqliteStore(old).close()
    for table in NEW_TABLES:
        migrated = rows(old, table)
        assert migrated
        assert migrated == rows(old.with_name("new.db"), table)


def test_a_migrated_file_is_searched_goes_on_and_still_books_nothing_twice(old: Path) -> None:
    desk = Desk(old, LIMIT, OTHER)
    desk.charge(record("g", Charge(ACCOUNT, 5, 0), request="r1"))  # again
    desk.charge(record("g", Charge(ACCOUNT, 5, 0), request="r30", caller=Caller("team", "alice"), model="gpt-5"))
    reader = SqliteReader(old)
    page = reader.usages(ACCOUNT, page=1, wanted=UsageFilter(user="alice", model="gpt-5"))
    assert [row.id for row in page.rows] == ["r30", "r28", "r22", "r16", "r10", "r4"]
    assert reader.usages(ACCOUNT, page=1, wanted=UsageFilter(user="alice")).total == 11
    assert reader.usages(ACCOUNT, page=1).total == 31
    one = reader.usage(ACCOUNT, "r4")
    assert one is not None
    assert one.time == NOW + timedelta(hours=4, microseconds=4)
    reader.close()
    desk.store.close()


def test_a_file_with_damaged_rows_is_named_and_stays_as_it_was(old: Path) -> None:
    with closing(sqlite3.connect(old, isolation_level=None)) as connection:
        connection.execute("UPDATE transactions SET body = ? WHERE seq = 7", (b'{"usage": {}}',))
    before = rows(old, "requests")
    with pytest.raises(LedgerUnavailable, match=r"old\.db: transaction 7 is damaged .* restore a good copy"):
        SqliteStore(old)
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (4,)
    assert rows(old, "requests") == before


def test_every_older_version_comes_to_this_one(tmp_path: Path) -> None:
    for version in range(len(MIGRATIONS) + 1):
        with closing(sqlite3.connect(tmp_path / f"{version}.db", isolation_level=None)) as connection:
            for step in MIGRATIONS[:version]:
                if isinstance(step, str):
                    connection.executescript(step)
                else:
                    step(connection)
            connection.execute(f"PRAGMA user_version = {version}")
            migrate(connection, "test")
            assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
