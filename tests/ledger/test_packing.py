"""A ledger whose usages lie a row each, as releases before SQLite's version 9 and PostgreSQL's version 2 wrote them, goes on."""

import sqlite3
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from typing import Any

import orjson
import psycopg
import pytest

from tests.ledger.builders import NOW, Desk, account_of, budget, record
from tests.ledger.conftest import NewLedger
from tollkeeper.leases import Want
from tollkeeper.usage import Caller, Charge, Outcome
from tollkeeper.views import UsageFilter
from tollkeeper_ledger.bodies import unpacked
from tollkeeper_ledger.errors import LedgerUnavailable
from tollkeeper_ledger.packed import charges_in, usages_in
from tollkeeper_ledger.postgres import schema as postgres_schema
from tollkeeper_ledger.postgres import version_2
from tollkeeper_ledger.postgres.session import Session
from tollkeeper_ledger.rows import to_micros
from tollkeeper_ledger.schema import MIGRATIONS
from tollkeeper_ledger.storage import LedgerAt, PostgresLedger, open_store
from tollkeeper_ledger.usagerows import PLACES, record_of, rows_of

LIMIT, OTHER = budget(allocation=10**9), budget("other", allocation=10**9)
ACCOUNT, OTHER_ACCOUNT = account_of(LIMIT), account_of(OTHER)
AS_THEY_WERE = ("accounts", "leases", "holders", "transactions", "marks", "occurrences", "payments", "minutes")
PERHAPS_EMPTY = {"marks", "payments"}
CARRIED_OVER = ("requests", "charges", "hours", "days")
_OLD_REQUESTS = (
    "place, id, finished, tenant, user_name, feature, assistant, session, investigation, api_key, namespace, workload, "
    "provider, model, tool, status, outcome, tokens, cost"
)
_OF_CALLER = (
    "tenant", "user", "feature", "assistant", "session", "investigation", "api_key", "namespace", "workload"
)  # fmt: skip


class Tables:
    """A ledger's database, without a store over it."""

    def __init__(self, ledger: LedgerAt) -> None:
        self.on_postgres = isinstance(ledger, PostgresLedger)
        self.connection: Any = (
            psycopg.connect(ledger.dsn, autocommit=True)
            if isinstance(ledger, PostgresLedger)
            else sqlite3.connect(ledger, isolation_level=None)
        )

    def rows(self, question: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.connection.execute(question).fetchall()]

    def insert(self, table: str, rows: Iterable[Sequence[Any]], columns: str = "") -> None:
        for row in rows:
            signs = ", ".join(["%s" if self.on_postgres else "?"] * len(row))
            self.connection.execute(f"INSERT INTO {table} {columns} VALUES ({signs})", row)  # noqa: S608 - names of tables

    def columns(self, table: str) -> str:
        """The names of a table's columns."""
        described = self.connection.execute(f"SELECT * FROM {table} LIMIT 0").description  # noqa: S608 - names of tables
        return ", ".join(f'"{column[0]}"' for column in described)

    def content(self, table: str, columns: str = "*") -> list[tuple[Any, ...]]:
        return sorted(self.rows(f"SELECT {columns} FROM {table}"), key=repr)  # noqa: S608 - names of tables

    def reports(self) -> list[tuple[Any, ...]]:
        """The reports with their words: codes differ by the order of booking."""
        word = {0: None} | dict(self.rows("SELECT code, word FROM words"))
        found = []
        for *columns, packed in self.content("reports"):
            usages = [[*one[:4], *map(word.__getitem__, one[4:])] for one in usages_in([packed]).tolist()]
            found.append((*columns, usages))
        return found

    def close(self) -> None:
        self.connection.close()


def filled(ledger: LedgerAt) -> None:
    """A ledger of this release with reports of several sizes, for one and for several accounts."""
    desk = Desk(ledger, LIMIT, OTHER)
    callers = [
        Caller("team"),
        Caller("team", "alice", "chat", "summariser", "s1", "i1", "key-1", "research", "job-7"),
        Caller("other", "bob", workload="job-8"),
    ]
    records = [
        record(
            "g",
            Charge(ACCOUNT, 5, 0),
            *([Charge(OTHER_ACCOUNT, 7, 0)] if number % 2 else []),
            request=f"r{number}",
            caller=callers[number % 3],
            model=("gpt-5", "gpt-5-mini")[number % 2],
            tool=(None, "search")[number % 5 == 0],
            status=(200, 429)[number % 4 == 0],
            outcome=(Outcome.OK, Outcome.PROVIDER_ERROR)[number % 4 == 0],
            finished_at=NOW + timedelta(hours=number, microseconds=number),
        )
        for number in range(30)
    ]
    for start, end in ((0, 1), (1, 3), (3, 20), (20, 30)):
        desk.charge(*records[start:end])
    for holder in ("g", "h", "gone"):
        desk.lease(holder, Want(ACCOUNT, 1000, 1000), Want(OTHER_ACCOUNT, 10, 10))
    desk.lapse("gone")
    desk.store.close()


