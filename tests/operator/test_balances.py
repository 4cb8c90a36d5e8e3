"""Balances over a real ledger: what the turn of a window does to keys that nobody uses in the new one."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.ledger.builders import budget, policy, record
from tests.operator.conftest import Clock

from tollkeeper.leases import LeaseRequest, Want
from tollkeeper.lenders import with_lenders
from tollkeeper.limits import Dimension
from tollkeeper.policy import CurrentPolicy
from tollkeeper.usage import Charge
from tollkeeper.windows import Calendar, Every
from tollkeeper_operator.balances import Balances
from tollkeeper_webhook.authority import LedgerAuthority

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
