"""What PostgreSQL adds: several writers at once, and a server that goes away in the middle."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from tests.ledger.builders import NOW, Desk, account_of, budget, grant, record
from tests.postgres_server import PostgresServer, running
from tollkeeper.accounts import Account
from tollkeeper.errors import OutcomeUnknown
from tollkeeper.leases import LeaseReply, LeaseRequest, Want
from tollkeeper.limits import AccountId
from tollkeeper.usage import Charge
from tollkeeper_ledger import bookkeeping
from tollkeeper_ledger.errors import LedgerUnavailable
from tollkeeper_ledger.export import verify
from tollkeeper_ledger.postgres import schema as schema_module
from tollkeeper_ledger.postgres import session as session_module
from tollkeeper_ledger.postgres import store as store_module
from tollkeeper_ledger.postgres.schema import MIGRATIONS
from tollkeeper_ledger.postgres.session import Fault, Interrupted, Session
from tollkeeper_ledger.postgres.store import PostgresStore
from tollkeeper_ledger.storage import PostgresLedger
from tollkeeper_ledger.work import Work
from tollkeeper_ledger.writer import LedgerWriter

pytestmark = pytest.mark.slow  # a server of its own

LIMIT = budget(allocation=1000)
ACCOUNT = account_of(LIMIT)
OTHER = budget("other", allocation=1000)
OTHER_ACCOUNT = account_of(OTHER)


@pytest.fixture
def ledger(postgres: PostgresServer) -> PostgresLedger:
    return PostgresLedger(postgres.new_database())


@pytest.fixture
def desks(ledger: PostgresLedger) -> Iterator[tuple[Desk, Desk]]:
    """Two writers of one ledger."""
    both = Desk(ledger, LIMIT, OTHER), Desk(ledger, LIMIT, OTHER)
    yield both
    for desk in both:
        desk.store.close()


def together(*work: object) -> list[object]:
    """Run functions at the same moment, each on a thread of its own."""
    start = threading.Barrier(len(work))

    def run(function: object) -> object:
        start.wait(10)
        return function()  # type: ignore[operator]

    with ThreadPoolExecutor(len(work)) as pool:
        return list(pool.map(run, work))


def test_two_writers_at_once_never_grant_more_than_there_is(desks: tuple[Desk, Desk]) -> None:
    def ask(desk: Desk, holder: str) -> int:
        granted = 0
        for number in range(80):
            reply = desk.lease(holder, Want(ACCOUNT, 7, 7), Want(OTHER_ACCOUNT, 5, 5))
            granted += sum(grant.amount for grant in reply.granted if grant.account == ACCOUNT)
            if number % 3 == 0 and reply.granted:
                desk.charge(record(holder, Charge(ACCOUNT, 2, 7)))
        return granted

    one, two = desks
    granted = together(lambda: ask(one, "a"), lambda: ask(two, "b"))
    account = one.account(ACCOUNT)
    assert sum(granted) == 994  # type: ignore[arg-type]
    assert account.spent + account.held == 994
    assert account.overshoot == 0
    verify(one.export())


def test_writers_that_lock_the_same_accounts_in_other_orders_do_not_block_each_other(desks: tuple[Desk, Desk]) -> None:
    one, two = desks
    wants = Want(ACCOUNT, 1, 1), Want(OTHER_ACCOUNT, 1, 1)
    together(
        lambda: [one.lease("a", *wants) for _ in range(40)],
        lambda: [two.lease("b", *reversed(wants)) for _ in range(40)],
    )
    assert [one.account(of).held for of in (ACCOUNT, OTHER_ACCOUNT)] == [80, 80]


def test_an_account_that_two_writers_open_at_once_gets_its_allocation_once(desks: tuple[Desk, Desk]) -> None:
    one, two = desks
    together(lambda: one.open(LIMIT), lambda: two.open(LIMIT))
    lines = one.export()
    assert one.account(ACCOUNT).allocation == two.account(ACCOUNT).allocation == 1000
    assert verify(lines).transactions == 1


def test_a_record_that_is_reported_to_two_writers_is_booked_once(desks: tuple[Desk, Desk]) -> None:
    one, two = desks
    one.lease("a", Want(ACCOUNT, 500, 500))
    usages = [record("a", Charge(ACCOUNT, 10, 10), request=f"r{number}") for number in range(20)]
    together(lambda: one.charge(*usages), lambda: two.charge(*reversed(usages)))
    assert (one.account(ACCOUNT).spent, one.account(ACCOUNT).requests) == (200, 20)
    assert verify(two.export()).transactions == 2


@pytest.mark.parametrize("other", ["account", "holder"])
def test_a_lease_that_another_writer_overtook_is_decided_anew(desks: tuple[Desk, Desk], other: str) -> None:
    """I1: between what the rules read and what the commit locks."""
    one, two = desks
    for holder, desk in (("a", one), ("b", two)):
        desk.lease(holder, Want(ACCOUNT, 100, 100))
        desk.lease(holder, Want(OTHER_ACCOUNT, 1, 1))
    overtaking = Want(ACCOUNT, 700, 700) if other == "account" else Want(OTHER_ACCOUNT, 1, 1)
    holder = "b" if other == "account" else "a"
    Breaking(one).before("BEGIN", lambda: two.lease(holder, overtaking, sequence=99 if other == "account" else 3))
    reply = one.lease("a", Want(ACCOUNT, 200, 200))
    if other == "account":
        assert (reply.granted, [one.available for one in reply.refused]) == ((), [100])
    else:
        assert reply == LeaseReply(), "the other call of this holder had the same number"
    assert one.account(ACCOUNT).held == two.account(ACCOUNT).held


def test_a_grant_and_a_threshold_that_two_writers_see_are_booked_once(desks: tuple[Desk, Desk]) -> None:
    one, two = desks
    states = together(lambda: one.book_grant(grant(500), LIMIT), lambda: two.book_grant(grant(500), LIMIT))
    crossed = together(
        *(lambda desk=desk: desk.do(lambda work: bookkeeping.cross(work, ACCOUNT, 80)) for desk in desks)
    )
    assert states[0] == states[1]
    assert one.account(ACCOUNT).granted == 500
    assert sorted(crossed) == [False, True]  # type: ignore[type-var]


def test_a_refusal_is_not_made_from_what_a_writer_remembers(desks: tuple[Desk, Desk]) -> None:
    one, two = desks
    one.lease("a", Want(ACCOUNT, 1000, 1000))
    assert two.lease("b", Want(ACCOUNT, 100, 100)).refused
    one.lease("a", returns={ACCOUNT: 400})
    assert two.lease("b", Want(ACCOUNT, 100, 100)).granted


def test_a_holder_that_asks_both_writers_keeps_all_of_its_leases(desks: tuple[Desk, Desk]) -> None:
    one, two = desks
    one.lease("a", Want(ACCOUNT, 100, 100), sequence=1)
    two.lease("a", Want(OTHER_ACCOUNT, 100, 100), sequence=2)
    one.close("a")
    assert (two.account(ACCOUNT).held, two.account(OTHER_ACCOUNT).held) == (0, 0)


def test_a_database_of_a_newer_release_is_left_alone(ledger: PostgresLedger) -> None:
    Desk(ledger).store.close()
    with psycopg.connect(ledger.dsn, autocommit=True) as connection:
        connection.execute("UPDATE ledger_schema SET version = 999")
    with pytest.raises(LedgerUnavailable, match=f"schema version 999 and this release knows {len(MIGRATIONS)}"):
        PostgresStore(ledger.dsn)


def test_writers_that_start_at_once_on_an_empty_database_make_its_tables_once(ledger: PostgresLedger) -> None:
    for store in together(*[lambda: PostgresStore(ledger.dsn)] * 4):
        store.close()  # type: ignore[attr-defined]
    with psycopg.connect(ledger.dsn) as connection:
        assert connection.execute("SELECT version FROM ledger_schema").fetchone() == (len(MIGRATIONS),)


@pytest.mark.parametrize(
    "error", [psycopg.errors.DuplicateTable, psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation]
)
def test_what_another_writer_made_first_is_a_reason_to_look_again(error: type[psycopg.Error]) -> None:
    assert Session("host=nowhere").interrupted(error("it exists")).fault is Fault.CONTENDED


def test_a_step_forward_is_taken_once_while_another_writer_goes_on(
    ledger: PostgresLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(ledger, LIMIT)
    desk.book_grant(grant(5), LIMIT)
    step = "ALTER TABLE grants ADD COLUMN note TEXT;\nUPDATE grants SET note = reason"
    monkeypatch.setattr(schema_module, "MIGRATIONS", (*MIGRATIONS, step))
    newer = [lambda: PostgresStore(ledger.dsn).close()] * 2
    together(*newer, lambda: [desk.lease("g", Want(ACCOUNT, 10, 10)) for _ in range(20)])
    with psycopg.connect(ledger.dsn) as connection:
        assert connection.execute("SELECT version, note FROM ledger_schema, grants").fetchall() == [
            (len(MIGRATIONS) + 1, "TopUp")
        ]
    assert desk.account(ACCOUNT).held == 200
    verify(desk.export())
    desk.store.close()


def test_what_is_held_by_a_ledger_of_an_older_release_is_held_on(
    ledger: PostgresLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until schema version 6 it stood in the accounts' own rows, with their versions."""
    with monkeypatch.context() as older:
        older.setattr(schema_module, "MIGRATIONS", MIGRATIONS[:6])
        PostgresStore(ledger.dsn).close()
    identity = AccountId.parse(ACCOUNT)
    with psycopg.connect(ledger.dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO accounts VALUES (7, %s, 'TokenBudget', 'team', 'monthly', '', %s, %s, 'USD', NULL, NULL, "
            "1000, 0, 0, 0, 70, 0, 0, 0, 0, NULL, 0, 0, 0, '', 9)",
            (ACCOUNT, identity.key_text, identity.window),
        )
        connection.execute("INSERT INTO holders VALUES ('g', 1, 0, 1, 3)")
        connection.execute("INSERT INTO lease_rows VALUES (3, 7, 70, 0)")
    desk = Desk(ledger, LIMIT)
    desk.lease("g", Want(ACCOUNT, 10, 10), sequence=2)
    assert desk.account(ACCOUNT).held == 80
    with psycopg.connect(ledger.dsn) as connection:
        assert connection.execute("SELECT account, amount, version FROM held").fetchall() == [(7, 80, 10)]
        assert connection.execute("SELECT * FROM leases").fetchall() == [("g", ACCOUNT, 80, 0)]
    desk.store.close()


def test_a_step_forward_that_fails_leaves_the_database_as_it_was(
    ledger: PostgresLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    Desk(ledger).store.close()
    with monkeypatch.context() as newer:
        broken = "ALTER TABLE grants ADD COLUMN note TEXT;\nUPDATE no_such_table SET note = ''"
        newer.setattr(schema_module, "MIGRATIONS", (*MIGRATIONS, broken))
        with pytest.raises(LedgerUnavailable, match="no_such_table"):
            PostgresStore(ledger.dsn)
    desk = Desk(ledger, LIMIT)
    desk.book_grant(grant(5), LIMIT)
    desk.store.close()


def test_partitions_are_there_before_their_month(ledger: PostgresLedger) -> None:
    desk = Desk(ledger, LIMIT)
    desk.open(LIMIT)
    desk.store.close()
    with psycopg.connect(ledger.dsn) as connection:
        rows = connection.execute("SELECT inhrelid::regclass::text FROM pg_inherits").fetchall()
    months = {name for (name,) in rows}
    ahead = {f"{table}_{month}" for table in ("transactions", "charges") for month in ("2026_11", "2026_12", "2027_01")}
    assert ahead <= months


def test_what_is_no_connection_string_and_no_server_is_said_in_one_line(postgres: PostgresServer) -> None:
    with pytest.raises(LedgerUnavailable, match="not a connection string"):
        PostgresStore("no such thing")
    with pytest.raises(LedgerUnavailable, match="the server cannot be reached") as refused:
        PostgresStore(postgres.dsn("missing"))
    assert "\n" not in str(refused.value)


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    with running() as server:
        yield server


@pytest.fixture
def desk(own_server: PostgresServer) -> Iterator[Desk]:
    desk = Desk(PostgresLedger(own_server.new_database()), LIMIT)
    desk.lease("a", Want(ACCOUNT, 900, 900))
    desk.charge(record("a", Charge(ACCOUNT, 10, 10)))
    yield desk
    desk.store.close()


class Breaking:
    """Puts a fault before or after a statement that a store sends: by number, or by how it begins."""

    def __init__(self, desk: Desk) -> None:
        assert isinstance(desk.store, PostgresStore)
        self._session = desk.store._session
        self._run = self._session._run
        self._session._run = self._counted  # type: ignore[method-assign]
        self.sent: list[str] = []
        self._before: dict[int | str, Callable[[], object]] = {}
        self._after: dict[str, Callable[[], object]] = {}

    def before(self, point: int | str, fault: Callable[[], object]) -> None:
        self._before[point] = fault

    def after(self, point: str, fault: Callable[[], object]) -> None:
        self._after[point] = fault

    def _counted(self, sql: str, values: Sequence[Any]) -> Any:
        self.sent.append(sql)
        for point in (len(self.sent), sql):
            if fault := self._before.pop(point, None):
                fault()
        answer = self._run(sql, values)
        if fault := self._after.pop(sql, None):
            fault()
            # The server did it, and its answer never came.
            self._session.drop()
            raise Interrupted("the answer is lost", Fault.LOST)
        return answer


def end_connections(server: PostgresServer) -> None:
    with psycopg.connect(server.dsn("postgres"), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'tollkeeper-ledger'"
        )


def crash_and_come_back(server: PostgresServer) -> None:
    server.kill()
    server.start()


def test_a_connection_that_ends_at_any_statement_of_a_commit_books_once(desk: Desk, own_server: PostgresServer) -> None:
    counting = Breaking(desk)
    desk.charge(record("a", Charge(ACCOUNT, 1, 1)))
    points = len(counting.sent)
    assert counting.sent[-1] == "COMMIT"
    for point in range(1, points + 1):
        counting.sent.clear()
        counting.before(point, lambda: end_connections(own_server))
        desk.charge(record("a", Charge(ACCOUNT, 1, 1)))
    account = desk.account(ACCOUNT)
    assert (account.spent, account.held, account.requests) == (11 + points, 889 - points, 2 + points)
    assert verify(desk.export()).transactions == 3 + points


def test_a_connection_that_ends_at_any_statement_of_a_lease_grants_once(desk: Desk, own_server: PostgresServer) -> None:
    """I1, I3: also where some statements of one journey are done and others are not."""
    counting = Breaking(desk)
    desk.lease("a", Want(ACCOUNT, 1, 1))
    points, locked = len(counting.sent), [sql for sql in counting.sent if "FOR UPDATE" in sql]
    assert (counting.sent[0], len(locked), counting.sent[-1]) == ("BEGIN", 2, "COMMIT")
    for point in range(1, points + 1):
        counting.sent.clear()
        counting.before(point, lambda: end_connections(own_server))
        desk.lease("a", Want(ACCOUNT, 1, 1))
    assert desk.account(ACCOUNT).held == 891 + points
    assert desk.do(lambda work: work.lease("a", ACCOUNT).outstanding) == 891 + points


@pytest.mark.parametrize("point", ["UPDATE chain_head", "COMMIT"])
def test_a_server_that_crashes_in_the_middle_of_a_transaction_has_nothing_half_booked(
    desk: Desk, own_server: PostgresServer, point: str
) -> None:
    breaking = Breaking(desk)
    desk.charge(record("a", Charge(ACCOUNT, 1, 1)))
    statement = next(sql for sql in breaking.sent if sql.startswith(point))
    breaking.before(statement, lambda: crash_and_come_back(own_server))
    desk.charge(record("a", Charge(ACCOUNT, 5, 5)))
    assert (desk.account(ACCOUNT).spent, desk.account(ACCOUNT).held) == (16, 884)
    assert verify(desk.export()).transactions == 4


def test_a_commit_whose_answer_is_lost_is_found_and_not_done_twice(desk: Desk, own_server: PostgresServer) -> None:
    breaking = Breaking(desk)
    breaking.after("COMMIT", lambda: crash_and_come_back(own_server))
    reply = desk.lease("a", Want(ACCOUNT, 50, 50))
    assert reply.granted[0].amount == 50
    assert desk.account(ACCOUNT).held == 940


def test_a_commit_that_nobody_can_tell_of_in_time_is_said_to_be_unknown(
    desk: Desk, own_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "PATIENCE_SECONDS", 0.2)
    Breaking(desk).after("COMMIT", own_server.kill)
    with pytest.raises(OutcomeUnknown, match="may be booked or not"):
        desk.lease("a", Want(ACCOUNT, 50, 50))
    own_server.start()
    assert desk.account(ACCOUNT).held == 940


def test_while_the_server_is_away_one_line_says_so_and_the_writer_goes_on_when_it_is_back(
    desk: Desk, own_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "PATIENCE_SECONDS", 0.2)
    writer = LedgerWriter(desk.store, lambda _accounts: None)
    own_server.kill()

    def ask(work: Work) -> LeaseReply:
        return bookkeeping.lease(work, desk.policy, LeaseRequest("b", 1, (Want(ACCOUNT, 30, 30),)), NOW, NOW)

    error = writer.submit(ask).exception(30)
    assert isinstance(error, LedgerUnavailable)
    assert "the server cannot be reached" in str(error)
    assert "\n" not in str(error)
    with pytest.raises(LedgerUnavailable), desk.reader() as reader:
        reader.account(ACCOUNT)
    own_server.start()
    assert writer.submit(ask).result(30).granted[0].amount == 30
    account: Account = writer.submit(lambda work: work.account(ACCOUNT)).result(10)[0]  # type: ignore[index]
    assert (account.spent, account.held) == (10, 920)
    verify(desk.export())
    writer.close()


def test_a_step_of_the_schema_takes_as_long_as_it_takes(
    ledger: PostgresLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    PostgresStore(ledger.dsn).close()
    monkeypatch.setattr(session_module, "ANSWER_SECONDS", 0.3)
    slow = (*MIGRATIONS, lambda session: session.ask("SELECT pg_sleep(0.6)"))
    monkeypatch.setattr(schema_module, "MIGRATIONS", slow)
    PostgresStore(ledger.dsn).close()
