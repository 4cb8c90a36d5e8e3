"""What a writer on PostgreSQL remembers of grants, and how it writes names: another writer may have changed the one, and
the other may hold any character."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.ledger.builders import NOW, Desk, account_of, budget, grant
from tests.postgres_server import PostgresServer
from tollkeeper.leases import Want
from tollkeeper.windows import Calendar, Every
from tollkeeper_ledger import opening
from tollkeeper_ledger.postgres.arrays import integers, texts
from tollkeeper_ledger.postgres.session import Session
from tollkeeper_ledger.storage import PostgresLedger
from tollkeeper_ledger.work import Work

LIMIT = budget(allocation=100)
ACCOUNT = account_of(LIMIT)


@pytest.fixture(scope="module")
def session(postgres: PostgresServer) -> Iterator[Session]:
    session = Session(postgres.new_database())
    yield session
    session.drop()


def test_a_grant_that_another_writer_booked_burns_and_expires_here(postgres: PostgresServer) -> None:
    ledger = PostgresLedger(postgres.new_database())
    here, there = Desk(ledger, LIMIT), Desk(ledger, LIMIT)
    here.book_grant(grant(50), LIMIT)
    here.lease("g", Want(ACCOUNT, 10, 10))
    there.book_grant(grant(1000, "short", expires_at=NOW + timedelta(hours=1)), LIMIT)
    assert [one.amount for one in here.lease("g", Want(ACCOUNT, 300, 300)).granted] == [300]
    here.lease("g", returns={ACCOUNT: 310})
    here.lease("g", Want(ACCOUNT, 1, 1), now=NOW + timedelta(hours=2))
    assert here.account(ACCOUNT).granted == 50
    here.store.close()
    there.store.close()


def test_a_window_that_another_writer_opens_meanwhile_is_continued_from_once(postgres: PostgresServer) -> None:
    """B7: both find that the month is cut off; the one that comes second finds the week opened."""
    ledger, week = PostgresLedger(postgres.new_database()), budget(allocation=100, calendar=Calendar.every(Every.WEEK))
    here, there = Desk(ledger, LIMIT), Desk(ledger, week)
    here.lease("g", Want(ACCOUNT, 90, 90))
    runs: list[int] = []

    def opened(work: Work) -> None:
        opening.open_account(work, week, (), NOW)
        runs.append(len(runs))
        if len(runs) == 1:
            here.open(week)

    there.do(opened)
    assert len(runs) == 2
    assert (there.account(account_of(week)).spent, there.account(ACCOUNT).window_end) == (90, NOW)
    assert [b'"continue"' in line for line in here.export()].count(True) == 1
    here.store.close()
    there.store.close()


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))))
@example(["", "NULL", "null", '"', "\\", '","', "{}", " a ", "a\nb", "ä,b"])
def test_any_names_come_as_they_are(session: Session, names: list[str]) -> None:
    assert session.ask("SELECT %s::text[]", (texts(names),)) == [(names,)]


@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)))
def test_any_integers_come_as_they_are(session: Session, numbers: list[int | None]) -> None:
    assert session.ask("SELECT %s::bigint[]", (integers(numbers),)) == [(numbers,)]