def row_by_row(new: LedgerAt, old: LedgerAt) -> None:
    """What the release before would have written of the same."""
    _make_tables(old)
    with closing(Tables(new)) as source, closing(Tables(old)) as target:
        for table in AS_THEY_WERE:
            columns = target.columns(table)
            target.insert(table, source.content(table, columns), f"({columns})")
        for table in ("hours", "days"):
            target.insert(table, [row for row in source.content(table) if row[1] not in ("workload", "tool")])
        for seq, body in target.rows("SELECT seq, body FROM transactions"):
            target.insert("requests", _old_requests(seq, orjson.loads(unpacked(body))), f"({_OLD_REQUESTS})")
        for account, seq, *time, _, packed in source.content("charges"):
            rows = charges_in([packed]).tolist()
            target.insert("charges", [(account, seq * PLACES + number, *time, *of) for number, *of in rows])
        if target.on_postgres:
            ((seq, head),) = source.rows("SELECT seq, hash FROM chain_head")
            target.connection.execute("UPDATE chain_head SET seq = %s, hash = %s", (seq, head))


def _old_requests(seq: int, transaction: dict[str, Any]) -> Iterable[Sequence[Any]]:
    if transaction["kind"] != "usage":
        return
    for number, one in enumerate(map(record_of, rows_of(transaction))):
        caller = [getattr(one.caller, name) for name in _OF_CALLER]
        about = (one.provider, one.model, one.tool, one.status, one.outcome.value, one.buckets.total, one.cost)
        yield seq * PLACES + number, one.id, to_micros(one.finished_at), *caller, *about


def _make_tables(ledger: LedgerAt) -> None:
    if isinstance(ledger, PostgresLedger):
        session = Session(ledger.dsn)
        for statement in postgres_schema.VERSION_1.split(";\n"):
            if statement.strip():
                session.change(statement)
        session.change("CREATE TABLE ledger_schema (one BIGINT PRIMARY KEY, version BIGINT NOT NULL)")
        session.change("INSERT INTO ledger_schema VALUES (1, 1)")
        postgres_schema.make_partitions(session, [postgres_schema.month_of(to_micros(NOW) or 0)])
        session.drop()
        return
    with closing(sqlite3.connect(ledger, isolation_level=None)) as connection:
        for step in MIGRATIONS[:8]:
            if isinstance(step, str):
                connection.executescript(step)
            else:
                step(connection)
        connection.execute("PRAGMA user_version = 8")


@pytest.fixture
def new(new_ledger: NewLedger) -> LedgerAt:
    ledger = new_ledger()
    filled(ledger)
    return ledger


@pytest.fixture
def old(new_ledger: NewLedger, new: LedgerAt) -> LedgerAt:
    ledger = new_ledger()
    row_by_row(new, ledger)
    return ledger


def test_it_gets_the_rows_that_this_release_would_have_written(new: LedgerAt, old: LedgerAt) -> None:
    with closing(Tables(old)) as target:
        as_they_were = {table: target.columns(table) for table in AS_THEY_WERE}
    open_store(old).close()
    with closing(Tables(new)) as source, closing(Tables(old)) as target:
        for table, columns in (as_they_were | dict.fromkeys(CARRIED_OVER, "*")).items():
            content = target.content(table, columns)
            assert content or table in PERHAPS_EMPTY
            assert content == source.content(table, columns), table
        assert target.reports() == source.reports()


@pytest.mark.parametrize("new_ledger", ["postgres"], indirect=True)
def test_no_more_rows_are_in_hand_at_once_than_the_step_reads_at_once(
    new: LedgerAt, old: LedgerAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    most, ask = [0], Session.ask

    def counted(session: Session, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        rows = ask(session, sql, values)
        most.append(len(rows))
        return rows

    with monkeypatch.context() as counting:
        counting.setattr(version_2, "_READ_AT_ONCE", 4)
        counting.setattr(Session, "ask", counted)
        open_store(old).close()
    assert max(most) == 4
    with closing(Tables(new)) as source, closing(Tables(old)) as target:
        assert [target.content(table) for table in CARRIED_OVER] == [source.content(table) for table in CARRIED_OVER]
        assert target.reports() == source.reports()


def test_it_is_searched_goes_on_and_still_books_nothing_twice(old: LedgerAt) -> None:
    desk = Desk(old, LIMIT, OTHER)
    desk.charge(record("g", Charge(ACCOUNT, 5, 0), request="r7"))  # again
    desk.charge(record("g", Charge(ACCOUNT, 5, 0), request="r30", caller=Caller("team", "alice"), model="gpt-5"))
    with desk.reader() as reader:
        page = reader.usages(ACCOUNT, page=1, wanted=UsageFilter(user="alice", model="gpt-5"))
        assert [row.id for row in page.rows] == ["r30", "r28", "r22", "r16", "r10", "r4"]
        one = reader.usage(OTHER_ACCOUNT, "r7")
        assert one is not None
        assert (one.amount, one.balance) == (7, 10**9 - 21)
    account = desk.account(ACCOUNT)
    assert (account.spent, account.requests, account.recent) == (155, 31, (5,) * 31)
    desk.store.close()


def test_a_damaged_text_is_named_and_the_tables_stay_as_they_were(old: LedgerAt) -> None:
    with closing(Tables(old)) as tables:
        tables.connection.execute("UPDATE transactions SET body = '{}' WHERE seq = 4")
        before = tables.content("requests"), tables.content("charges")
    with pytest.raises(LedgerUnavailable, match="transaction 4 is damaged"):
        open_store(old)
    with closing(Tables(old)) as tables:
        assert (tables.content("requests"), tables.content("charges")) == before


@pytest.mark.parametrize("new_ledger", ["postgres"], indirect=True)
def test_writers_that_start_at_once_take_the_step_once(old: LedgerAt) -> None:
    with ThreadPoolExecutor(3) as pool:
        for store in pool.map(open_store, [old] * 3):
            store.close()
    with closing(Tables(old)) as tables:
        assert len(tables.content("requests")) == 30
