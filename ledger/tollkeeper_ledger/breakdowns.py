"""Breakdowns out of the hourly and daily sums (R31): whole days from the days, the hours at both ends from the hours."""

from collections.abc import Collection, Sequence
from typing import Any

from tollkeeper.errors import InvalidValue
from tollkeeper.views import BreakdownRow
from tollkeeper_ledger.rollups import BY_DAY_ALONE, DAY, DIMENSIONS, HOUR, SUMS
from tollkeeper_ledger.usages import Asking

_PART = "SELECT value, {sums} FROM {table} WHERE dimension = ? AND at >= ? AND at < ? AND tenant IN ({tenants})"
_WHOLE = "SELECT value, {sums} FROM ({parts}) AS used GROUP BY value ORDER BY sum(cost) DESC, sum(requests) DESC, value"

Part = tuple[str, int, int]
"""A table, and the first hour or day of it and the one after the last."""


def breakdown_of(
    snapshot: Asking, dimension: str, tenants: Collection[str], since: int, until: int
) -> Sequence[BreakdownRow]:
    """See `LedgerReader.breakdown`; times in microseconds. Raises `InvalidValue` for a dimension that there is not."""
    if dimension not in DIMENSIONS:
        raise InvalidValue(f"{dimension!r} is no dimension of usage: use {', '.join(DIMENSIONS)}")
    if not tenants:
        return []
    wanted = sorted(tenants)
    parts, values = [], list[Any]()
    for table, first, after in _parts(dimension, since, until):
        signs = ", ".join("?" * len(wanted))
        parts.append(_PART.format(sums=", ".join(SUMS), table=table, tenants=signs))
        values += [dimension, first, after, *wanted]
    sums = ", ".join(f"sum({name})" for name in SUMS)
    rows = snapshot.rows(_WHOLE.format(sums=sums, parts=" UNION ALL ".join(parts)), values)
    return [_row(*row) for row in rows]


def _row(value: str, *sums: Any) -> BreakdownRow:
    *counts, micros = (int(one) for one in sums)
    requests, errors, unpriced, input_tokens, output_tokens, cost = counts
    return BreakdownRow(value, requests, errors, unpriced, input_tokens, output_tokens, cost, micros / 1e6)


def _parts(dimension: str, since: int, until: int) -> list[Part]:
    """The fewest rows that cover a time range."""
    first, after = since // HOUR, -(-until // HOUR)
    if dimension in BY_DAY_ALONE:
        return [("days", since // DAY, -(-until // DAY))]
    first_day, after_day = -(-first // 24), after // 24
    if first_day >= after_day:
        return [("hours", first, after)]
    return [("days", first_day, after_day), ("hours", first, first_day * 24), ("hours", after_day * 24, after)]
