"""Hourly and daily sums of usages by tenant and each dimension (R31): what breakdowns are answered from, in any number of rows.

A row is a tenant, a dimension, a value of it and an hour or a day (UTC). A tenant's own usages only: what its descendants
used is the sum of theirs. Sessions and investigations are as many as their users like, so they stand in the days alone.

A sum that no column holds stays at the largest that one does: these rows are for people to look at, and what is booked
must not depend on them.
"""

from collections.abc import Mapping, Sequence
from operator import add
from typing import Any

import numpy as np

from tollkeeper.amounts import LARGEST
from tollkeeper_ledger.columns import Texts, summed
from tollkeeper_ledger.packed import Numbers

HOUR, DAY = 3_600_000_000, 86_400_000_000
"""Microseconds."""

BY_DAY_ALONE = frozenset({"session", "investigation"})
TIME = "micros"
SUMS = ("requests", "errors", "unpriced", "input_tokens", "output_tokens", "cost", TIME)
COLUMNS = ("tenant", "dimension", "at", "value", *SUMS)
KEY = ("tenant", "dimension", "at", "value")

DIMENSIONS = (
    "tenant",
    "user",
    "feature",
    "assistant",
    "session",
    "investigation",
    "api_key",
    "namespace",
    "workload",
    "provider",
    "model",
    "tool",
)

Row = tuple[Any, ...]
"""As `COLUMNS`."""


def add_up(least: str, known: str = "") -> str:
    """SQL that adds a row to one that is there; `least` is the function for the smaller of two, `known` the row's name."""
    capped = [
        f"{one} = {known}{one} + {least}(excluded.{one}, {LARGEST} - {known}{one})" for one in SUMS if one != TIME
    ]
    # Times are below 0 where a clock was set back, and never so long that they need a cap.
    return ", ".join([*capped, f"{TIME} = {known}{TIME} + excluded.{TIME}"])


def rollups_of(finished: Numbers, texts: Mapping[str, Texts], sums: Numbers) -> tuple[list[Row], list[Row]]:
    """What usages add to the hours and to the days, in the order of their keys.

    `finished` is when each ended, in microseconds, `texts` what they were about by dimension, `sums` a row of `SUMS` each.
    """
    if not len(finished):
        return [], []
    hours, which = np.unique(finished // HOUR, return_inverse=True)
    tenants = texts["tenant"]
    group = tenants.numbers * len(hours) + which
    by_hour: list[Row] = []
    days: dict[Row, list[int]] = {}
    for dimension in DIMENSIONS:
        column = texts[dimension]
        if column.values == (None,):
            continue
        keys, rows = summed(sums, group * len(column.values) + column.numbers)
        for key, added in zip(keys, rows.tolist(), strict=True):
            of, value_number = divmod(key, len(column.values))
            value = column.values[value_number]
            if value is None:
                continue
            tenant, hour = tenants.values[of // len(hours)], int(hours[of % len(hours)])
            if dimension not in BY_DAY_ALONE:
                by_hour.append((tenant, dimension, hour, value, *_held(added)))
            day = (tenant, dimension, hour // 24, value)
            known = days.get(day)
            days[day] = added if known is None else list(map(add, known, added))
    by_hour.sort(key=_key)
    return by_hour, [(*key, *_held(days[key])) for key in sorted(days)]


def _held(added: Sequence[int]) -> list[int]:
    """What columns can hold of sums."""
    return [min(one, LARGEST) for one in added]


def _key(row: Row) -> Row:
    return row[:4]
