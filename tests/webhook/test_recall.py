"""Recall through the real authority: holders hear at once, callers get what comes back, and long streams keep their holds."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Collection, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from structlog.testing import capture_logs

from tests.ledger.builders import account_of, budget, policy, record
from tests.ledger.families import of_tenant, policy_of
from tests.postgres_server import PostgresServer
from tollkeeper.accounts import Account
from tollkeeper.amounts import Unit
from tollkeeper.leases import LEASE_TIME, RECALL_SECONDS, LeaseRequest, Want
from tollkeeper.limits import Limit
from tollkeeper.policy import BoundAccount, CurrentPolicy
from tollkeeper.recalls import Ask, Posting, Recalls
from tollkeeper.usage import Charge
from tollkeeper.windows import Calendar, Every
from tollkeeper_ledger.errors import LedgerUnavailable
from tollkeeper_ledger.postgres import board as board_module
from tollkeeper_ledger.postgres.board import PostgresBoard
from tollkeeper_ledger.storage import PostgresLedger, open_board
from tollkeeper_sidecar.demand import Demand, HardAccounts, Hold, Tokens, demand_of
from tollkeeper_sidecar.desk import ROUND_SECONDS, Desk
from tollkeeper_sidecar.holder import LONGEST_WAIT_SECONDS, LeaseHolder
from tollkeeper_sidecar.pools import REMEMBERED_ROUNDS
from tollkeeper_sidecar.waiting import Refused, Waiting
from tollkeeper_webhook import recalling as recalling_module
from tollkeeper_webhook.authority import LOOK_FOR_LAPSED_SECONDS, LedgerAuthority
from tollkeeper_webhook.recalling import Recalling

NOW = datetime(2026, 11, 21, 12, 55, tzinfo=UTC)
LIMIT = budget(allocation=10_000, unit=Unit.TOKENS)
ACCOUNT = account_of(LIMIT)
BEFORE_IT_IS_IDLE = (REMEMBERED_ROUNDS - 1) * ROUND_SECONDS
"""What lies free longer goes back without a recall."""


def demand(tokens: int, limit: Limit = LIMIT, now: datetime = NOW) -> Demand:
    account, window = limit.account_at((), now)
    hard = HardAccounts([(account.text, BoundAccount(limit, account, window))])
    return demand_of(Tokens(tokens, 1, 0), None, 0, 0, hard, lower=False)


def account(authority: LedgerAuthority, name: str = ACCOUNT) -> Account:
    known = authority.reader.account(name)
    assert known is not None
    return known


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
async def authority(tmp_path: Path) -> AsyncIterator[LedgerAuthority]:
    async with LedgerAuthority(tmp_path / "ledger.db", CurrentPolicy(policy(LIMIT)), Clock()) as one:
        yield one


async def with_leftovers(holder: LeaseHolder) -> Hold:
    """A holder that leased for two requests; one is in flight, what the other held lies free."""
    holds = [await holder.hold(demand(4000)) for _ in range(2)]
    assert isinstance(holds[0], Hold)
    assert isinstance(holds[1], Hold)
    holder.settle(holds[1], holds[1].unused)
    return holds[0]


async def test_leftovers_of_one_holder_serve_a_caller_of_another_and_holds_in_flight_stay(
    authority: LedgerAuthority,
) -> None:
    async with LeaseHolder("one", authority, Clock()) as one, LeaseHolder("two", authority, Clock()) as two:
        await with_leftovers(one)
        async with asyncio.timeout(BEFORE_IT_IS_IDLE):
            assert isinstance(await two.hold(demand(6000)), Hold)
        assert account(authority).held == 10_000
        assert one.desk.pools.free(ACCOUNT) == 0


async def test_what_stands_for_a_siblings_loan_is_recalled_from_the_same_holder_too(tmp_path: Path) -> None:
    borrowers = (of_tenant(name, 0, borrowing=10_000) for name in ("one", "two"))
    in_force = policy_of(of_tenant("top", 100_000, lending=8000), *borrowers)
    _, one, two = in_force.limits
    async with (
        LedgerAuthority(tmp_path / "ledger.db", CurrentPolicy(in_force), Clock()) as authority,
        LeaseHolder("both", authority, Clock()) as both,
    ):
        holds = [await both.hold(demand(4000, one)) for _ in range(2)]
        assert isinstance(holds[0], Hold)
        both.settle(holds[0], holds[0].unused)
        async with asyncio.timeout(BEFORE_IT_IS_IDLE):
            assert isinstance(await both.hold(demand(3000, two)), Hold)
        assert account(authority, account_of(one)).held == 4000


async def test_where_nothing_is_left_over_a_caller_is_refused_before_the_recall_time_is_over(
    authority: LedgerAuthority,
) -> None:
    async with LeaseHolder("one", authority, Clock()) as one, LeaseHolder("two", authority, Clock()) as two:
        assert isinstance(await one.hold(demand(8000)), Hold)
        began = time.monotonic()
        assert isinstance(await two.hold(demand(6000)), Refused)
        assert time.monotonic() - began < RECALL_SECONDS


async def test_nobody_waits_for_a_holder_that_has_ended(authority: LedgerAuthority) -> None:
    async with LeaseHolder("one", authority, Clock()) as one, LeaseHolder("two", authority, Clock()) as two:
        await with_leftovers(one)
        await one.__aexit__()
        caller = asyncio.create_task(two.hold(demand(6000)))
        await authority.close("one", {ACCOUNT: 4000})
        async with asyncio.timeout(RECALL_SECONDS):
            assert isinstance(await caller, Hold)


async def test_a_holder_that_lapsed_and_came_back_is_told_again(authority: LedgerAuthority) -> None:
    async with LeaseHolder("one", authority, Clock()) as one, LeaseHolder("two", authority, Clock()) as two:
        in_flight = await with_leftovers(one)
        authority._forget("one")
        # It calls with the next request, and is heard of from then on.
        assert isinstance(await one.hold(demand(6000)), Hold)
        one.settle(in_flight, in_flight.unused)
        async with asyncio.timeout(BEFORE_IT_IS_IDLE):
            assert isinstance(await two.hold(demand(4000)), Hold)


async def test_a_lease_call_does_not_wait_for_the_ledger_to_say_who_has_leftovers(
    authority: LedgerAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookup, may_answer = authority.reader.holders_of, threading.Event()

    def slow(accounts: Collection[str], among: Collection[str] | None) -> Mapping[str, Collection[str]]:
        may_answer.wait()
        return lookup(accounts, among)

    monkeypatch.setattr(authority.reader, "holders_of", slow)
    try:
        await authority.lease(asking("one", 8000))
        reply = await authority.lease(asking("two", 6000))
        assert reply.recalling == {ACCOUNT}
    finally:
        may_answer.set()
    assert await authority.recalled("one") == {ACCOUNT}


def asking(holder: str, tokens: int, sequence: int = 1) -> LeaseRequest:
    return LeaseRequest(holder, sequence, (Want(ACCOUNT, tokens, tokens),))


async def give_back_when_asked(holder: str, amount: int, authority: LedgerAuthority) -> None:
    """A holder that gives back what it has left over when it is asked to, and not before."""
    accounts = frozenset(await authority.recalled(holder))
    await authority.lease(LeaseRequest(holder, 2, returns={ACCOUNT: amount}, answers=accounts))


class Two:
    """Two authorities that share a ledger on PostgreSQL, and the clock that both go by."""

    def __init__(self, dsn: str) -> None:
        self.clock, self.dsn = Clock(), dsn
        self.first, self.second = (
            LedgerAuthority(PostgresLedger(dsn), CurrentPolicy(policy(LIMIT)), self.clock) for _ in range(2)
        )

    def board(self) -> list[tuple[str, str]]:
        """Who is asked, on what account."""
        with psycopg.connect(self.dsn) as connection:
            return connection.execute("SELECT holder, account FROM recalls ORDER BY holder").fetchall()


@pytest.fixture
async def two(postgres: PostgresServer) -> AsyncIterator[Two]:
    both = Two(postgres.new_database())
    async with both.first, both.second:
        yield both


async def test_leftovers_at_a_holder_of_another_authority_serve_a_caller(two: Two) -> None:
    await two.first.lease(asking("one", 8000))
    asked = asyncio.create_task(give_back_when_asked("one", 4000, two.first))
    async with LeaseHolder("two", two.second, two.clock) as holder:
        assert isinstance(await holder.hold(demand(6000)), Hold)
    await asked
    assert account(two.second).held == 10_000


async def test_leftovers_are_recalled_in_both_directions_at_once(two: Two) -> None:
    """Each of two holders has what the other one lacks."""
    await two.first.lease(asking("one", 4000))
    await two.second.lease(asking("two", 4000))
    asked = [
        asyncio.create_task(give_back_when_asked(holder, 4000, authority))
        for holder, authority in (("one", two.first), ("two", two.second))
    ]
    async with LeaseHolder("three", two.first, two.clock) as three, LeaseHolder("four", two.second, two.clock) as four:
        holds = await asyncio.gather(three.hold(demand(4500)), four.hold(demand(4500)))
    assert [type(one) for one in holds] == [Hold, Hold]
    await asyncio.gather(*asked)


async def test_a_caller_is_refused_as_soon_as_the_holders_of_another_authority_have_answered(two: Two) -> None:
    async with LeaseHolder("one", two.first, two.clock) as one, LeaseHolder("two", two.second, two.clock) as other:
        assert isinstance(await one.hold(demand(8000)), Hold)
        began = time.monotonic()
        assert isinstance(await other.hold(demand(6000)), Refused)
        assert time.monotonic() - began < RECALL_SECONDS
        assert two.board() == []


async def test_an_authority_that_is_gone_keeps_others_callers_waiting_for_the_recall_time_until_its_leases_lapse(
    postgres: PostgresServer,
) -> None:
    two = Two(postgres.new_database())
    async with two.second:
        async with two.first:
            await two.first.lease(asking("one", 8000))
        async with LeaseHolder("two", two.second, two.clock) as holder:
            began = time.monotonic()
            assert isinstance(await holder.hold(demand(6000)), Refused)
            assert RECALL_SECONDS <= time.monotonic() - began < LONGEST_WAIT_SECONDS
            await two.second.lapse_unheard()
            two.clock.now += LEASE_TIME + timedelta(seconds=1)
            await two.second.lapse_unheard()
            assert account(two.second).unreconciled == 8000
            began = time.monotonic()
            assert isinstance(await holder.hold(demand(6000)), Refused)
            assert time.monotonic() - began < RECALL_SECONDS


async def test_what_was_asked_of_holders_that_are_gone_is_swept_off_the_board(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board_module, "RECALL_SECONDS", 0.0)
    for number in range(3):
        await two.first.lease(asking(f"gone-{number}", 3000))
        await two.second.lease(asking("two", 8000, sequence=number + 1))
        async with asyncio.timeout(10):
            while True:
                if two.board() == [(f"gone-{number}", ACCOUNT)]:
                    break
                await asyncio.sleep(0.01)
        await two.first.close(f"gone-{number}", {})
        two.second._recalling._recalls = Recalls()


async def test_authorities_tell_each_other_again_after_the_database_was_away(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = PostgresBoard.exchange
    failures = iter([True, True])

    def failing(board: PostgresBoard, posting: Posting) -> Mapping[Ask, int]:
        if next(failures, False):
            board.close()
            raise LedgerUnavailable("away")
        return exchange(board, posting)

    monkeypatch.setattr(recalling_module, "LOOK_AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(PostgresBoard, "exchange", failing)
    await two.first.lease(asking("one", 8000))
    asked = asyncio.create_task(give_back_when_asked("one", 4000, two.first))
    with capture_logs() as said:
        async with LeaseHolder("two", two.second, two.clock) as holder:
            assert isinstance(await holder.hold(demand(6000)), Hold)
    await asked
    assert 1 <= len(said) <= 2


class SlowBoard:
    """A database that answers when the test says so."""

    def __init__(self) -> None:
        self.asked, self.may_answer, self.closed = threading.Event(), threading.Event(), threading.Event()
        self.done: list[str] = []

    def exchange(self, _: Posting) -> Mapping[Ask, int]:
        self.asked.set()
        self.may_answer.wait(10)
        self.done.append("exchange")
        return {}

    def close(self) -> None:
        self.done.append("close")
        self.closed.set()


async def test_the_end_does_not_wait_for_a_database_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nobody(_: Collection[str]) -> Mapping[str, Collection[str]]:
        return {}

    monkeypatch.setattr(recalling_module, "STOP_SECONDS", 0.05)
    board = SlowBoard()
    recalling = Recalling(nobody, board)
    recalling.start()
    await asyncio.to_thread(board.asked.wait, 10)
    try:
        async with asyncio.timeout(5):
            await recalling.stop()
    finally:
        before = list(board.done)
        board.may_answer.set()
    assert await asyncio.to_thread(board.closed.wait, 10)
    assert (before, board.done) == ([], ["exchange", "close"])


def test_an_authority_over_sqlite_has_no_board(tmp_path: Path) -> None:
    assert open_board(tmp_path / "ledger.db") is None


HOURLY = budget(allocation=10_000, unit=Unit.TOKENS, calendar=Calendar.every(Every.HOUR))


async def test_the_hold_of_a_long_stream_never_lapses_and_is_settled_in_the_window_that_admitted_it(
    tmp_path: Path,
) -> None:
    """Ten minutes, over the end of an hour (B6): ten times as long as a lease lives without its holder."""
    clock, desk = Clock(), Desk("one", 10)
    async with LedgerAuthority(tmp_path / "ledger.db", CurrentPolicy(policy(HOURLY)), clock) as authority:

        async def talk(mono: float) -> None:
            while (request := desk.next_request(clock(), mono)) is not None:
                desk.answered(await authority.lease(request), clock(), mono)

        place = desk.arrive(demand(5000, HOURLY), 0.0)
        await talk(0.0)
        assert isinstance(place, Waiting)
        assert isinstance(place.outcome, Hold)
        admitted = account_of(HOURLY, NOW)
        for second in range(1, 601):
            clock.now = NOW + timedelta(seconds=second)
            await talk(float(second))
            if second % LOOK_FOR_LAPSED_SECONDS == 0:
                await authority.lapse_unheard()
                stands = account(authority, admitted)
                assert (stands.held, stands.unreconciled) == (5000, 0)
        assert account_of(HOURLY, clock()) != admitted
        desk.settle(place.outcome, (1234,), 601.0)
        await authority.report([record("one", Charge(admitted, 1234, 5000), admitted_at=NOW, finished_at=clock())])
        desk.pools.booked({admitted: 1234})
        await talk(601.0)
        ended = account(authority, admitted)
        assert (ended.spent, ended.held, ended.unreconciled, ended.overshoot) == (1234, 0, 0, 0)
        assert authority.reader.account(account_of(HOURLY, clock())) is None
