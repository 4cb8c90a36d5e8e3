"""What a writer on PostgreSQL remembers of grants, and how it writes names: another writer may have changed the one, and
the other may hold any character."""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.ledger.builders import NOW, Desk, account_of, budget, grant, policy
from tests.postgres_server import PostgresServer
from tollkeeper.leases import Want
from tollkeeper.limits import Limit
from tollkeeper.windows import Calendar, Every
from tollkeeper_ledger import bookkeeping, opening
from tollkeeper_ledger.errors import Unstorable
from tollkeeper_ledger.postgres import store
from tollkeeper_ledger.postgres.arrays import integers, texts
from tollkeeper_ledger.postgres.memory import Memory
from tollkeeper_ledger.postgres.session import Session, Statement
from tollkeeper_ledger.postgres.store import PostgresStore
from tollkeeper_ledger.state import Holder
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


def test_a_holder_that_was_forgotten_and_came_back_is_not_what_another_writer_remembers(
    postgres: PostgresServer,
) -> None:
    ledger = PostgresLedger(postgres.new_database())
    here, there = Desk(ledger, LIMIT), Desk(ledger, LIMIT)
    there.lease("g", Want(ACCOUNT, 10, 10), sequence=1)
    there.lease("g", returns={ACCOUNT: 10}, sequence=2)
    assert here.do(lambda work: bookkeeping.forget(work, Holder("g", 2)))
    here.lease("g", Want(ACCOUNT, 20, 20), sequence=3)
    here.lease("g", Want(ACCOUNT, 30, 30), sequence=4)
    assert not there.lease("g", Want(ACCOUNT, 1, 1), sequence=4).granted
    there.lease("g", returns={ACCOUNT: 50}, sequence=5)
    assert there.account(ACCOUNT).held == 0
    here.store.close()
    there.store.close()


def test_rows_of_writers_that_are_gone_are_forgotten_and_those_of_others_stay(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = PostgresLedger(postgres.new_database())
    gone, busy, quiet = Desk(ledger, LIMIT), Desk(ledger, LIMIT), Desk(ledger, LIMIT)
    for number, desk in enumerate((gone, busy, quiet)):
        desk.lease(f"g{number}", Want(ACCOUNT, 1, 1))
    assert isinstance(gone.store, PostgresStore)
    gone.store._session.drop()
    looking = Desk(ledger, LIMIT)
    asking = Session(ledger.dsn)
    busy.lease("g1", Want(ACCOUNT, 1, 1))
    monkeypatch.setattr(store, "WRITERS_LOOKED_AT_SECONDS", 0.0)
    looking.lease("g3", Want(ACCOUNT, 1, 1))
    assert len(asking.ask("SELECT writer FROM writers")) == 2, "of who wrote since it looked before, and its own"
    monkeypatch.undo()
    quiet.lease("g2", Want(ACCOUNT, 1, 1))
    assert len(asking.ask("SELECT writer FROM writers")) == 3, "one that only had nothing to do has a row again"
    asking.drop()
    for desk in (busy, quiet, looking):
        desk.store.close()


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))))
@example(["", "NULL", "null", '"', "\\", '","', "{}", " a ", "a\nb", "ä,b"])
def test_any_names_come_as_they_are(session: Session, names: list[str]) -> None:
    assert session.ask("SELECT %s::text[]", (texts(names),)) == [(names,)]


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_any_integers_come_as_they_are(session: Session, numbers: list[int]) -> None:
    assert session.ask("SELECT %s::bigint[]", (integers(numbers),)) == [(numbers,)]


@pytest.mark.parametrize("beyond", [2**63, -(2**63) - 1])
def test_an_integer_that_no_column_holds_is_refused_by_the_server(session: Session, beyond: int) -> None:
    with pytest.raises(Unstorable, match="out of range for type bigint"):
        session.ask("SELECT %s::bigint[]", (integers([1, beyond]),))


def test_windows_far_in_the_past_are_no_other_writers_however_many_a_commit_opens(postgres: PostgresServer) -> None:
    """A neighbour is looked for among the windows that began last, the second time as the first."""
    day, minute = (budget(allocation=100, calendar=Calendar.every(every)) for every in (Every.DAY, Every.MINUTE))
    others = [budget(f"other-{number}") for number in range(20)]
    desk = Desk(PostgresLedger(postgres.new_database()), day)

    def lease(now: datetime, limit: Limit, *more: Limit) -> int:
        desk.policy = policy(limit, *more)
        wants = [Want(account_of(one, now), 1, 1) for one in (limit, *more)]
        return len(desk.lease("g", *wants, now=now).granted)

    assert lease(NOW, day) == 1
    for number in range(70):
        assert lease(NOW + timedelta(minutes=number), minute) == 1
    assert lease(NOW + timedelta(minutes=70), day) == 1
    assert lease(NOW + timedelta(minutes=71), minute, *others) == 1 + len(others)
    desk.store.close()


@pytest.mark.parametrize("opened", [2, 40])
def test_however_many_windows_a_commit_opens_they_are_looked_at_again_on_one_journey(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, opened: int
) -> None:
    """Nobody else commits meanwhile: it is at the end of the chain."""
    limits = [budget(f"limit-{number}") for number in range(opened)]
    desk = Desk(PostgresLedger(postgres.new_database()), *limits)
    journeys, check = list[int](), Memory.check_neighbours

    def counted(memory: Memory, opened: Collection[str]) -> None:
        asked, ask_all = list[int](), Session.ask_all

        def noted(session: Session, statements: Sequence[Statement]) -> list[list[tuple[Any, ...]]]:
            asked.append(len(statements))
            return ask_all(session, statements)

        with monkeypatch.context() as counting:
            counting.setattr(Session, "ask_all", noted)
            check(memory, opened)
        journeys.append(len(asked))

    monkeypatch.setattr(Memory, "check_neighbours", counted)
    desk.lease("g", *(Want(account_of(limit), 1, 1) for limit in limits))
    assert journeys == [1]
    desk.store.close()
