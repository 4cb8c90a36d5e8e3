"""B7: a budget that is deleted and written again with another window goes on with what was spent (both storages)."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ledger.builders import NOW, Desk, account_of, budget, grant, policy, record
from tests.ledger.conftest import NewLedger
from tests.ledger.stints import Left, Stints
from tollkeeper.grants import own_left
from tollkeeper.leases import Reason, Want
from tollkeeper.limits import Enforcement, Limit
from tollkeeper.usage import Charge, UsageRecord
from tollkeeper.windows import Calendar, Every
from tollkeeper_ledger import corrections, handing
from tollkeeper_ledger.corrections import Change
from tollkeeper_ledger.export import verify
from tollkeeper_ledger.replay import replay
from tollkeeper_ledger.storage import LedgerAt

TODAY = datetime(2026, 11, 21, tzinfo=UTC)
TUESDAY, WEDNESDAY = (datetime(2026, 11, day, 12, tzinfo=UTC) for day in (17, 18))
MONTH, WEEK, DAY, OTHER_ZONE, FROM_TODAY, PREPAID = (
    budget(calendar=calendar)
    for calendar in (
        Calendar.every(Every.MONTH),
        Calendar.every(Every.WEEK),
        Calendar.every(Every.DAY),
        Calendar.every(Every.MONTH, "Asia/Tokyo"),
        Calendar.custom(timedelta(days=30), TODAY + timedelta(hours=1)),
        Calendar.FOREVER,
    )
)
EVERY_WINDOW = (MONTH, WEEK, DAY, OTHER_ZONE, FROM_TODAY, PREPAID)


@pytest.fixture
def desk(ledger: LedgerAt) -> Iterator[Desk]:
    desk = Desk(ledger, MONTH)
    with closing(desk.store):
        yield desk


def write_again(desk: Desk, limit: Limit, now: datetime = NOW) -> str:
    """The object is deleted and written again; the operator opens what it counts in."""
    desk.policy = policy(limit)
    desk.open(limit, now)
    return account_of(limit, now)


def spend(desk: Desk, account: str, amount: int, now: datetime = NOW) -> None:
    assert desk.lease("g1", Want(account, amount, amount), now=now).granted
    desk.charge(record("g1", Charge(account, amount, amount)), now=now)


def adjust(desk: Desk, account: str, amount: int, now: datetime = NOW) -> None:
    change = Change(account, amount)
    desk.do(lambda work: corrections.adjust(work, desk.policy, change, reason="x", reference=None, now=now))


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


def test_a_window_that_ended_by_itself_is_not_continued(desk: Desk) -> None:
    spend(desk, account_of(MONTH), 900)
    later = NOW + timedelta(days=14)
    known = desk.account(write_again(desk, replace(WEEK, rollover=0), later))
    assert known.spent == 0


def test_a_past_window_that_is_opened_for_a_late_usage_takes_nothing_over_twice(desk: Desk) -> None:
    spend(desk, account_of(MONTH), 300)
    soft = replace(WEEK, enforcement=Enforcement.SOFT)
    week = write_again(desk, soft)
    before, past = NOW - timedelta(days=7), account_of(WEEK, NOW - timedelta(days=7))
    desk.charge(record("g", Charge(past, 20, 0), admitted_at=before, finished_at=before))
    assert (desk.account(past).spent, desk.account(week).spent) == (20, 300)
    adjust(desk, account_of(MONTH), 100)
    assert (desk.account(past).spent, desk.account(week).spent) == (20, 200)


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


steps = st.lists(
    st.one_of(
        st.tuples(st.just("write again"), st.integers(0, len(EVERY_WINDOW) - 1)),
        st.tuples(st.sampled_from(("lease", "charge", "return", "lapse", "grant", "adjust")), st.integers(1, 300)),
    ),
    max_size=14,
)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps, st.data())
def test_whatever_windows_a_budget_has_had_it_has_left_what_was_put_in_less_what_was_used(
    new_ledger: NewLedger, steps: list[tuple[str, int]], data: st.DataObject
) -> None:
    desk = Desk(new_ledger(), MONTH)
    with closing(desk.store):
        current, now, out, left = write_again(desk, MONTH), NOW, dict[str, int](), 1000
        for number, (step, amount) in enumerate(steps):
            now += timedelta(seconds=1)
            named = data.draw(st.sampled_from(sorted({current, *out})))
            if step == "write again":
                current = write_again(desk, EVERY_WINDOW[amount], now)
            elif step == "lease":
                given_ = sum(one.amount for one in desk.lease("g", Want(current, 1, amount), now=now).granted)
                out[current] = out.get(current, 0) + given_
                assert given_ <= max(0, left)
                left -= given_
            elif step == "charge":
                desk.charge(record("g", Charge(named, amount, amount)), now=now)
                beyond = max(0, amount - out.get(named, 0))
                out[named] = out.get(named, 0) - (amount - beyond)
                left -= beyond
            elif step == "return":
                desk.lease("g", returns={named: amount}, now=now)
                back = min(amount, out.get(named, 0))
                out[named] = out.get(named, 0) - back
                left += back
            elif step == "lapse":
                desk.lapse("g", now=now)
            elif step == "grant":
                desk.book_grant(grant(amount, f"g{number}"), desk.policy.limits[0], now)
                left += amount
            else:
                adjust(desk, named, -amount, now)
                left -= amount
            known = desk.account(current)
            assert known.balance - known.held == left
        verify(desk.export())


DAY_ELSEWHERE = budget(calendar=Calendar.every(Every.DAY, "Asia/Kolkata"))
OF_OTHER_STARTS = (MONTH, WEEK, DAY_ELSEWHERE, OTHER_ZONE, FROM_TODAY, PREPAID)
"""No day begins with a week or a month. Where one that had ended goes on as another from the same start, what comes late for
the day is not handed on anew: with `EVERY_WINDOW`, nothing comes late."""
ROLLING = tuple(replace(one, rollover=300) for one in OF_OTHER_STARTS)

USES = ("lease", "charge", "return", "lapse", "grant", "adjust")
writing_again = st.tuples(st.just("write again"), st.integers(0, 6))
days = st.lists(
    st.one_of(
        writing_again,
        writing_again,
        st.tuples(st.just("wait"), st.integers(12, 72)),
        st.tuples(st.sampled_from(USES), st.integers(1, 700)),
    ),
    min_size=8,
    max_size=30,
)


def use(desk: Desk, stints: Stints, step: str, account: str, amount: int, now: datetime) -> None:
    """One of `USES` of an account, in the ledger and in what it is compared with."""
    if step == "lease":
        stints.held[account] += sum(one.amount for one in desk.lease("g", Want(account, 1, amount), now=now).granted)
    elif step == "charge":
        desk.charge(record("g", Charge(account, amount, amount)), now=now)
        stints.use(account, amount)
    elif step == "return":
        desk.lease("g", returns={account: amount}, now=now)
        stints.held[account] -= min(amount, stints.held[account])
    elif step == "lapse":
        desk.lapse("g", now=now)
    elif step == "grant":
        desk.book_grant(grant(amount, now.isoformat()), desk.policy.limits[0], now)
        stints.grant(amount)
    else:
        adjust(desk, account, -amount, now)
        stints.adjust(account, amount)


def left_in(desk: Desk, name: str) -> Left:
    """What an account has left of its own and of grants; what is held is used."""
    account = desk.account(name)
    own = own_left(account, desk.do(lambda work: handing.alive(work, account)))
    return Left(own, account.balance - account.held - own)


def check_books(desk: Desk) -> None:
    """The chain holds, and balances are the sums of its entries."""
    verify(desk.export())
    balances = {name: known.balance for name, known in replay(desk.export()).items()}
    assert balances == {name: desk.account(name).balance for name in balances}


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(days, st.sampled_from((OF_OTHER_STARTS, ROLLING, EVERY_WINDOW)), st.integers(0, 9), st.data())
def test_from_day_to_day_whatever_windows_a_budget_has_no_grant_is_lost_or_there_twice(
    new_ledger: NewLedger, steps: list[tuple[str, int]], windows: tuple[Limit, ...], start: int, data: st.DataObject
) -> None:
    desk, stints, now = Desk(new_ledger()), Stints(), NOW + timedelta(days=start)
    with closing(desk.store):
        limit = windows[0]
        for step, amount in [("write again", 0), ("grant", 500), *steps]:
            now += timedelta(hours=amount) if step == "wait" else timedelta(minutes=1)
            if step == "wait":
                continue
            limit = windows[amount % len(windows)] if step == "write again" else limit
            current = write_again(desk, limit, now)
            assert stints.count(limit, now) == current
            if step == "lease" and windows is EVERY_WINDOW:
                step = "adjust"
            if step in USES:
                named = current
                if step in ("charge", "return", "adjust"):
                    named = data.draw(st.sampled_from(sorted({current, *+stints.held})))
                if named != current and step != "return":
                    amount = min(amount, stints.spare + (stints.held[named] if step == "charge" else 0))
                if amount:
                    use(desk, stints, step, named, amount, now)
            assert left_in(desk, current) == stints.left
        check_books(desk)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(days, st.integers(0, 9))
def test_a_grant_that_nothing_burns_is_there_once_until_it_expires_whatever_windows_a_budget_has(
    new_ledger: NewLedger, steps: list[tuple[str, int]], start: int
) -> None:
    desk, now = Desk(new_ledger()), NOW + timedelta(days=start)
    granted: list[tuple[datetime, int]] = []
    with closing(desk.store):
        limit = MONTH
        for step, amount in [("write again", 0), ("grant", 500), *steps]:
            now += timedelta(hours=amount) if step == "wait" else timedelta(minutes=1)
            if step == "wait":
                continue
            limit = EVERY_WINDOW[amount % len(EVERY_WINDOW)] if step == "write again" else limit
            current = write_again(desk, limit, now)
            if step == "grant":
                granted.append((now + timedelta(hours=amount), amount))
                desk.book_grant(grant(amount, now.isoformat(), expires_at=granted[-1][0]), limit, now)
            elif step == "lease":
                desk.lease("g", Want(current, 1, 1 + amount % 30), now=now)
            elif step in ("charge", "return"):
                desk.lease("g", returns={current: amount % 20}, now=now)
            assert left_in(desk, current).grants == sum(amount for until, amount in granted if now < until)
        check_books(desk)
