"""PostgreSQL restarted in the middle of a transaction, and a standby that takes a primary's place."""

import time
from collections.abc import Iterator

import psycopg
import pytest

from tests.faults.holding import everything_holds
from tests.faults.standby import Pair, following
from tests.ledger.builders import Desk, account_of, budget, record
from tests.ledger.test_postgres import Breaking, crash_and_come_back
from tests.postgres_server import PostgresServer, running
from tollkeeper.errors import OutcomeUnknown
from tollkeeper.leases import Want
from tollkeeper.usage import Charge, UsageRecord
from tollkeeper_ledger.errors import LedgerUnavailable
from tollkeeper_ledger.postgres import session, store
from tollkeeper_ledger.storage import PostgresLedger

LIMIT = budget(minimum=0)
ACCOUNT = account_of(LIMIT)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    # A server that starts on a busy machine takes longer than one that is kept for the purpose.
    monkeypatch.setattr(store, "PATIENCE_SECONDS", 30.0)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with running() as own:
        yield own


@pytest.fixture
def pair() -> Iterator[Pair]:
    with running() as primary, following(primary) as both:
        yield both


def usage(number: int, amount: int = 1) -> UsageRecord:
    return record("g1", Charge(ACCOUNT, amount, amount), request=f"r{number}")


def statements_of_a_commit(desk: Desk) -> list[str]:
    """What is sent for a usage, in order; it is booked once on the way."""
    counting = Breaking(desk)
    desk.charge(usage(0))
    return list(counting.sent)


def test_a_server_that_crashes_before_any_statement_of_a_commit_books_it_once(server: PostgresServer) -> None:
    ledger = PostgresLedger(server.new_database())
    desk = Desk(ledger, LIMIT)
    desk.lease("g1", Want(ACCOUNT, 900, 900))
    statements = statements_of_a_commit(desk)
    assert statements[-1] == "COMMIT"
    breaking = Breaking(desk)
    for number in range(1, len(statements) + 1):
        breaking.sent.clear()
        breaking.before(number, lambda: crash_and_come_back(server))
        desk.charge(usage(number))
        books = everything_holds(ledger, served={ACCOUNT: number + 1})
        assert (books.accounts[ACCOUNT].spent, books.accounts[ACCOUNT].held) == (number + 1, 899 - number)
    desk.store.close()


def test_a_server_that_crashes_after_a_commit_whose_answer_is_lost_books_it_once(server: PostgresServer) -> None:
    ledger = PostgresLedger(server.new_database())
    desk = Desk(ledger, LIMIT)
    desk.lease("g1", Want(ACCOUNT, 900, 900))
    breaking = Breaking(desk)
    breaking.after("COMMIT", lambda: crash_and_come_back(server))
    desk.charge(usage(1))
    desk.charge(usage(1))
    books = everything_holds(ledger, served={ACCOUNT: 1})
    assert (books.accounts[ACCOUNT].spent, books.accounts[ACCOUNT].held) == (1, 899)
    desk.store.close()


@pytest.mark.parametrize("point", ["UPDATE chain_head", "COMMIT", "after COMMIT"])
def test_a_primary_that_is_gone_in_a_transaction_and_its_standby_lose_nothing_that_was_answered(
    pair: Pair, point: str
) -> None:
    ledger = PostgresLedger(pair.new_database())
    desk = Desk(ledger, LIMIT)
    desk.lease("g1", Want(ACCOUNT, 600, 600))
    statements = statements_of_a_commit(desk)
    breaking = Breaking(desk)
    if point == "after COMMIT":
        breaking.after("COMMIT", pair.fail_over)
    else:
        breaking.before(next(sql for sql in statements if sql.startswith(point)), pair.fail_over)
    desk.charge(usage(1, 50))
    books = everything_holds(ledger, served={ACCOUNT: 51})
    assert (books.accounts[ACCOUNT].spent, books.accounts[ACCOUNT].held) == (51, 549)
    assert desk.lease("g2", Want(ACCOUNT, 401, 401)).refused
    assert desk.lease("g2", Want(ACCOUNT, 400, 400)).granted
    everything_holds(ledger)
    desk.store.close()


def test_a_standby_that_lacks_the_last_commits_is_not_written_from_what_a_writer_remembers(pair: Pair) -> None:
    ledger = PostgresLedger(pair.new_database())
    one, two = Desk(ledger, LIMIT), Desk(ledger, LIMIT)
    one.lease("g1", Want(ACCOUNT, 100, 100))
    pair.part()
    one.lease("g1", Want(ACCOUNT, 50, 50))  # on the primary alone, which a deployment that waits for no standby risks
    pair.primary.kill()
    pair.standby.start()
    pair.standby.promote()
    two.sequence = 10
    two.lease("g2", Want(ACCOUNT, 800, 800))
    one.lease("g1", Want(ACCOUNT, 100, 100))
    books = everything_holds(ledger)
    assert books.accounts[ACCOUNT].held == 1000
    for desk in (one, two):
        desk.store.close()


@pytest.mark.parametrize("first", [True, False], ids=["a writer's first commit", "a later one"])
def test_a_commit_that_waits_for_a_standby_that_is_away_is_told_as_unknown_and_found_out_when_it_is_back(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    bounds = [bound.replace("lock_timeout = '5s'", "lock_timeout = '500ms'") for bound in session._BOUNDS]
    monkeypatch.setattr(session, "_BOUNDS", bounds)
    monkeypatch.setattr(session, "ANSWER_SECONDS", 2.0)
    monkeypatch.setattr(store, "LONGEST_CONTENTION_SECONDS", 1.0)
    ledger = PostgresLedger(pair.new_database())
    before, desk = Desk(ledger, LIMIT), Desk(ledger, LIMIT)
    (before if first else desk).lease("g1", Want(ACCOUNT, 900, 900))
    pair.standby.kill()
    with pytest.raises(OutcomeUnknown, match="in the middle of a commit, which may be booked or not"):
        desk.charge(usage(1, 50))
    with pytest.raises(LedgerUnavailable):
        desk.charge(usage(2, 7))
    pair.standby.start()
    wait_until_nobody_waits_for_a_standby(pair)
    desk.charge(usage(1, 50))
    desk.charge(usage(2, 7))
    books = everything_holds(ledger, served={ACCOUNT: 57})
    assert (books.accounts[ACCOUNT].spent, books.accounts[ACCOUNT].held) == (57, 843)
    for one in (before, desk):
        one.store.close()


def wait_until_nobody_waits_for_a_standby(pair: Pair) -> None:
    deadline = time.monotonic() + 60
    with psycopg.connect(pair.primary.dsn("postgres"), autocommit=True) as connection:
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        while connection.execute(waiting).fetchone() != (0,):
            assert time.monotonic() < deadline, "the standby does not follow again"
            time.sleep(0.05)
