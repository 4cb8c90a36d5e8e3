"""B7: nothing is lost or there twice, whatever windows a budget has had (both storages)."""

from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ledger.builders import NOW, Desk, budget, grant, record
from tests.ledger.conftest import NewLedger
from tests.ledger.stints import Stints
from tests.ledger.written_again import (
    EVERY_WINDOW,
    FROM_TODAY,
    MONTH,
    OTHER_ZONE,
    PREPAID,
    WEEK,
    adjust,
    left_in,
    write_again,
)
from tollkeeper.leases import Want
from tollkeeper.limits import Limit
from tollkeeper.usage import Charge
from tollkeeper.windows import Calendar, Every
from tollkeeper_ledger.export import verify
from tollkeeper_ledger.replay import replay

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
