"""Grants: burn order, expiry in the middle of a period, and what goes over (B8)."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.accounts import Account
from tollkeeper.amounts import Unit
from tollkeeper.grants import Purse, Share, carry, remaining
from tollkeeper.limits import Limit, LimitRef
from tollkeeper.windows import Calendar, Every

START = datetime(2026, 11, 1, tzinfo=UTC)
HOURS = 24 * 30


def share(name: str, amount: int = 100, priority: int = 10, created: int = 0, expires: int | None = None) -> Share:
    ends = None if expires is None else START + timedelta(hours=expires)
    return Share(name, amount, priority, START + timedelta(hours=created), ends)


def shares() -> st.SearchStrategy[tuple[Share, ...]]:
    one = st.builds(
        share,
        name=st.uuids().map(str),
        amount=st.integers(0, 300),
        priority=st.integers(0, 2),
        created=st.integers(0, 3),
        expires=st.none() | st.integers(1, HOURS),
    )
    return st.lists(one, max_size=5, unique_by=lambda s: s.grant).map(tuple)


USAGES = st.lists(st.tuples(st.integers(0, HOURS - 1), st.integers(0, 200)), max_size=12).map(
    lambda usages: [(START + timedelta(hours=hour), amount) for hour, amount in sorted(usages)]
)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (share("a", priority=1), share("b", priority=2, expires=5)),
        (share("a", expires=5), share("b", expires=9)),
        (share("a", expires=5), share("b")),
        (share("a", created=1), share("b", created=2)),
    ],
    ids=["priority", "expiry", "never expires last", "age"],
)
def test_grants_burn_by_priority_then_expiry_then_age(first: Share, then: Share) -> None:
    """R4."""
    for order in ((first, then), (then, first)):
        assert remaining(order, base=50, used=50) == {"a": 100, "b": 100}
        assert remaining(order, base=50, used=120) == {"a": 30, "b": 100}
        assert remaining(order, base=50, used=200) == {"a": 0, "b": 50}


def test_what_was_burned_before_a_grant_expired_stays_burned() -> None:
    purse = Purse(base=100, used=0, shares=(share("short", 100, expires=10), share("long", 100)))
    ended = purse.run([(START, 160), (START + timedelta(hours=20), 30)], START + timedelta(days=30))
    assert (ended.base, ended.used, ended.left()) == (160, 190, {"long": 70})


def test_a_grant_that_expires_before_its_turn_burns_nothing() -> None:
    purse = Purse(base=100, used=0, shares=(share("short", 100, expires=10),))
    ended = purse.run([(START + timedelta(hours=20), 160)], START + timedelta(days=30))
    assert (ended.base, ended.used, ended.shares) == (100, 160, ())


@given(base=st.integers(0, 500), granted=shares(), usages=USAGES, middle=st.integers(0, HOURS))
def test_a_run_over_a_period_equals_two_runs_over_its_halves(
    base: int, granted: tuple[Share, ...], usages: list[tuple[datetime, int]], middle: int
) -> None:
    half, end = START + timedelta(hours=middle), START + timedelta(hours=HOURS)
    purse = Purse(base, 0, granted)
    first = purse.run([usage for usage in usages if usage[0] < half], half)
    assert first.run([usage for usage in usages if usage[0] >= half], end) == purse.run(usages, end)


@given(base=st.integers(0, 500), granted=shares(), usages=USAGES)
def test_nothing_is_made_or_lost_but_what_expires(
    base: int, granted: tuple[Share, ...], usages: list[tuple[datetime, int]]
) -> None:
    purse = Purse(base, 0, granted)
    for at, amount in usages:
        lapsed, before = sum(purse.lapsing(at).values()), purse
        purse = purse.expired(at)
        assert purse.base + sum(s.amount for s in purse.shares) == (
            before.base + sum(s.amount for s in before.shares) - lapsed
        )
        assert all(left == 0 or purse.used <= purse.base or left <= s.amount for s, left in _left(purse))
        purse = purse.run([(at, amount)], at)


def _left(purse: Purse) -> list[tuple[Share, int]]:
    return [(share, purse.left()[share.grant]) for share in purse.shares]


LIMIT = Limit(
    LimitRef("TokenBudget", "team", "monthly"), frozenset({"team"}), Unit.USD, Calendar.every(Every.MONTH), 1000,
    rollover=250,
)  # fmt: skip
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)


def november(granted: int = 0, spent: int = 0, held: int = 0) -> Account:
    return Account("a", START, DECEMBER, allocation=1000, granted=granted, spent=spent, held=held)


def test_the_rollover_is_capped_and_grants_go_over_whole() -> None:
    """R3."""
    over = carry(LIMIT, november(granted=400, spent=100), (share("g", 400),), DECEMBER, DECEMBER)
    assert (over.rolled_over, over.amounts) == (250, {"g": 400})


def test_what_is_held_at_the_end_does_not_go_over_yet() -> None:
    over = carry(LIMIT, november(granted=400, spent=900, held=300), (share("g", 400),), DECEMBER, DECEMBER)
    assert (over.rolled_over, over.amounts) == (0, {"g": 200})


def test_windows_without_an_account_give_their_allocation_to_the_rollover() -> None:
    february = datetime(2027, 2, 1, tzinfo=UTC)
    assert carry(LIMIT, november(spent=1000), (), DECEMBER, DECEMBER).rolled_over == 0
    assert carry(LIMIT, november(spent=1000), (), february, february).rolled_over == 250
