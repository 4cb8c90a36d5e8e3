"""Forecast: its interval holds the truth about as often as it says, and it says when it does not know."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.accounts import Account
from tollkeeper.forecast import COVERAGE, Forecast, NotEnoughHistory, forecast, slice_seconds_for
from tollkeeper.views import SpendPoint
from tollkeeper.windows import Calendar, Every, Window

DAY = Window(datetime(2026, 11, 21, tzinfo=UTC), datetime(2026, 11, 22, tzinfo=UTC))
SLICE = timedelta(seconds=slice_seconds_for(DAY))
SLICES = int((timedelta(days=1)) / SLICE)


def account(spent: int, allocation: int = 10**6) -> Account:
    return Account("a", DAY.start, DAY.end, allocation, spent=spent)


def points(amounts: list[int], start: datetime = DAY.start) -> list[SpendPoint]:
    return [SpendPoint(start + index * SLICE, amount, 1, amount) for index, amount in enumerate(amounts) if amount]


def after(amounts: list[int], allocation: int = 10**6, minimum: int = 0) -> Forecast | NotEnoughHistory:
    return forecast(
        points(amounts),
        account=account(sum(amounts), allocation),
        minimum=minimum,
        now=DAY.start + len(amounts) * SLICE,
    )


def known(answer: Forecast | NotEnoughHistory) -> Forecast:
    assert isinstance(answer, Forecast)
    return answer


def requests(rng: np.random.Generator, rate: float) -> list[int]:
    """A day of slices in which requests arrive by chance, each with an amount of its own."""
    return [int(rng.exponential(1000, size=count).sum()) for count in rng.poisson(rate, size=SLICES)]


@pytest.mark.parametrize("rate", [0.2, 2.0, 20.0])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_interval_holds_the_outcome_about_as_often_as_it_says(rate: float, share: float) -> None:
    rng = np.random.default_rng(7)
    days = [requests(rng, rate) for _ in range(200)]
    answers = [(after(day[: int(SLICES * share)]), sum(day)) for day in days]
    seen = [(answer, truth) for answer, truth in answers if isinstance(answer, Forecast)]
    held = sum(answer.low <= truth <= answer.high for answer, truth in seen)
    assert len(seen) > 150
    assert COVERAGE - 8 <= 100 * held / len(seen) <= COVERAGE + 14


def test_the_interval_holds_when_busy_times_come_in_a_row() -> None:
    rng = np.random.default_rng(11)
    held = 0
    for _ in range(200):
        levels = np.repeat(rng.gamma(2.0, 1.0, size=SLICES // 6), 6)
        day = [int(amount) for amount in rng.poisson(levels * 50)]
        seen = known(after(day[: SLICES // 2]))
        held += seen.low <= sum(day) <= seen.high
    assert held / 2 >= COVERAGE - 10


def test_the_probability_of_exceeding_is_about_how_often_it_happens() -> None:
    rng = np.random.default_rng(3)
    said, happened = 0.0, 0
    for _ in range(300):
        day = requests(rng, 2.0)
        cap = int(rng.normal(576_000, 40_000))
        said += known(after(day[: SLICES // 2], cap)).probability_of_exceeding
        happened += sum(day) > cap
    assert abs(said - happened) / 300 < 0.08


amounts_seen = st.lists(st.integers(0, 10**12), min_size=12, max_size=80).filter(any)


@given(amounts_seen, st.integers(0, 10**14), st.integers(-(10**9), 0))
def test_a_forecast_is_in_order_and_never_below_what_is_spent(
    amounts: list[int], allocation: int, minimum: int
) -> None:
    seen = after(amounts, allocation, minimum)
    if isinstance(seen, NotEnoughHistory):
        return
    assert sum(amounts) <= seen.low <= seen.median <= seen.high
    assert 0 <= seen.probability_of_exceeding <= 1
    now = DAY.start + len(amounts) * SLICE
    assert seen.exhaustion is None or now <= seen.exhaustion <= seen.until
    cap = allocation - minimum
    assert (seen.exhaustion is None) == (seen.median <= cap and sum(amounts) < cap)


@given(amounts_seen)
def test_the_same_history_gives_the_same_forecast(amounts: list[int]) -> None:
    assert after(amounts) == after(amounts)


def test_the_end_of_the_period_leaves_nothing_to_forecast() -> None:
    seen = known(forecast([], account=account(500), minimum=0, now=DAY.end or DAY.start))
    assert (seen.low, seen.median, seen.high, seen.exhaustion) == (500, 500, 500, None)


def test_steady_spending_is_forecast_as_a_straight_line() -> None:
    seen = known(after([100] * (SLICES // 2), 100 * SLICES * 3 // 4))
    assert (seen.low, seen.median, seen.high) == (100 * SLICES,) * 3
    assert seen.probability_of_exceeding == 1
    assert seen.exhaustion == DAY.start + timedelta(hours=18)


def test_an_exhausted_account_is_exhausted_now() -> None:
    seen = known(after([100] * 20, 1000))
    assert seen.exhaustion == DAY.start + 20 * SLICE


def test_nothing_spent_is_not_a_history() -> None:
    assert after([0] * 40) == NotEnoughHistory("Nothing has been spent in this period yet.")


def test_spending_that_has_only_begun_is_not_called_nothing() -> None:
    now = DAY.start + SLICE / 2
    answer = forecast(points([5]), account=account(5), minimum=0, now=now)
    assert answer == NotEnoughHistory("0 of 12 time slices of 5 minutes have been observed so far.")


def test_too_few_slices_are_counted_in_the_answer() -> None:
    answer = after([5] * 3)
    assert isinstance(answer, NotEnoughHistory)
    assert answer.reason == "3 of 12 time slices of 5 minutes have been observed so far."


def test_a_late_start_is_not_taken_for_a_low_rate() -> None:
    seen = known(after([0] * 144 + [100] * 24))
    assert seen.median == 100 * 24 + 100 * (SLICES - 168)


def test_what_was_never_reported_counts_as_spent() -> None:
    amounts = [100] * 20
    lost = replace(account(sum(amounts)), unreconciled=5000)
    seen = known(forecast(points(amounts), account=lost, minimum=0, now=DAY.start + 20 * SLICE))
    assert seen.median == 100 * SLICES + 5000


def test_a_prepaid_account_is_looked_at_for_thirty_days() -> None:
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    used = [SpendPoint(now - timedelta(hours=hour), 10, 1, 10) for hour in range(48, 0, -1)]
    prepaid = Account("a", Calendar.FOREVER.window_at(now).start, None, 0, granted=1000, spent=480)
    seen = known(forecast(used, account=prepaid, minimum=0, now=now))
    assert seen.until == now + timedelta(days=30)
    assert seen.exhaustion == now + timedelta(hours=52)


@pytest.mark.parametrize(
    ("period", "seconds"),
    [(Every.MINUTE, 60), (Every.HOUR, 60), (Every.DAY, 300), (Every.WEEK, 900), (Every.MONTH, 3600)],
)
def test_slices_suit_the_window(period: Every, seconds: int) -> None:
    assert slice_seconds_for(Calendar.every(period).window_at(datetime(2026, 11, 21, tzinfo=UTC))) == seconds
