"""Corrections of closed windows while no limit is known: what they change is handed on once, when it is (both storages)."""

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ledger.builders import NOW, Desk, account_of, budget, grant, policy
from tests.ledger.conftest import NewLedger
from tollkeeper.amounts import Unit
from tollkeeper.windows import Calendar
from tollkeeper_ledger import corrections, handing
from tollkeeper_ledger.corrections import Change
from tollkeeper_ledger.export import verify
from tollkeeper_ledger.storage import LedgerAt

DECEMBER, JANUARY = NOW + timedelta(days=20), NOW + timedelta(days=50)
LIMIT = budget(rollover=250)
PREPAID = budget(calendar=Calendar.FOREVER)
IN_NOVEMBER, IN_DECEMBER, IN_JANUARY = (account_of(LIMIT, at) for at in (NOW, DECEMBER, JANUARY))


@pytest.fixture
def desk(ledger: LedgerAt) -> Iterator[Desk]:
    desk = Desk(ledger, LIMIT)
    with closing(desk.store):
        yield desk


def adjust(desk: Desk, account: str, amount: int, now: datetime = DECEMBER) -> None:
    change = Change(account, amount)
    desk.do(lambda work: corrections.adjust(work, desk.policy, change, reason="late", reference=None, now=now))


def owed(desk: Desk) -> list[str]:
    with desk.reader() as reader:
        return list(reader.owed())


def settle(desk: Desk, now: datetime = DECEMBER) -> list[bool]:
    return [desk.do(partial(handing.settle_owed, policy=desk.policy, mark=mark, now=now)) for mark in owed(desk)]


def without_policy(desk: Desk, account: str, *amounts: int, now: datetime = DECEMBER) -> None:
    known = desk.policy
    desk.policy = policy()
    for amount in amounts:
        adjust(desk, account, amount, now)
    desk.policy = known


def test_a_correction_without_a_policy_is_handed_on_once_when_the_limit_is_known(desk: Desk) -> None:
    desk.open(LIMIT)
    adjust(desk, IN_NOVEMBER, -900, NOW)
    desk.open(LIMIT, DECEMBER)
    assert desk.account(IN_DECEMBER).rolled_over == 100
    without_policy(desk, IN_NOVEMBER, 70)
    assert desk.account(IN_DECEMBER).rolled_over == 100
    mark = owed(desk)[0]
    assert settle(desk) == [True]
    assert (desk.account(IN_DECEMBER).rolled_over, owed(desk)) == (170, [])
    assert desk.do(lambda work: handing.settle_owed(work, desk.policy, mark, DECEMBER)) is False
    assert desk.account(IN_DECEMBER).rolled_over == 170
    verify(desk.export())


def test_while_the_limit_is_not_known_it_stays_owed(desk: Desk) -> None:
    desk.open(LIMIT)
    adjust(desk, IN_NOVEMBER, -900, NOW)
    desk.open(LIMIT, DECEMBER)
    without_policy(desk, IN_NOVEMBER, 70)
    known, desk.policy = desk.policy, policy()
    assert settle(desk) == [False]
    assert len(owed(desk)) == 1
    desk.policy = known


def test_what_is_owed_goes_on_through_windows_that_have_closed_as_well(desk: Desk) -> None:
    desk.open(LIMIT)
    adjust(desk, IN_NOVEMBER, -900, NOW)
    desk.open(LIMIT, DECEMBER)
    adjust(desk, IN_DECEMBER, -1050, DECEMBER)
    desk.open(LIMIT, JANUARY)
    assert desk.account(IN_JANUARY).rolled_over == 50
    without_policy(desk, IN_NOVEMBER, 70, now=JANUARY)
    settle(desk, JANUARY)
    assert (desk.account(IN_DECEMBER).rolled_over, desk.account(IN_JANUARY).rolled_over) == (170, 120)


def test_what_is_left_of_a_grant_is_handed_on_at_once(desk: Desk) -> None:
    desk.open(LIMIT)
    desk.book_grant(grant(500), LIMIT)
    adjust(desk, IN_NOVEMBER, -1200, NOW)
    desk.open(LIMIT, DECEMBER)
    assert desk.account(IN_DECEMBER).granted == 300
    without_policy(desk, IN_NOVEMBER, 50)
    assert desk.account(IN_DECEMBER).granted == 350
    settle(desk)
    assert (desk.account(IN_DECEMBER).granted, desk.account(IN_DECEMBER).rolled_over) == (350, 0)


def test_what_is_owed_ends_without_a_rollover_when_the_budget_is_prepaid_by_then(desk: Desk) -> None:
    desk.open(LIMIT)
    adjust(desk, IN_NOVEMBER, -900, NOW)
    desk.open(LIMIT, DECEMBER)
    without_policy(desk, IN_NOVEMBER, 70)
    desk.policy = policy(PREPAID)
    desk.open(PREPAID, DECEMBER)
    balance = desk.account(account_of(PREPAID)).balance
    assert (settle(desk), owed(desk)) == ([True], [])
    assert desk.account(account_of(PREPAID)).balance == balance
    verify(desk.export())


def test_a_budget_that_is_prepaid_owes_nothing_for_its_closed_windows(desk: Desk) -> None:
    desk.open(LIMIT)
    adjust(desk, IN_NOVEMBER, -900, NOW)
    desk.open(LIMIT, DECEMBER)
    desk.policy = policy(PREPAID)
    adjust(desk, IN_NOVEMBER, 70)
    assert owed(desk) == []


def test_what_is_owed_in_a_unit_in_which_the_limit_does_not_count_is_not_payable(desk: Desk) -> None:
    desk.open(LIMIT)
    adjust(desk, IN_NOVEMBER, -900, NOW)
    desk.open(LIMIT, DECEMBER)
    without_policy(desk, IN_NOVEMBER, 70)
    (mark,) = owed(desk)
    in_tokens = budget(rollover=250, unit=Unit.TOKENS)
    payable = [handing.is_payable(policy(*limits), mark) for limits in ((), (in_tokens,), (LIMIT,))]
    assert payable == [False, False, True]


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(-400, 400).filter(bool)), max_size=6))
def test_with_or_without_a_policy_the_next_window_ends_with_the_same(
    new_ledger: NewLedger, changes: list[tuple[bool, bool, int]]
) -> None:
    ends = []
    for with_policy in (True, False):
        desk = Desk(new_ledger(), LIMIT)
        with closing(desk.store):
            desk.open(LIMIT)
            desk.book_grant(grant(300), LIMIT)
            adjust(desk, IN_NOVEMBER, -1000, NOW)
            desk.open(LIMIT, DECEMBER)
            for unknown, settled, amount in changes:
                if amount > desk.account(IN_NOVEMBER).spent:
                    continue
                if unknown and not with_policy:
                    without_policy(desk, IN_NOVEMBER, amount)
                else:
                    adjust(desk, IN_NOVEMBER, amount)
                if settled:
                    settle(desk)
            settle(desk)
            assert owed(desk) == []
            known = desk.account(IN_DECEMBER)
            ends.append((known.rolled_over, known.granted, known.balance))
            verify(desk.export())
    assert ends[0] == ends[1]
