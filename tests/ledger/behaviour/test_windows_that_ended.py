"""B7: a budget that is written again after its window ended by itself: what goes on, and what does not (both storages)."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.ledger.builders import NOW, Desk, account_of, grant
from tests.ledger.written_again import DAY, MONTH, PREPAID, WEEK, left_in, spend, write_again
from tollkeeper.leases import Want
from tollkeeper_ledger.export import verify
from tollkeeper_ledger.storage import LedgerAt


@pytest.fixture
def desk(ledger: LedgerAt) -> Iterator[Desk]:
    desk = Desk(ledger, MONTH)
    with closing(desk.store):
        yield desk


def test_a_window_that_ended_by_itself_is_not_continued(desk: Desk) -> None:
    spend(desk, account_of(MONTH), 900)
    later = NOW + timedelta(days=14)
    known = desk.account(write_again(desk, replace(WEEK, rollover=0), later))
    assert known.spent == 0


def test_a_grant_is_spent_once_although_the_window_that_took_it_has_ended_when_the_first_one_comes_back(
    desk: Desk,
) -> None:
    tuesday, wednesday, thursday = (datetime(2026, 11, day, 12, tzinfo=UTC) for day in (17, 18, 19))
    desk.open(MONTH, tuesday)
    desk.book_grant(grant(500), MONTH, tuesday)
    day = write_again(desk, DAY, wednesday)
    spend(desk, day, 1400, wednesday)
    month = desk.account(write_again(desk, MONTH, thursday))
    assert (month.granted, month.balance) == (100, 1100), "400 of the grant were spent on Wednesday"
    verify(desk.export())


def test_a_grant_goes_from_the_window_that_ended_last_into_the_next_one(desk: Desk) -> None:
    tuesday, wednesday, thursday, monday = (datetime(2026, 11, day, 12, tzinfo=UTC) for day in (17, 18, 19, 23))
    write_again(desk, WEEK, tuesday)
    desk.book_grant(grant(500), WEEK, tuesday)
    write_again(desk, DAY, wednesday)
    week = write_again(desk, WEEK, thursday)
    spend(desk, week, 1500, thursday)
    desk.open(WEEK, monday)
    assert desk.account(account_of(WEEK, monday)).granted == 0


def test_a_window_that_began_before_the_last_one_ended_goes_on_with_what_that_one_left(desk: Desk) -> None:
    tuesday, thursday = (datetime(2026, 11, day, 12, tzinfo=UTC) for day in (17, 19))
    write_again(desk, replace(DAY, rollover=200), tuesday)
    desk.book_grant(grant(500), desk.policy.limits[0], tuesday)
    spend(desk, account_of(DAY, tuesday), 900, tuesday)
    week = write_again(desk, replace(WEEK, rollover=200), thursday)
    assert left_in(desk, week) == (1100, 500)


def test_a_prepaid_window_goes_on_with_the_grants_that_the_last_one_left(desk: Desk) -> None:
    desk.book_grant(grant(500), MONTH)
    known = desk.account(write_again(desk, PREPAID, NOW + timedelta(days=14)))
    assert known.granted == 500


def test_what_comes_back_late_goes_on_in_a_window_that_began_before_its_own_ended(desk: Desk) -> None:
    tuesday, thursday = (datetime(2026, 11, day, 12, tzinfo=UTC) for day in (17, 19))
    day = write_again(desk, DAY, tuesday)
    desk.book_grant(grant(500), DAY, tuesday)
    desk.lease("g1", Want(day, 1300, 1300), now=tuesday)
    week = write_again(desk, WEEK, thursday)
    assert desk.account(week).granted == 200
    desk.lease("g1", returns={day: 250}, now=thursday)
    assert (desk.account(week).granted, desk.lease("g1", Want(day, 1, 1), now=thursday).granted) == (450, ())


def test_a_day_that_ended_and_goes_on_as_a_week_has_what_the_days_after_it_left(desk: Desk) -> None:
    monday, wednesday = (datetime(2026, 11, day, 12, tzinfo=UTC) for day in (16, 18))
    week = write_again(desk, DAY, monday)
    desk.book_grant(grant(500), DAY, monday)
    spend(desk, write_again(desk, DAY, wednesday), 1400, wednesday)
    assert write_again(desk, WEEK, wednesday) == week
    assert left_in(desk, week) == (0, 100)


def test_what_a_window_holds_itself_counts_in_it_alone_when_it_comes_back(desk: Desk) -> None:
    tuesday, wednesday, monday = (datetime(2026, 11, day, 12, tzinfo=UTC) for day in (17, 18, 23))
    month = write_again(desk, MONTH, tuesday)
    desk.book_grant(grant(500), MONTH, tuesday)
    desk.lease("g1", Want(month, 1200, 1200), now=tuesday)
    write_again(desk, WEEK, wednesday)
    week = write_again(desk, WEEK, monday)
    assert left_in(desk, week) == (1000, 300)
    write_again(desk, MONTH, monday)
    assert left_in(desk, month) == (0, 300), "1200 of the week's 1000 and of the grant's 500 are held"
    desk.lease("g1", returns={month: 1200}, now=monday)
    assert left_in(desk, month) == (1000, 500)
