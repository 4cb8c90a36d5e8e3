"""Usages by what they were about: what occurs in an account, and which usages a filter lets through."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tollkeeper.usage import Outcome
from tollkeeper.views import UsageChoices, UsageFilter
from tollkeeper_ledger.columns import Columns
from tollkeeper_ledger.rows import to_micros

COUNT_OCCURRENCES = (
    "INSERT INTO occurrences (account, dimension, value, usages) VALUES {rows} "
    "ON CONFLICT (account, dimension, value) DO UPDATE SET usages = occurrences.usages + excluded.usages"
)

TEXTS = ("model", "tool", "assistant", "api_key", "user", "feature", "outcome")
"""Dimensions that match a text."""

DIMENSIONS = (*TEXTS, "status")

Kept = npt.NDArray[np.bool_]


def occurrences_in(columns: Columns, usages: npt.NDArray[np.intp]) -> list[tuple[str, str, int]]:
    """What occurs among some usages: dimension, value, and how many have it."""
    found = [(name, value, count) for name in TEXTS for value, count in columns.texts[name].counted(usages)]
    statuses, counts = np.unique(columns.status[usages], return_counts=True)
    return found + [("status", str(s), n) for s, n in zip(statuses.tolist(), counts.tolist(), strict=True)]


def words_of(wanted: UsageFilter) -> dict[str, str]:
    """The texts that a filter asks for, by their column."""
    return {name: value for name in TEXTS if (value := getattr(wanted, name)) is not None}


def kept_by(wanted: UsageFilter, codes: Mapping[str, int], usages: npt.NDArray[Any]) -> Kept:
    """Which usages (`packed.USAGE`) a filter lets through; `codes` are those of its `words_of`, by column."""
    kept = np.ones(len(usages), np.bool_)
    for name, code in codes.items():
        kept &= usages[name] == code
    if wanted.status is not None:
        kept &= (usages["status"] >= wanted.status.start) & (usages["status"] < wanted.status.stop)
    if wanted.since is not None:
        kept &= usages["finished"] >= to_micros(wanted.since)
    if wanted.until is not None:
        kept &= usages["finished"] < to_micros(wanted.until)
    return kept


def sole_occurrence(wanted: UsageFilter) -> tuple[str, str, str] | None:
    """The dimension, first and last value of a filter that asks for nothing else: `occurrences` knows how many match."""
    given = {name: value for name in UsageFilter.__slots__ if (value := getattr(wanted, name)) is not None}
    if len(given) != 1:
        return None
    name, value = given.popitem()
    if name in TEXTS:
        return name, value, value
    # All statuses have three digits, so that their texts are in their order.
    return (name, str(value[0]), str(value[-1])) if name == "status" and value else None


def choices_of(rows: Iterable[Sequence[Any]]) -> UsageChoices:
    """Choices of rows of dimension and value."""
    found: dict[str, list[str]] = {name: [] for name in DIMENSIONS}
    for dimension, value in rows:
        found[dimension].append(value)
    texts = {name: tuple(sorted(values)) for name, values in found.items() if name not in ("status", "outcome")}
    statuses = tuple(sorted(int(value) for value in found["status"]))
    return UsageChoices(**texts, status=statuses, outcome=tuple(Outcome(value) for value in sorted(found["outcome"])))
