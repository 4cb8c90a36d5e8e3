"""What the ledger promises of grants: booked once, burned in order, ended in time."""

from datetime import timedelta

import pytest

from tests.ledger.behaviour.test_bookkeeping import ACCOUNT, LIMIT, account
from tests.ledger.builders import NOW, Desk, budget, grant, record
from tollkeeper.errors import InvalidValue
from tollkeeper.leases import Want
from tollkeeper.usage import Charge
from tollkeeper_ledger.storage import LedgerAt


def test_a_grant_is_booked_exactly_once(desk: Desk) -> None:
    """R4."""
    for _ in range(2):
        state = desk.book_grant(grant(500), LIMIT)
    assert (account(desk).granted, state.remaining) == (500, 500)


def test_grants_burn_after_the_allocation_by_priority(desk: Desk) -> None:
    desk.lease("g1", Want(ACCOUNT, 1000, 1000))
    desk.book_grant(grant(500, "later", priority=20), LIMIT)
    desk.book_grant(grant(100, "first", priority=1), LIMIT)
    desk.lease("g1", Want(ACCOUNT, 300, 300))
    desk.charge(record("g1", Charge(ACCOUNT, 1300, 1300)))
    left = {name: desk.book_grant(grant(1, name), LIMIT).remaining for name in ("first", "later")}
    assert left == {"first": 0, "later": 300}


def test_an_expired_grant_takes_only_what_was_left_of_it(desk: Desk) -> None:
    expiring = grant(500, expires_at=NOW + timedelta(hours=1))
    desk.book_grant(expiring, LIMIT)
    desk.lease("g1", Want(ACCOUNT, 1200, 1200))
    desk.charge(record("g1", Charge(ACCOUNT, 1200, 1200)))
    for _ in range(2):
        state = desk.book_grant(expiring, LIMIT, NOW + timedelta(hours=2))
    assert (state.expired, state.remaining) == (True, 0)
    assert (account(desk).granted, account(desk).balance) == (200, 0)


def test_a_grant_that_was_over_before_it_was_booked_pays_for_nothing_that_was_spent(desk: Desk) -> None:
    desk.book_grant(grant(500), LIMIT)
    desk.lease("g1", Want(ACCOUNT, 1300, 1300))
    desk.charge(record("g1", Charge(ACCOUNT, 1300, 1300)))
    late = grant(400, "late", expires_at=NOW - timedelta(days=1))
    for _ in range(2):
        state = desk.book_grant(late, LIMIT)
        assert (state.expired, state.remaining) == (True, 0)
    assert (account(desk).granted, account(desk).balance) == (500, 200)
    assert desk.book_grant(grant(500), LIMIT).remaining == 200


def test_what_expires_of_a_grant_stands_among_the_payments(desk: Desk) -> None:
    expiring = grant(400, expires_at=NOW + timedelta(days=1))
    for now in (NOW, NOW + timedelta(days=2)):
        desk.book_grant(expiring, LIMIT, now)
    with desk.reader() as reader:
        rows = reader.payments(ACCOUNT, page=1, order="oldest").rows
    assert [(row.reason, row.amount, row.balance) for row in rows] == [("TopUp", 400, 1400), ("Expired", -400, 1000)]


def test_grants_beyond_what_can_be_counted_are_refused(ledger: LedgerAt) -> None:
    limit = budget(allocation=0)
    desk = Desk(ledger, limit)
    for number in range(4):
        desk.book_grant(grant(10**18, f"g{number}"), limit)
    with pytest.raises(InvalidValue, match="grant less"):
        desk.book_grant(grant(10**18, "one too many"), limit)
    desk.store.close()
