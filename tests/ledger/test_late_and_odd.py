"""What comes late or twice, while something is held or after a holder was thought gone."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.ledger.builders import NOW, Desk, account_of, budget, record
from tests.ledger.test_bookkeeping import grant
from tollkeeper.accounts import Account
from tollkeeper.books import GrantState
from tollkeeper.leases import Want
from tollkeeper.usage import Charge
from tollkeeper_ledger import opening
from tollkeeper_ledger.work import Work

LIMIT = budget()
ACCOUNT = account_of(LIMIT)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "ledger.db", LIMIT)
    yield desk
    desk.store.close()


def account(desk: Desk) -> Account:
    known = desk.store.account(ACCOUNT)
    assert known is not None
    return known[0]


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


def expire(desk: Desk) -> GrantState:
    work = Work(desk.store)
    expiring = grant(500, expires_at=NOW + timedelta(hours=1))
    state = opening.book_grant(work, expiring, LIMIT, NOW + timedelta(hours=2))
    desk.commit(work)
    return state


def test_a_grant_that_expires_leaves_cover_for_what_is_held_out_of_it(desk: Desk) -> None:
    work = Work(desk.store)
    opening.book_grant(work, grant(500, expires_at=NOW + timedelta(hours=1)), LIMIT, NOW)
    desk.commit(work)
    desk.lease("g1", Want(ACCOUNT, 1300, 1300))
    first = expire(desk)
    assert (first.expired, first.remaining) == (False, 300)
    assert (account(desk).granted, account(desk).held, account(desk).cap(LIMIT)) == (300, 1300, 1300)
    assert expire(desk) == first
    desk.charge(record("g1", Charge(ACCOUNT, 1100, 1300)))
    desk.lease("g1", returns={ACCOUNT: 200})
    last = expire(desk)
    assert (last.expired, last.remaining) == (True, 0)
    assert (account(desk).granted, account(desk).balance, account(desk).overshoot) == (100, 0, 0)
