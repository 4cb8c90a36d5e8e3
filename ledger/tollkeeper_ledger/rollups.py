"""Hourly and daily sums of usages by tenant and each dimension (R31): what breakdowns are answered from, in any number of rows.

A row is a tenant, a dimension, a value of it and an hour or a day (UTC). A tenant's own usages only: what its descendants
used is the sum of theirs. Sessions and investigations are as many as their users like, so they stand in the days alone.

A sum that no column holds stays at the largest that one does: these rows are for people to look at, and what is booked
must not depend on them.
"""

from collections.abc import Iterable, Sequence
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt

from tollkeeper.amounts import LARGEST

HOUR, DAY = 3_600_000_000, 86_400_000_000
"""Microseconds."""

BY_DAY_ALONE = frozenset({"session", "investigation"})
TIME = "micros"
SUMS = ("requests", "errors", "unpriced", "input_tokens", "output_tokens", "cost", TIME)
COLUMNS = ("tenant", "dimension", "at", "value", *SUMS)
KEY = ("tenant", "dimension", "at", "value")

DIMENSIONS = {
    "tenant": 0,
    "user": 1,
    "feature": 2,
    "assistant": 3,
    "session": 4,
    "investigation": 5,
    "api_key": 6,
    "namespace": 7,
    "provider": 9,
    "model": 10,
}
"""Dimensions, and where a usage's labels have them."""

Usage = tuple[int, tuple[Any, ...], tuple[int, ...]]
"""When it ended, in microseconds; what it was about: a caller's columns, provider and model; and its `SUMS`."""

Row = tuple[Any, ...]
"""As `COLUMNS`."""

_FITS = 2**63


def add_up(least: str, known: str = "") -> str:
    """SQL that adds a row to one that is there; `least` is the function for the smaller of two, `known` the row's name."""
    capped = [
        f"{one} = {known}{one} + {least}(excluded.{one}, {LARGEST} - {known}{one})" for one in SUMS if one != TIME
    ]
    # Times are below 0 where a clock was set back, and never so long that they need a cap.
    return ", ".join([*capped, f"{TIME} = {known}{TIME} + excluded.{TIME}"])


def rollups_of(usages: Sequence[Usage]) -> tuple[list[Row], list[Row]]:
    """What to add to the hours and to the days, in the order of their keys."""
    hours: dict[tuple[str, int], list[Usage]] = {}
    for usage in usages:
        key = (usage[1][0], usage[0] // HOUR)
        group = hours.get(key)
        if group is None:
            hours[key] = [usage]
        else:
            group.append(usage)
    by_hour: list[Row] = []
    days: dict[Row, list[int]] = {}
    for (tenant, hour), group in hours.items():
        sums = _matrix([usage[2] for usage in group])
        labels = list(zip(*[usage[1] for usage in group], strict=True))
        for dimension, column in DIMENSIONS.items():
            for value, row in _by_value(labels[column], sums):
                added: list[int] = row.tolist()
                if dimension not in BY_DAY_ALONE:
                    by_hour.append((tenant, dimension, hour, value, *map(_held, added)))
                day = (tenant, dimension, hour // 24, value)
                known = days.get(day)
                days[day] = added if known is None else list(map(add, known, added))
    by_hour.sort(key=_key)
    return by_hour, [(*key, *map(_held, days[key])) for key in sorted(days)]


def _held(added: int) -> int:
    """What a column can hold of a sum."""
    return min(added, LARGEST)


def _key(row: Row) -> Row:
    return row[:4]


def _matrix(rows: Sequence[tuple[int, ...]]) -> npt.NDArray[Any]:
    """Sums by row: 64-bit where they surely fit, else Python's own integers."""
    try:
        fast = np.array(rows, dtype=np.int64)
    except OverflowError:
        return np.array(rows, dtype=object)
    return fast if int(fast.max()) * len(rows) < _FITS else fast.astype(object)


def _by_value(values: Sequence[str | None], sums: npt.NDArray[Any]) -> Iterable[tuple[str, npt.NDArray[Any]]]:
    """The sums of each value; usages without one count for none."""
    distinct = list(dict.fromkeys(values))
    if len(distinct) == 1:
        found = [sums.sum(axis=0)]
    else:
        number = {value: index for index, value in enumerate(distinct)}
        codes = np.fromiter((number[value] for value in values), np.intp, len(values))
        order = np.argsort(codes, kind="stable")
        starts = np.searchsorted(codes[order], np.arange(len(distinct)))
        found = list(np.add.reduceat(sums[order], starts, axis=0))
    return [(value, row) for value, row in zip(distinct, found, strict=True) if value is not None]
