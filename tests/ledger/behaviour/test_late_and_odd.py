"""What comes late, twice or too large: each was a fault once, kept from coming back."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.ledger.builders import NOW, Desk, account_of, budget, grant, record
from tollkeeper.accounts import Account
from tollkeeper.amounts import LARGEST
from tollkeeper.books import GrantState
from tollkeeper.errors import InvalidValue
from tollkeeper.leases import Want
from tollkeeper.limits import Limit
from tollkeeper.usage import Charge
from tollkeeper_ledger import bookkeeping, opening
from tollkeeper_ledger.errors import Unstorable
from tollkeeper_ledger.state import Charged
from tollkeeper_ledger.storage import LedgerAt
from tollkeeper_ledger.work import Work
from tollkeeper_ledger.writer import LedgerWriter

LIMIT = budget()
ACCOUNT = account_of(LIMIT)


def account(desk: Desk) -> Account:
    return desk.account(ACCOUNT)


def test_a_lapsed_holder_that_returns_all_and_asks_at_once_holds_what_it_is_granted(desk: Desk) -> None:
    desk.lease("g1", Want(ACCOUNT, 300, 300))
    desk.lapse("g1")
    desk.lease("g1", Want(ACCOUNT, 100, 100), returns={ACCOUNT: 300})
    desk.lease("g1")
    assert (account(desk).held, account(desk).unreconciled, account(desk).balance) == (100, 0, 1000)


def test_a_batch_that_comes_twice_is_granted_once(desk: Desk) -> None:
    assert desk.lease("g1", Want(ACCOUNT, 50, 50), sequence=7).granted
    assert desk.lease("g1", Want(ACCOUNT, 50, 50), sequence=7) == desk.lease("g1", Want(ACCOUNT, 50, 50), sequence=3)
    assert account(desk).held == 50


@pytest.mark.parametrize(("need", "desired", "ahead"), [(-1, 0, 0), (5, 4, 0), (0, 0, -1), (-9, -9, 0)])
def test_a_want_that_nobody_can_mean_is_refused(need: int, desired: int, ahead: int) -> None:
    with pytest.raises(InvalidValue, match="0 <= need <= desired"):
        Want(ACCOUNT, need, desired, ahead)


def test_a_grant_beyond_what_an_account_can_hold_is_refused_and_the_ledger_goes_on(desk: Desk) -> None:
    with pytest.raises(InvalidValue, match="grant less"):
        desk.book_grant(grant(LARGEST), LIMIT)
    assert desk.lease("g1", Want(ACCOUNT, 10, 10)).granted


def test_one_budget_that_fits_no_column_does_not_take_the_batch_of_the_others_along(ledger: LedgerAt) -> None:
    huge = budget("huge", allocation=LARGEST)
    desk = Desk(ledger, LIMIT, huge)
    desk.lease("g0", Want(account_of(huge), 1, 1))
    desk.policy = type(desk.policy)(
        2, desk.policy.tenants, (LIMIT, budget("huge", allocation=LARGEST + 1)), desk.policy.prices
    )
    reply = desk.lease("g1", Want(account_of(huge), 1, 1), Want(ACCOUNT, 10, 10))
    desk.store.close()
    assert [granted.account for granted in reply.granted] == [ACCOUNT]
    assert [refusal.account for refusal in reply.refused] == [account_of(huge)]


def test_a_fault_in_one_batch_books_nothing_of_it_and_does_not_end_the_writer(ledger: LedgerAt) -> None:
    desk = Desk(ledger, LIMIT)
    writer = LedgerWriter(desk.store, lambda _accounts: None)

    def beyond_a_column(work: Work) -> None:
        bookkeeping.charge_all(work, desk.policy, [record("g1", Charge(ACCOUNT, 1, 1))], NOW)
        booking = work.bookings[-1]
        work.bookings[-1] = replace(booking, charges=(Charged(ACCOUNT, [0], [2**63], [0]),))

    assert isinstance(writer.submit(beyond_a_column).exception(10), Unstorable)
    after = writer.submit(lambda work: opening.open_account(work, LIMIT, (), NOW)).result(10)
    writer.close()
    assert (after.spent, after.balance) == (0, 1000)


def expire(desk: Desk, limit: Limit, *, hours: int = 2) -> GrantState:
    return desk.book_grant(grant(500, expires_at=NOW + timedelta(hours=1)), limit, NOW + timedelta(hours=hours))


def test_a_grant_that_expires_leaves_cover_for_what_is_held_out_of_it(desk: Desk) -> None:
    desk.book_grant(grant(500, expires_at=NOW + timedelta(hours=1)), LIMIT)
    desk.lease("g1", Want(ACCOUNT, 1300, 1300))
    first = expire(desk, LIMIT)
    assert (first.expired, first.remaining) == (False, 300)
    assert (account(desk).granted, account(desk).held, account(desk).cap(LIMIT)) == (300, 1300, 1300)
    assert expire(desk, LIMIT) == first
    desk.charge(record("g1", Charge(ACCOUNT, 1100, 1300)))
    desk.lease("g1", returns={ACCOUNT: 200})
    last = expire(desk, LIMIT)
    assert (last.expired, last.remaining) == (True, 0)
    assert (account(desk).granted, account(desk).balance, account(desk).overshoot) == (100, 0, 0)


def test_what_an_expired_grant_left_behind_never_becomes_rollover(ledger: LedgerAt) -> None:
    limit = budget(allocation=100, rollover=1000)
    desk = Desk(ledger, limit)
    december = NOW.replace(month=12, day=1)
    desk.book_grant(grant(400, expires_at=december - timedelta(hours=13)), limit)
    desk.open(limit, december)
    known = desk.known(account_of(limit, december))
    desk.store.close()
    assert known is not None
    assert (known[0].allocation, known[0].rolled_over, known[0].granted) == (100, 100, 0)
