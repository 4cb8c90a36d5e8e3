"""Forecast: what will have been spent when the window ends, with an interval, and when the cap will be met (R42).

Method. Spending is cut into slices of time, empty ones included. The rate is all spending over all time observed. What
remains to be spent is taken as gamma distributed: never negative, skewed like spending is, with the mean that the rate
gives and a variance of three parts: the slices' own, made larger where neighbours move together (the largest of the
variances of blocks of 1, 2, 4, … slices), the rate's uncertainty (`1 + remaining / observed`), and that of a variance
known from few slices (`(n - 1) / (n - 3)`, Student's). Quantiles come from a fixed number of draws with a fixed seed:
the same history gives the same forecast.

What it does not know: hours, weekdays and trends that the history does not hold. It forecasts demand: a hard limit
refuses what passes its cap, so spending itself stops there.

Floats occur in estimates alone, never in a balance; results are whole units again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from tollkeeper.accounts import Account
from tollkeeper.views import SpendPoint
from tollkeeper.windows import Window

COVERAGE = 80
"""Percent of futures that the interval is meant to hold."""

NEEDED_SLICES = 12
"""Whole slices that must have been observed."""

PREPAID_HORIZON = timedelta(days=30)
"""How far ahead a window that never ends is looked at."""

_SLICES_PER_WINDOW = 1000
_SLICE_SECONDS = (60, 300, 900, 3600, 6 * 3600, 86400)
_DRAWS = 4096
_SEED = 20261101
_UNLIKELY = 0.01


@dataclass(frozen=True, slots=True)
class Forecast:
    """Spending of the whole window in the account's unit, if it goes on as it went.

    `low` to `high` holds the outcome `COVERAGE` times in a hundred; `median` is passed in half of all futures.
    `probability_of_exceeding` (0 to 1) is that of more than the cap. `exhaustion` is when the median meets the cap,
    `None` when not before `until`, the window's end (for prepaid accounts `PREPAID_HORIZON` ahead).
    """

    low: int
    median: int
    high: int
    probability_of_exceeding: float
    exhaustion: datetime | None
    until: datetime
    observed_slices: int


@dataclass(frozen=True, slots=True)
class NotEnoughHistory:
    """Why there is no forecast yet: a sentence for people."""

    reason: str


def slice_seconds_for(window: Window) -> int:
    """The length of the slices in which the spending of such a window is looked at.

    Whole minutes, at most 1000 to a window; an hour for prepaid.
    """
    if window.end is None:
        return 3600
    length = (window.end - window.start).total_seconds()
    return next((s for s in _SLICE_SECONDS if length / s <= _SLICES_PER_WINDOW), _SLICE_SECONDS[-1])


def forecast(
    points: Sequence[SpendPoint], *, account: Account, minimum: int, now: datetime
) -> Forecast | NotEnoughHistory:
    """The forecast of one account from its spending in slices of `slice_seconds_for` its window, oldest first.

    `points` may leave out empty slices. `minimum` is the limit's, so that the cap is the credit less it (B1).
    """
    seconds = slice_seconds_for(Window(account.window_start or now, account.window_end))
    until = account.window_end or now + PREPAID_HORIZON
    spent, cap = account.spent + account.unreconciled, account.credit - minimum
    if now >= until:
        return Forecast(spent, spent, spent, float(spent > cap), None, until, 0)
    if not any(point.amount for point in points):
        return NotEnoughHistory("Nothing has been spent in this period yet.")
    amounts, slices = _observed(points, account.window_start, seconds, now)
    if len(amounts) < NEEDED_SLICES:
        return NotEnoughHistory(
            f"{len(amounts)} of {NEEDED_SLICES} time slices of {_spoken(seconds)} have been observed so far."
        )
    drawn = spent + _remaining(amounts, slices, (until - now).total_seconds() / seconds)
    low, median, high = (round(float(q)) for q in np.quantile(drawn, _levels()))
    low, median, high = max(spent, low), max(spent, median), max(spent, high)
    return Forecast(
        low,
        median,
        high,
        round(float(np.mean(drawn > cap)), 3),
        _exhaustion(spent, median, cap, now, until),
        until,
        len(amounts),
    )


def _levels() -> tuple[float, float, float]:
    tail = (100 - COVERAGE) / 200
    return tail, 0.5, 1 - tail


def _observed(
    points: Sequence[SpendPoint], window_start: datetime | None, seconds: int, now: datetime
) -> tuple[list[int], float]:
    """The amounts of all slices since the history's start, empty ones too; and how many slices of time that is.

    The last slice is under way: its amount counts for the rate, which is over time, so it is added to the one before.
    """
    by_slice = {int(point.start.timestamp()) // seconds: point.amount for point in points if point.start <= now}
    used = sorted(index for index, amount in by_slice.items() if amount)
    if not used:
        return [], 0.0  # all of it lies ahead of `now`: clocks differ
    current = int(now.timestamp()) // seconds
    first = _first_slice(used, current, window_start, seconds)
    amounts = [by_slice.get(index, 0) for index in range(first, current)]
    begun = max(first * seconds, window_start.timestamp() if window_start and _is_real(window_start) else 0)
    if amounts:
        amounts[-1] += by_slice.get(current, 0)
    return amounts, (now.timestamp() - begun) / seconds


def _first_slice(used: list[int], current: int, window_start: datetime | None, seconds: int) -> int:
    """The window's first slice, or that of the first usage when a silence that long would be unlikely to be chance."""
    if window_start is None or not _is_real(window_start):
        return used[0]
    first = int(window_start.timestamp()) // seconds
    silent = used[0] - first
    busy = len(used) / max(1, current + 1 - used[0])
    return used[0] if (1 - min(busy, 1.0)) ** silent < _UNLIKELY else first


def _is_real(window_start: datetime) -> bool:
    """Prepaid windows begin at the beginning of time, which no clock counts from."""
    return window_start > datetime(1970, 1, 1, tzinfo=UTC)


def _remaining(amounts: list[int], slices: float, ahead: float) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    """Draws of what the slices ahead will take."""
    observed = np.array(amounts, dtype=np.float64)
    n = len(observed)
    mean = float(observed.sum()) / slices * ahead
    variance = _variance(observed) * ahead * (1 + ahead / n) * (n - 1) / (n - 3)
    if variance <= 0:
        return np.full(_DRAWS, mean)
    draws = np.random.default_rng(_SEED).gamma(mean**2 / variance, 1.0, _DRAWS)
    return draws * (variance / mean)


def _variance(observed: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> float:
    """The variance that each slice adds to a long sum, from blocks of growing length while there are 8 of them."""
    largest, block = 0.0, 1
    while len(observed) // block >= 8 or block == 1:
        whole = len(observed) // block * block
        sums = observed[-whole:].reshape(-1, block).sum(axis=1)
        largest = max(largest, float(sums.var(ddof=1)) / block)
        block *= 2
    return largest


def _exhaustion(spent: int, median: int, cap: int, now: datetime, until: datetime) -> datetime | None:
    """Where the straight line from what is spent now to the median at the end meets the cap."""
    if spent >= cap:
        return now
    if median <= cap:
        return None
    return now + (until - now) * ((cap - spent) / (median - spent))


def _spoken(seconds: int) -> str:
    for length, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds % length == 0:
            count = seconds // length
            return f"{count} {name}{'s' if count > 1 else ''}"
    return f"{seconds} second{'s' if seconds > 1 else ''}"
