"""B7: a budget that is written again within its window, which is cut off, goes on with what was spent (both storages)."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from tests.ledger.builders import NOW, Desk, account_of, budget, grant, policy, record
from tests.ledger.written_again import DAY, EVERY_WINDOW, MONTH, WEEK, adjust, left_in, spend, write_again
from tollkeeper.leases import Reason, Want
from tollkeeper.limits import Enforcement, Limit
from tollkeeper.usage import Charge, UsageRecord
from tollkeeper.windows import Calendar
from tollkeeper_ledger.storage import LedgerAt

TUESDAY, WEDNESDAY = (datetime(2026, 11, day, 12, tzinfo=UTC) for day in (17, 18))


@pytest.fixture
def desk(ledger: LedgerAt) -> Iterator[Desk]:
    desk = Desk(ledger, MONTH)
    with closing(desk.store):
        yield desk


@pytest.mark.parametrize("again", EVERY_WINDOW[1:], ids=("week", "day", "zone", "anchor", "prepaid"))
def test_a_budget_that_is_written_again_with_another_window_goes_on_with_what_was_spent(
    desk: Desk, again: Limit
) -> None:
    spend(desk, account_of(MONTH), 900)
    known = desk.account(write_again(desk, again))
    assert (known.allocation, known.spent, known.balance) == (1000, 900, 100)
    assert desk.lease("g2", Want(known.id, 101, 101)).refused
    assert desk.lease("g2", Want(known.id, 100, 100)).granted


def test_the_transaction_that_goes_on_names_the_account_that_it_is_from(desk: Desk) -> None:
    spend(desk, account_of(MONTH), 900)
    account = write_again(desk, WEEK)
    last = orjson.loads(desk.export()[-1])
    assert (last["kind"], last["usage"]) == ("continue", {"from": account_of(MONTH), "into": account})
    assert {entry["account"]: entry["amount"] for entry in last["entries"]} == {
        f"{account}#balance": -900,
        f"{account}#spent": 900,
    }


def test_what_is_held_when_the_window_is_cut_off_counts_until_it_is_settled_or_comes_back(desk: Desk) -> None:
    old = account_of(MONTH)
    desk.lease("g1", Want(old, 600, 600))
    new = write_again(desk, WEEK)
    assert desk.account(new).balance == 400
    desk.charge(record("g1", Charge(old, 50, 100)))
    assert desk.account(new).balance == 400
    desk.lease("g1", returns={old: 550})
    assert (desk.account(new).spent, desk.account(new).balance, desk.account(old).held) == (50, 950, 0)


def test_a_window_that_was_cut_off_grants_nothing_more(desk: Desk) -> None:
    old = account_of(MONTH)
    desk.lease("g1", Want(old, 100, 100))
    write_again(desk, WEEK)
    refused = desk.lease("g1", Want(old, 1, 1)).refused
    assert [(one.reason, one.held_by_others) for one in refused] == [(Reason.ENDED, False)]


def test_what_is_corrected_in_a_window_that_was_cut_off_is_corrected_where_it_goes_on(desk: Desk) -> None:
    old = account_of(MONTH)
    spend(desk, old, 900)
    new = write_again(desk, WEEK)
    adjust(desk, old, 300)
    assert (desk.account(old).spent, desk.account(new).spent) == (600, 600)


def test_a_holder_that_vanished_stands_as_used_where_its_account_goes_on(desk: Desk) -> None:
    old = account_of(MONTH)
    desk.lease("g1", Want(old, 600, 600))
    desk.lapse("g1")
    new = write_again(desk, WEEK)
    assert desk.account(new).balance == 400
    desk.charge(record("g1", Charge(old, 10, 600)))
    desk.lease("g1", returns={old: 590})
    assert desk.account(new).balance == 990


def test_what_is_left_of_grants_and_what_rolled_over_goes_on_too(desk: Desk) -> None:
    rolling = replace(MONTH, rollover=200)
    desk.policy = policy(rolling)
    desk.open(rolling, NOW - timedelta(days=30))
    desk.open(rolling)
    desk.book_grant(grant(500), rolling)
    spend(desk, account_of(MONTH), 1300)
    known = desk.account(write_again(desk, replace(WEEK, rollover=200)))
    assert (known.allocation, known.rolled_over, known.granted, known.spent) == (1000, 200, 500, 1300)
    assert left_in(desk, known.id) == (0, 400)


def test_the_next_window_after_it_begins_as_ever(desk: Desk) -> None:
    desk.book_grant(grant(500), MONTH)
    spend(desk, account_of(MONTH), 1100)
    write_again(desk, WEEK)
    later = NOW + timedelta(days=7)
    desk.open(WEEK, later)
    known = desk.account(account_of(WEEK, later))
    assert (known.allocation, known.granted, known.spent) == (1000, 400, 0)
    month = NOW + timedelta(days=14)
    write_again(desk, MONTH, month)
    known = desk.account(account_of(MONTH, month))
    assert known.granted == 400


def test_from_one_window_to_another_and_back_nothing_is_forgotten(desk: Desk) -> None:
    spend(desk, account_of(MONTH), 300)
    spend(desk, write_again(desk, WEEK), 300)
    spend(desk, write_again(desk, DAY), 300)
    month = write_again(desk, MONTH)
    assert (desk.account(month).spent, desk.account(month).balance) == (900, 100)
    assert desk.account(month).window_end == MONTH.calendar.window_at(NOW).end
    week = write_again(desk, WEEK)
    assert (desk.account(week).spent, desk.account(week).balance) == (900, 100)


def test_a_past_window_that_is_opened_for_a_late_usage_takes_nothing_over_twice(desk: Desk) -> None:
    spend(desk, account_of(MONTH), 300)
    soft = replace(WEEK, enforcement=Enforcement.SOFT)
    week = write_again(desk, soft)
    before, past = NOW - timedelta(days=7), account_of(WEEK, NOW - timedelta(days=7))
    desk.charge(record("g", Charge(past, 20, 0), admitted_at=before, finished_at=before))
    assert (desk.account(past).spent, desk.account(week).spent) == (20, 300)
    adjust(desk, account_of(MONTH), 100)
    assert (desk.account(past).spent, desk.account(week).spent) == (20, 200)


def test_a_late_usage_of_a_window_that_is_over_cuts_off_none_that_counts(desk: Desk) -> None:
    tuesday, wednesday = (datetime(2026, 11, day, 12, tzinfo=UTC) for day in (17, 18))
    week = write_again(desk, WEEK, tuesday)
    desk.charge(record("g1", Charge(week, 900, 0), admitted_at=wednesday, finished_at=wednesday), now=wednesday)
    desk.policy = policy(DAY)
    late = record("g1", Charge(account_of(DAY, tuesday), 10, 0), admitted_at=tuesday, finished_at=tuesday)
    desk.charge(late, now=wednesday)
    desk.open(DAY, wednesday)
    assert desk.account(account_of(DAY, wednesday)).balance == 100


def test_a_late_usage_goes_on_with_the_window_that_counts_although_an_older_one_held_its_moment_too(desk: Desk) -> None:
    new = _from_sunday_after_two_others(desk)
    desk.charge(_late(new), now=WEDNESDAY)
    assert desk.account(new).spent == 110


def test_a_report_that_also_charges_a_window_cut_off_before_goes_on_with_the_one_that_counts(desk: Desk) -> None:
    new = _from_sunday_after_two_others(desk)
    desk.charge(_late(account_of(MONTH, TUESDAY)), _late(new), now=WEDNESDAY)
    assert desk.account(new).spent == 120, "100 and the month's 10 of the week, and 10 of its own"


def _from_sunday_after_two_others(desk: Desk) -> str:
    """A month, cut off on Wednesday by the week, of which 100 are spent; what counts by the policy now, not opened yet."""
    from_sunday = budget(calendar=Calendar.custom(timedelta(days=30), datetime(2026, 11, 15, tzinfo=UTC)))
    write_again(desk, MONTH, TUESDAY)
    adjust(desk, write_again(desk, WEEK, WEDNESDAY), -100, WEDNESDAY)
    desk.policy = policy(from_sunday)
    return account_of(from_sunday, TUESDAY)


def _late(account: str) -> UsageRecord:
    return record("g", Charge(account, 10, 0), admitted_at=TUESDAY, finished_at=TUESDAY)
