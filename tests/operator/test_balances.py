"""Balances over a real ledger: what the turn of a window does to keys that nobody uses in the new one."""

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from tests.ledger.builders import budget, policy, record
from tests.operator.conftest import Clock

from tollkeeper.accounts import Phase
from tollkeeper.amounts import Unit
from tollkeeper.counted import Counted
from tollkeeper.leases import LeaseRequest, Want
from tollkeeper.lenders import with_lenders
from tollkeeper.limits import Dimension, Limit, LimitRef
from tollkeeper.policy import CurrentPolicy
from tollkeeper.usage import Charge
from tollkeeper.windows import Calendar, Every
from tollkeeper_operator.balances import Balances
from tollkeeper_webhook.authority import LedgerAuthority

MINUTE = budget("minutes", 100, unit=Unit.REQUESTS, calendar=Calendar.every(Every.MINUTE))
QUOTA = replace(MINUTE, ref=LimitRef("TokenQuota", "team", "caps", "minutes"))
EACH_TENANT = replace(QUOTA, ref=LimitRef("TokenQuota", "team", "each", "minutes"), each_tenant=True)
STATED = policy(
    budget("above", 2000, tenants=frozenset({"org"}), lending=500),
    budget("each", 100, calendar=Calendar.every(Every.DAY), borrowing=200, per=(Dimension.USER,)),
)
MADE = replace(STATED, limits=with_lenders(STATED.limits, STATED.tenants)[0])
ABOVE, EACH = MADE.limits


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_loan_of_a_key_goes_back_when_its_window_ends_though_nobody_uses_the_key_again(
    tmp_path: Path, restarts: bool
) -> None:
    clock = Clock.at_noon()
    own, above = EACH.account_at(("ada",), clock())[0].text, ABOVE.account_at((), clock())[0].text
    with ThreadPoolExecutor(1) as threads:
        async with LedgerAuthority(tmp_path / "ledger.db", CurrentPolicy(MADE), clock) as books:

            def lent() -> int:
                lender = books.reader.account(above)
                assert lender is not None
                return lender.lent

            balances = Balances(books, threads)
            await books.lease(LeaseRequest("g", 1, (Want(own, 120, 120), Want(above, 120, 120))))
            await books.report([record("g", Charge(own, 120, 120), Charge(above, 120, 120), admitted_at=clock())])
            await balances.adopt(MADE, clock())
            assert lent() > 20, "what it spent, and what keeps it open"
            clock.ahead += timedelta(days=1)
            if restarts:
                balances = Balances(books, threads)
                await balances.adopt(MADE, clock())
            else:
                await balances.roll(balances.ended(clock()), clock())
            assert lent() == 20, "what it spent beyond its own credit"


@dataclass
class Minutes:
    """Balances of limits by the minute, over a ledger whose clock a test turns on."""

    books: LedgerAuthority
    balances: Balances
    clock: Clock

    async def next_minute(self) -> None:
        self.clock.ahead += timedelta(minutes=1)
        await self.balances.roll(self.balances.ended(self.clock()), self.clock())

    async def use(self, limit: Limit, amount: int) -> str:
        """Have a request charged in the minute of now; its account."""
        account = limit.account_at(("team",) if limit.each_tenant else (), self.clock())[0].text
        await self.books.report([record("g", Charge(account, amount, 0), admitted_at=self.clock())])
        return account

    def counted(self, limit: Limit) -> Counted:
        counted = self.balances.counted(limit.ref)
        assert counted is not None
        return counted

    @property
    def transactions(self) -> int:
        return int(self.books.reader.metadata()["transactions"])


@pytest_asyncio.fixture
async def minutes(tmp_path: Path) -> AsyncIterator[Minutes]:
    clock, stated = Clock.at_noon(), policy(QUOTA, EACH_TENANT)
    with ThreadPoolExecutor(1) as threads:
        async with LedgerAuthority(tmp_path / "ledger.db", CurrentPolicy(stated), clock) as books:
            balances = Balances(books, threads)
            await balances.adopt(stated, clock())
            yield Minutes(books, balances, clock)


async def test_a_window_that_nobody_uses_is_not_booked_and_stands_whole(minutes: Minutes) -> None:
    before = minutes.transactions
    for _ in range(3):
        await minutes.next_minute()
    await minutes.balances.adopt(policy(QUOTA, EACH_TENANT), minutes.clock())
    await minutes.balances.refresh(minutes.balances.shared_ids(), minutes.clock())
    assert minutes.transactions == before
    for limit in (QUOTA, EACH_TENANT):
        counted = minutes.counted(limit)
        (account,) = counted.accounts
        assert account.holds(minutes.clock())
        assert (account.balance, counted.total().allocation, counted.phase()) == (100, 100, Phase.SUFFICIENT)
        assert account.id == limit.account_at(("team",) if limit.each_tenant else (), minutes.clock())[0].text


@pytest.mark.parametrize("limit", [QUOTA, EACH_TENANT], ids=["one", "each tenant"])
async def test_the_first_use_of_an_idle_window_opens_it(minutes: Minutes, limit: Limit) -> None:
    await minutes.next_minute()
    used = await minutes.use(limit, 30)
    await minutes.balances.refresh([used], minutes.clock())
    assert [one.balance for one in minutes.counted(limit).accounts] == [70]


async def test_what_is_used_of_a_window_before_it_is_looked_at_is_seen(minutes: Minutes) -> None:
    minutes.clock.ahead += timedelta(minutes=1)
    await minutes.use(QUOTA, 30)
    await minutes.balances.roll(minutes.balances.ended(minutes.clock()), minutes.clock())
    assert minutes.counted(QUOTA).total().spent == 30


async def test_an_idle_window_after_one_that_was_used_up_is_told_as_a_move(minutes: Minutes) -> None:
    await minutes.balances.refresh([await minutes.use(QUOTA, 100)], minutes.clock())
    minutes.balances.moved()
    await minutes.next_minute()
    (moved,) = [one for one in minutes.balances.moved() if one.limit.ref == QUOTA.ref]
    assert moved.before is not None
    assert [one.phase(QUOTA) for one in (moved.before, moved.after)] == [Phase.INSUFFICIENT, Phase.SUFFICIENT]


async def test_an_idle_window_whose_limit_is_changed_is_opened_with_its_new_amount(minutes: Minutes) -> None:
    await minutes.next_minute()
    await minutes.balances.adopt(policy(replace(QUOTA, allocation=200), EACH_TENANT), minutes.clock())
    account = minutes.books.reader.account(minutes.counted(QUOTA).total().id)
    assert account is not None
    assert account.allocation == 200


async def test_a_window_into_which_something_goes_over_is_opened_at_once(tmp_path: Path) -> None:
    clock, rolls = Clock.at_noon(), replace(MINUTE, rollover=50)
    with ThreadPoolExecutor(1) as threads:
        async with LedgerAuthority(tmp_path / "ledger.db", CurrentPolicy(policy(rolls)), clock) as books:
            balances = Balances(books, threads)
            await balances.adopt(policy(rolls), clock())
            clock.ahead += timedelta(minutes=1)
            await balances.roll(balances.ended(clock()), clock())
            counted = balances.counted(rolls.ref)
            assert counted is not None
            assert counted.total().rolled_over == 50
            assert books.reader.account(counted.total().id) is not None
