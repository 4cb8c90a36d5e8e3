"""Recall through the real authority: holders hear at once, callers get what comes back, and long streams keep their holds."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.ledger.builders import account_of, budget, policy, record
from tests.postgres_server import PostgresServer
from tollkeeper.accounts import Account
from tollkeeper.amounts import Unit
from tollkeeper.leases import RECALL_SECONDS
from tollkeeper.limits import Limit
from tollkeeper.policy import BoundAccount, CurrentPolicy
from tollkeeper.usage import Charge
from tollkeeper.windows import Calendar, Every
from tollkeeper_ledger.storage import PostgresLedger
from tollkeeper_sidecar.demand import Demand, HardAccounts, Hold, Tokens, demand_of
from tollkeeper_sidecar.desk import ROUND_SECONDS, Desk
from tollkeeper_sidecar.holder import LeaseHolder
from tollkeeper_sidecar.pools import REMEMBERED_ROUNDS
from tollkeeper_sidecar.waiting import Refused, Waiting
from tollkeeper_webhook.authority import LOOK_FOR_LAPSED_SECONDS, LedgerAuthority

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


async def test_holders_of_another_authority_give_back_by_themselves(postgres: PostgresServer) -> None:
    """On PostgreSQL no authority reaches the holders of another."""
    ledger, policies = PostgresLedger(postgres.new_database()), CurrentPolicy(policy(LIMIT))
    async with (
        LedgerAuthority(ledger, policies, Clock()) as first,
        LedgerAuthority(ledger, policies, Clock()) as second,
        LeaseHolder("one", first, Clock()) as one,
        LeaseHolder("two", second, Clock()) as two,
    ):
        await with_leftovers(one)
        await second.lapse_unheard()
        async with asyncio.timeout(10):
            while not isinstance(await two.hold(demand(6000)), Hold):
                pass


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
