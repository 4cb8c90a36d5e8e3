"""Holders of whom nothing can come any more are forgotten; whoever is not, or comes late, counts as ever (both storages)."""

from functools import partial

import pytest

from tests.ledger.builders import NOW, Desk, account_of, budget, record
from tollkeeper.errors import InvalidValue
from tollkeeper.leases import LeaseRequest, Want
from tollkeeper.usage import Charge
from tollkeeper_ledger import bookkeeping
from tollkeeper_ledger.export import verify
from tollkeeper_ledger.state import Holder
from tollkeeper_ledger.work import Work

ACCOUNT = account_of(budget())


def without_leases(desk: Desk) -> list[Holder]:
    with desk.reader() as reader:
        return list(reader.holders_without_leases(10))


def forget(desk: Desk, holder: Holder) -> bool:
    return desk.do(partial(bookkeeping.forget, known=holder))


def test_a_closed_holder_is_refused_until_it_is_forgotten(desk: Desk) -> None:
    desk.lease("g1", Want(ACCOUNT, 100, 100))
    desk.close("g1")
    with pytest.raises(InvalidValue, match="holder g1 has ended"):
        desk.lease("g1", Want(ACCOUNT, 100, 100), sequence=1)
    desk.reopen()
    (closed,) = without_leases(desk)
    assert closed == Holder("g1", 1, closed=True)
    assert forget(desk, closed) is True
    assert without_leases(desk) == []
    assert desk.do(lambda work: work.holder("g1")) == Holder("g1")
    desk.reopen()
    assert desk.do(lambda work: work.holder("g1")) == Holder("g1")


def test_a_report_of_a_forgotten_holder_is_charged_as_it_says_and_once(desk: Desk) -> None:
    desk.lease("g1", Want(ACCOUNT, 100, 100))
    desk.close("g1")
    assert forget(desk, without_leases(desk)[0])
    for _ in range(2):
        desk.charge(record("g1", Charge(ACCOUNT, 60, 100), request="late"))
    account = desk.account(ACCOUNT)
    assert (account.spent, account.held, account.unreconciled) == (60, 0, 0)
    verify(desk.export())


def test_a_holder_of_whom_something_stands_as_unreconciled_is_known_until_it_is_settled(desk: Desk) -> None:
    desk.lease("g1", Want(ACCOUNT, 100, 100))
    desk.close("g1", {ACCOUNT: 40})
    assert without_leases(desk) == []
    assert forget(desk, Holder("g1", 1, closed=True)) is False
    desk.charge(record("g1", Charge(ACCOUNT, 30, 40)))
    assert (desk.account(ACCOUNT).spent, desk.account(ACCOUNT).unreconciled) == (30, 0)
    assert forget(desk, without_leases(desk)[0]) is True


def test_whoever_was_heard_of_meanwhile_is_not_forgotten(desk: Desk) -> None:
    desk.lease("g1")
    (seen,) = without_leases(desk)
    desk.lease("g1")
    assert forget(desk, seen) is False
    desk.close("g1")
    assert forget(desk, Holder("g1", 2)) is False


def test_a_holder_that_comes_back_after_all_begins_anew(desk: Desk) -> None:
    desk.lease("g1", sequence=7)
    assert forget(desk, without_leases(desk)[0])
    assert desk.lease("g1", Want(ACCOUNT, 10, 10), sequence=8).granted
    assert not desk.lease("g1", Want(ACCOUNT, 10, 10), sequence=8).granted
    assert desk.account(ACCOUNT).held == 10


def test_one_that_is_forgotten_and_comes_back_in_one_commit_is_known(desk: Desk) -> None:
    desk.lease("g1")
    (seen,) = without_leases(desk)

    def both(work: Work) -> None:
        assert bookkeeping.forget(work, seen)
        request = LeaseRequest("g1", 9, (Want(ACCOUNT, 10, 10),), {})
        bookkeeping.lease(work, desk.policy, request, NOW, NOW)

    desk.do(both)
    desk.reopen()
    assert desk.do(lambda work: work.holder("g1")).sequence == 9
    assert desk.account(ACCOUNT).held == 10
