"""Balances, room, phases and the latch: rules B1 to B7 and M1, as algebra over whatever may happen to an account."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper import accounts as rules
from tollkeeper.accounts import RECENT_REQUESTS, Account, Phase
from tollkeeper.amounts import Unit
from tollkeeper.limits import AccountId, Enforcement, Limit, LimitRef
from tollkeeper.windows import Calendar, Every

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
REF = LimitRef("TokenBudget", "team", "monthly")
amounts = st.integers(0, 10**6)


def budget(allocation: int = 1000, **changes: object) -> Limit:
    values: dict[str, object] = {"ref": REF, "tenants": frozenset({"team"}), "unit": Unit.USD}
    values |= {"calendar": Calendar.FOREVER, "allocation": allocation}
    return Limit(**(values | changes))  # type: ignore[arg-type]


def opened(limit: Limit, **values: object) -> Account:
    return replace(Account("a", None, None, limit.allocation), **values)  # type: ignore[arg-type]


def charged(account: Account, limit: Limit, amount: int, held: int = 0) -> Account:
    return rules.charge(account, limit, amount, from_held=held, from_unreconciled=0, now=NOW)


accounts = st.builds(
    Account, st.just("a"), st.none(), st.none(), amounts, amounts, amounts, amounts, amounts, amounts,
    recent=st.lists(amounts, max_size=5).map(tuple), blocked=st.booleans(),
)  # fmt: skip
limits = st.builds(
    lambda minimum, low, hard: budget(
        minimum=-minimum, low_threshold=low - minimum, enforcement=Enforcement.HARD if hard else Enforcement.SOFT
    ),
    amounts, amounts, st.booleans(),
)  # fmt: skip


@given(accounts, limits)
def test_b1_room_is_what_is_above_the_minimum_and_cap_is_the_most_that_may_be_spent(one: Account, limit: Limit) -> None:
    assert one.room(limit) == one.balance - limit.minimum
    assert one.cap(limit) == one.allocation + one.rolled_over + one.granted - limit.minimum
    assert one.room(limit) == one.cap(limit) - one.spent - one.unreconciled


@given(accounts, limits, st.integers(0, 10**6))
def test_b1_what_is_available_fits_under_the_cap_with_all_that_is_spent_unreconciled_and_held(
    one: Account, limit: Limit, part: int
) -> None:
    available = one.available(limit)
    assert available >= 0
    after = rules.hold(one, min(part, available))
    if available:
        assert after.spent + after.unreconciled + after.held <= after.cap(limit)


def test_b1_the_default_minimum_may_be_spent_and_a_strict_budget_stops_at_zero() -> None:
    cent = 10**7
    assert opened(budget(0, minimum=-12 * cent)).available(budget(0, minimum=-12 * cent)) == 12 * cent
    assert opened(budget(0)).available(budget(0)) == 0


@given(accounts, limits, amounts)
def test_b2_holds_change_neither_balance_nor_phase(one: Account, limit: Limit, amount: int) -> None:
    held = rules.hold(one, amount)
    assert (held.balance, held.phase(limit)) == (one.balance, one.phase(limit))
    assert rules.release(held, amount) == one


@given(accounts, limits, amounts)
def test_b2_unreconciled_usage_is_taken_off_the_balance_until_it_turns_out_not_to_have_been(
    one: Account, limit: Limit, amount: int
) -> None:
    gone = rules.lapse(rules.hold(one, amount), limit, amount)
    assert gone.balance == one.balance - amount
    assert gone.held == one.held
    assert rules.reconcile(gone, limit, amount).balance == one.balance


@given(accounts, limits, amounts, amounts)
def test_a_charge_takes_its_amount_off_and_gives_back_what_stood_for_it(
    one: Account, limit: Limit, amount: int, stood: int
) -> None:
    from_held = charged(rules.hold(one, stood), limit, amount, held=stood)
    gone = rules.lapse(rules.hold(one, stood), limit, stood)
    from_gone = rules.charge(gone, limit, amount, from_held=0, from_unreconciled=stood, now=NOW)
    assert from_held.balance == from_gone.balance == one.balance - amount
    assert (from_held.held, from_gone.held) == (one.held, one.held)
    assert from_gone.unreconciled == one.unreconciled


@given(accounts, limits, st.lists(amounts, max_size=6), st.randoms())
def test_the_order_of_charges_and_credits_changes_no_balance(
    one: Account, limit: Limit, given: list[int], chance: object
) -> None:
    def step(amount: int) -> Callable[[Account], Account]:
        if amount % 2:
            return lambda account: rules.credit(account, limit, granted=amount)
        return lambda account: charged(account, limit, amount)

    def after(order: list[int]) -> tuple[int, int, int]:
        account = one
        for amount in order:
            account = step(amount)(account)
        return account.balance, account.spent, account.granted

    shuffled = list(given)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert after(given) == after(shuffled)


@given(accounts, limits)
def test_b3_b4_phases_are_told_by_balance_room_and_latch_alone(one: Account, limit: Limit) -> None:
    """R3."""
    phase = one.phase(limit)
    below = one.balance < limit.minimum
    short = limit.is_hard and (one.blocked or one.room(limit) < one.mean_cost)
    assert (phase is Phase.INSUFFICIENT) == (below or short)
    if phase is not Phase.INSUFFICIENT:
        assert (phase is Phase.LOW) == (one.balance < limit.low_threshold)


def test_b3_a_hard_budget_is_gone_when_less_is_left_than_a_request_costs_on_average() -> None:
    limit = budget(1000)
    account = charged(charged(opened(limit), limit, 400), limit, 301)
    assert (account.room(limit), account.mean_cost, account.phase(limit)) == (299, 351, Phase.INSUFFICIENT)
    soft = budget(1000, enforcement=Enforcement.SOFT)
    assert charged(charged(opened(soft), soft, 400), soft, 301).phase(soft) is Phase.SUFFICIENT


def test_b3_the_mean_is_of_the_last_hundred_requests_rounded_up_and_one_unit_where_none_is_known() -> None:
    limit = budget(10**9)
    account = opened(limit)
    assert account.mean_cost == 1
    for amount in (10**6, *range(RECENT_REQUESTS)):
        account = charged(account, limit, amount)
    assert (len(account.recent), account.mean_cost) == (100, 50)
    assert charged(opened(limit), limit, 0).mean_cost == 1


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(0, 60))
def test_b3_insufficient_lasts_whatever_is_charged_until_the_room_grows(cheap: list[int], grant: int) -> None:
    limit = budget(1000)
    account = charged(opened(limit), limit, 990)
    assert account.phase(limit) is Phase.INSUFFICIENT
    for amount in cheap:
        account = charged(account, limit, min(amount, account.room(limit)))
        assert account.phase(limit) is Phase.INSUFFICIENT
    granted = rules.credit(account, limit, granted=grant)
    enough = grant > 0 and granted.room(limit) >= granted.mean_cost
    assert (granted.phase(limit) is not Phase.INSUFFICIENT) == enough


@pytest.mark.parametrize(
    "grow",
    [
        lambda account, limit: rules.credit(account, limit, granted=2000),
        lambda account, limit: rules.credit(account, limit, allocation=2000),
        lambda account, limit: rules.credit(account, limit, rolled_over=2000),
        lambda account, limit: rules.correct(account, limit, 990),
    ],
    ids=["grant", "raised allocation", "rollover", "refund"],
)
def test_b3_each_way_in_which_room_can_grow_lets_callers_in_again(grow: Callable[[Account, Limit], Account]) -> None:
    limit = budget(1000)
    gone = charged(opened(limit), limit, 990)
    assert gone.blocked
    assert grow(gone, limit).phase(limit) is Phase.SUFFICIENT


def test_b3_usage_that_never_happened_lets_callers_in_again() -> None:
    limit = budget(1000)
    gone = rules.lapse(rules.hold(opened(limit), 1000), limit, 1000)
    assert gone.phase(limit) is Phase.INSUFFICIENT
    assert rules.reconcile(gone, limit, 600).phase(limit) is Phase.SUFFICIENT


def test_b4_low_lies_between_threshold_and_minimum_and_only_warns() -> None:
    limit = budget(1000, low_threshold=300)
    assert [charged(opened(limit), limit, spent).phase(limit) for spent in (0, 400)] == [Phase.SUFFICIENT] * 2
    low = charged(charged(opened(limit), limit, 400), limit, 301)
    assert low.phase(limit) is Phase.INSUFFICIENT  # less left than the mean
    small = opened(limit, spent=701, recent=(1,))
    assert small.phase(limit) is Phase.LOW
    assert small.available(limit) == 299


def test_b5_the_worst_phase_is_the_most_severe() -> None:
    assert [phase.severity for phase in (Phase.SUFFICIENT, Phase.LOW, Phase.INSUFFICIENT)] == [0, 1, 2]


def test_b6_a_request_belongs_to_the_window_in_which_it_was_admitted_and_prepaid_never_resets() -> None:
    monthly = budget(calendar=Calendar.every(Every.MONTH, "Europe/Madrid"))
    last = datetime(2026, 11, 30, 22, 59, 59, tzinfo=UTC)
    before, after = (monthly.account_at((), at)[0] for at in (last, last + timedelta(seconds=1)))
    assert (before.window, after.window) == ("2026-10-31T23:00:00Z", "2026-11-30T23:00:00Z")
    assert {budget().account_at((), NOW + timedelta(days=days))[0].window for days in (0, 400)} == {"forever"}


def test_b6_a_week_begins_on_monday() -> None:
    _, window = budget(calendar=Calendar.every(Every.WEEK)).account_at((), NOW)
    assert (window.start.weekday(), window.start.day) == (0, 16)


@given(st.text(min_size=1, max_size=5), st.text(min_size=1, max_size=5), st.lists(st.text(min_size=1, max_size=4)))
def test_b7_an_account_is_known_by_namespace_name_limit_and_key_alone(space: str, name: str, key: list[str]) -> None:
    identity = AccountId(LimitRef("TokenBudget", space, name), tuple(key), "forever", Unit.USD)
    assert AccountId.parse(identity.text) == identity
    written_anew = budget(5, ref=identity.ref, minimum=-3)
    assert written_anew.account_at(tuple(key), NOW)[0].text == identity.text


@given(accounts, limits)
def test_m1_utilization_is_a_whole_percent_rounded_down(one: Account, limit: Limit) -> None:
    percent, cap = one.utilization(limit), one.cap(limit)
    if cap > 0:
        assert percent * cap <= 100 * (one.spent + one.unreconciled) < (percent + 1) * cap
    else:
        assert percent == 100


@given(limits, st.lists(amounts, max_size=8))
def test_overshoot_is_how_far_usage_without_holds_passed_a_hard_cap(limit: Limit, steps: list[int]) -> None:
    account = opened(limit)
    for amount in steps:
        account = charged(account, limit, amount)
    passed = max(0, account.spent - account.cap(limit))
    assert account.overshoot == (passed if limit.is_hard else 0)


@given(accounts, limits, st.lists(st.integers(-(10**12), 10**12), max_size=8))
def test_corrections_leave_overshoot_as_it_is_whatever_they_charge_or_give_back(
    account: Account, limit: Limit, changes: list[int]
) -> None:
    corrected = account
    for change in changes:
        corrected = rules.correct(corrected, limit, min(change, corrected.spent))
    assert corrected.overshoot == account.overshoot


@given(limits, st.lists(st.tuples(amounts, amounts, amounts), max_size=8))
def test_usage_within_its_hold_is_never_overshoot_whatever_becomes_of_the_cap(
    limit: Limit, steps: list[tuple[int, int, int]]
) -> None:
    account = opened(limit)
    for held, used, taken in steps:
        account = rules.hold(account, held)
        account = rules.charge(account, limit, min(used, held), from_held=held, from_unreconciled=0, now=NOW)
        account = rules.credit(account, limit, allocation=-taken)
    assert account.overshoot == 0


@given(accounts, limits, amounts)
def test_what_is_set_aside_and_given_back_changes_what_is_held_alone(
    account: Account, limit: Limit, amount: int
) -> None:
    account.phase(limit)  # what it has worked out about itself must not outlive a change
    held = rules.hold(account, amount)
    assert held == replace(account, held=account.held + amount)
    assert rules.release(held, amount) == account
    fresh = replace(held)
    assert [held.balance, held.mean_cost, held.available(limit)] == [
        fresh.balance,
        fresh.mean_cost,
        fresh.available(limit),
    ]
