"""A holder whose clock is an hour fast or slow: no cap is passed, whichever window it believes to be in.

Its leases live by the authority's clock, and a request counts in the window in which its holder admitted it (B6).
"""

from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from tests.faults.holding import everything_holds
from tests.ledger.builders import account_of, budget, policy, record
from tests.sidecar.builders import PRICES
from tollkeeper.amounts import Unit
from tollkeeper.leases import LEASE_TIME, LeaseRequest, Reason, Want
from tollkeeper.limits import Limit, LimitRef
from tollkeeper.policy import BoundAccount, CurrentPolicy
from tollkeeper.usage import Charge
from tollkeeper.windows import Calendar, Every
from tollkeeper_ledger.storage import LedgerAt
from tollkeeper_sidecar.demand import Demand, HardAccounts, Hold, Tokens, demand_of
from tollkeeper_sidecar.holder import LeaseHolder
from tollkeeper_sidecar.waiting import Refused
from tollkeeper_webhook.authority import LedgerAuthority

HOUR = timedelta(hours=1)
TRUE = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)
HOURLY = Limit(
    ref=LimitRef("TokenQuota", "team", "quota", "hourly"),
    tenants=frozenset({"team"}),
    unit=Unit.TOKENS,
    calendar=Calendar.every(Every.HOUR),
    allocation=1000,
)
MONTHLY = budget(allocation=10**9, minimum=0)
PRICE = PRICES.find("openai", "gpt-5", TRUE)


def demand(now: datetime) -> Demand:
    """A request for 100 tokens of what a holder takes to be this hour."""
    account, window = HOURLY.account_at((), now)
    bound = BoundAccount(HOURLY, account, window)
    return demand_of(Tokens(50, 1, 0), PRICE, 50, 50, HardAccounts([(account.text, bound)]), lower=False)


async def admitted_by(authority: LedgerAuthority, holder: LeaseHolder, now: datetime) -> int:
    """How many requests a holder admits by its own clock, each of them used whole and reported."""
    for number in range(50):
        hold = await holder.hold(demand(now))
        if not isinstance(hold, Hold):
            assert isinstance(hold, Refused)
            return number
        ((account, held),) = hold.amounts.items()
        used = record(holder.holder, Charge(account, held, held), request=f"{holder.holder}-{number}", admitted_at=now)
        holder.settle(hold, hold.each)
        await authority.report([used])
        holder.booked({account: held})
    raise AssertionError("no limit")


@pytest.mark.parametrize("off", [HOUR, -HOUR, timedelta(0)])
async def test_a_fast_or_slow_holder_and_one_in_time_together_pass_no_cap(ledger: LedgerAt, off: timedelta) -> None:
    current = CurrentPolicy(policy(HOURLY))
    async with LedgerAuthority(ledger, current, lambda: TRUE) as authority:
        in_time = LeaseHolder("in-time", authority, lambda: TRUE)
        skewed = LeaseHolder("skewed", authority, lambda: TRUE + off)
        async with in_time, skewed:
            by_both = await admitted_by(authority, skewed, TRUE + off) + await admitted_by(authority, in_time, TRUE)
    this_hour = account_of(HOURLY, TRUE)
    books = everything_holds(ledger, served={this_hour: 1000})
    assert by_both == 10
    assert books.accounts[this_hour].spent == 1000
    assert set(books.accounts) == {this_hour}


async def test_an_hour_that_was_is_charged_to_itself_by_a_slow_holder_and_within_its_cap(ledger: LedgerAt) -> None:
    current, now = CurrentPolicy(policy(HOURLY)), TRUE - HOUR
    async with LedgerAuthority(ledger, current, lambda: now) as authority:
        early = LeaseHolder("early", authority, lambda: now)
        async with early:
            hold = await early.hold(demand(now))
            assert isinstance(hold, Hold)
            early.settle(hold, hold.unused)
        now = TRUE
        slow = LeaseHolder("slow", authority, lambda: TRUE - HOUR)
        async with slow:
            await admitted_by(authority, slow, TRUE - HOUR)
    books = everything_holds(ledger)
    was = books.accounts[account_of(HOURLY, TRUE - HOUR)]
    assert was.spent <= was.cap
    assert account_of(HOURLY, TRUE) not in books.accounts


@pytest.mark.parametrize("off", [HOUR, -HOUR])
async def test_leases_lapse_by_the_authoritys_clock_alone(ledger: LedgerAt, off: timedelta) -> None:
    now = TRUE
    async with LedgerAuthority(ledger, CurrentPolicy(policy(MONTHLY)), lambda: now) as authority:
        account = account_of(MONTHLY, TRUE + off)
        ask = partial(LeaseRequest, "skewed", wants=(Want(account, 100, 100),))
        granted = (await authority.lease(ask(sequence=1))).granted
        assert [one.expires for one in granted] == [TRUE + LEASE_TIME]
        usage = record("skewed", Charge(account, 60, 100), admitted_at=TRUE + off, finished_at=TRUE + off)
        await authority.report([usage])
        now = TRUE + LEASE_TIME
        await authority.lapse_unheard()
        assert everything_holds(ledger, served={account: 60}).accounts[account].held == 40
        now += timedelta(seconds=1)
        await authority.lapse_unheard()
        assert everything_holds(ledger, served={account: 60}).accounts[account].unreconciled == 40


async def test_a_holder_ahead_of_the_windows_end_is_refused_as_of_an_account_that_is_not_there_yet(
    ledger: LedgerAt,
) -> None:
    async with LedgerAuthority(ledger, CurrentPolicy(policy(HOURLY)), lambda: TRUE) as authority:
        next_hour = account_of(HOURLY, TRUE + HOUR)
        reply = await authority.lease(LeaseRequest("fast", 1, (Want(next_hour, 1, 100),)))
        assert [one.reason for one in reply.refused] == [Reason.UNKNOWN_ACCOUNT]
    assert not everything_holds(ledger).accounts
