"""The chart's data: spending over a range in slices that suit it, what was spent before, and the forecast."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, get_args

from tollkeeper.forecast import Forecast, NotEnoughHistory
from tollkeeper.views import SpendPoint
from tollkeeper_console.queries import AccountView, Queries, cumulated, first_usage

Range = Literal["period", "day", "hour"]
RANGES: tuple[Range, ...] = get_args(Range)

_LENGTHS: dict[Range, timedelta] = {"day": timedelta(days=1), "hour": timedelta(hours=1)}
_SLICES = (60, 300, 900, 3600, 6 * 3600, 86400)
_MOST_SLICES = 240


@dataclass(frozen=True, slots=True)
class Series:
    """Spending since `since`. `cumulative` are the sums at the end of each point, `before` the sum at `since`.

    `until` is where the axis ends: the window's end where the whole period is shown, else now (`None`).
    """

    range: Range
    slice_seconds: int
    since: datetime
    until: datetime | None
    points: Sequence[SpendPoint]
    cumulative: Sequence[int]
    before: int
    forecast: Forecast | NotEnoughHistory


def series_of(queries: Queries, view: AccountView, wanted: Range | None) -> Series:
    """The series of an account; without a wish the range that shows most."""
    seen = queries.forecast(view)
    chosen = wanted or _fitting(view, seen)
    since = _since(view, chosen)
    seconds = _slice_seconds(((_axis_end(view) if chosen == "period" else None) or view.now) - since)
    aligned = int(since.timestamp()) // seconds * seconds
    points = queries.spend(view, seconds, datetime.fromtimestamp(aligned, since.tzinfo))
    cumulative = cumulated(view.account, points)
    before = cumulative[0] - points[0].amount if points else view.account.spent
    end = _axis_end(view) if chosen == "period" else None
    return Series(chosen, seconds, since, end, points, cumulative, before, seen)


def _fitting(view: AccountView, seen: Forecast | NotEnoughHistory) -> Range:
    """The whole period once it can be forecast or is over; before that the shortest range that shows everything."""
    age = view.now - max(first_usage(view), view.window.start)
    if isinstance(seen, Forecast) or not view.is_current or age > _LENGTHS["day"]:
        return "period"
    return "hour" if age <= _LENGTHS["hour"] else "day"


def _since(view: AccountView, chosen: Range) -> datetime:
    if chosen != "period":
        return max(view.window.start, view.now - _LENGTHS[chosen])
    return view.window.start if view.window.end else first_usage(view)


def _axis_end(view: AccountView) -> datetime | None:
    return view.window.end


def _slice_seconds(length: timedelta) -> int:
    seconds = length.total_seconds()
    return next((size for size in _SLICES if seconds / size <= _MOST_SLICES), _SLICES[-1])
