"""A holder that never returns: what it held is nobody else's, counts against the cap, and is put right by who knows better."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest

from tests.faults.holding import everything_holds
from tests.ledger.builders import NOW, account_of, budget, policy, record
from tollkeeper.leases import LEASE_TIME, LeaseRequest, Want
from tollkeeper.policy import CurrentPolicy
from tollkeeper.usage import Charge
from tollkeeper_ledger.storage import LedgerAt
from tollkeeper_webhook.authority import LedgerAuthority

LIMIT = budget(allocation=1000, minimum=0)
ACCOUNT = account_of(LIMIT)
SERVED = 220
LONG = LEASE_TIME + timedelta(seconds=1)


class Running:
    """An authority whose time is the test's."""

    def __init__(self, ledger: LedgerAt) -> None:
        self.now = NOW
        self.ledger = ledger
        self.authority = LedgerAuthority(ledger, CurrentPolicy(policy(LIMIT)), self.time)
        self._sequence = 0

    def time(self) -> datetime:
        return self.now

    async def granted(self, holder: str, amount: int) -> int:
        """What a holder gets of an amount, at least one unit of it."""
        self._sequence += 1
        reply = await self.authority.lease(LeaseRequest(holder, self._sequence, (Want(ACCOUNT, 1, amount),)))
        return sum(one.amount for one in reply.granted)

    async def report(self, holder: str, request: str, amount: int) -> None:
        await self.authority.report([record(holder, Charge(ACCOUNT, amount, amount), request=request)])

    def stands(self) -> tuple[int, int, int]:
        """Spent, unreconciled and held, with everything checked."""
        account = everything_holds(self.ledger, served={ACCOUNT: SERVED}).accounts[ACCOUNT]
        return account.spent, account.unreconciled, account.held


@pytest.fixture
async def running(ledger: LedgerAt) -> AsyncIterator[Running]:
    one = Running(ledger)
    async with one.authority:
        # It takes 600, uses 220 of it, tells of 50, and is never heard of again.
        assert await one.granted("gone", 600) == 600
        await one.report("gone", "r1", 50)
        yield one


async def test_others_get_what_it_did_not_hold_and_no_more(running: Running) -> None:
    assert await running.granted("other", 1000) == 400
    assert await running.granted("other", 1) == 0
    running.now += LONG
    assert await running.granted("other", 1) == 0
    await running.authority.lapse_unheard()
    assert await running.granted("another", 1) == 0
    assert running.stands() == (50, 550, 400)


async def test_what_it_held_counts_as_used_for_as_long_as_nobody_knows_better(running: Running) -> None:
    for _ in range(30):
        running.now += timedelta(hours=8)
        await running.authority.lapse_unheard()
    assert running.stands() == (50, 550, 0)


async def test_a_start_of_the_authority_in_between_gives_it_one_more_lease_time(ledger: LedgerAt) -> None:
    before = Running(ledger)
    async with before.authority:
        assert await before.granted("gone", 600) == 600
        await before.report("gone", "r1", 50)
    again = Running(ledger)
    again.now += LONG
    async with again.authority:
        await again.authority.lapse_unheard()
        assert again.stands() == (50, 0, 550)
        again.now += LONG
        await again.authority.lapse_unheard()
        assert again.stands() == (50, 550, 0)


async def test_its_spool_that_is_found_hours_later_puts_it_right(running: Running) -> None:
    running.now += timedelta(hours=7)
    await running.authority.lapse_unheard()
    await running.report("gone", "r2", 100)
    assert running.stands() == (150, 450, 0)
    await running.report("gone", "r1", 50)
    await running.report("gone", "r3", 70)
    await running.authority.close("gone", {})
    assert running.stands() == (SERVED, 0, 0)
    assert await running.granted("other", 1000) == 1000 - SERVED


async def test_its_return_after_all_finds_its_lease_and_is_granted_no_more_than_there_is(running: Running) -> None:
    running.now += LONG
    await running.authority.lapse_unheard()
    assert await running.granted("other", 300) == 300
    assert await running.granted("gone", 300) == 100
    assert running.stands() == (50, 0, 950)


async def test_it_holds_nothing_of_the_next_window(running: Running) -> None:
    running.now += timedelta(days=30)
    await running.authority.lapse_unheard()
    december = account_of(LIMIT, running.now)
    reply = await running.authority.lease(LeaseRequest("other", 99, (Want(december, 1, 2000),)))
    assert [one.amount for one in reply.granted] == [1000]
    assert running.stands() == (50, 550, 0)
