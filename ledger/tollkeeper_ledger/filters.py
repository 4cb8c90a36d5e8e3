"""Usages by what they were about: the columns of a request, what occurs in an account, and the conditions of a filter.

Standard SQL with `?` for each value; a value never stands in a statement's text.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter, itemgetter
from typing import Any

from tollkeeper.usage import Outcome, UsageRecord
from tollkeeper.views import UsageChoices, UsageFilter
from tollkeeper_ledger.rows import to_micros

INSERT_REQUEST = (
    "INSERT INTO requests (place, id, finished, tenant, user_name, feature, assistant, session, investigation, api_key, "  # noqa: S608 - constants
    f"namespace, workload, provider, model, tool, status, outcome, tokens, cost) VALUES ({', '.join('?' * 19)})"
)
COUNT_OCCURRENCES = (
    "INSERT INTO occurrences (account, dimension, value, usages) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (account, dimension, value) DO UPDATE SET usages = occurrences.usages + excluded.usages"
)

_TEXTS = {
    "model": "model",
    "tool": "tool",
    "assistant": "assistant",
    "api_key": "api_key",
    "user": "user_name",
    "feature": "feature",
    "outcome": "outcome",
}
"""Dimensions that match a text, and their columns."""

DIMENSIONS = (*_TEXTS, "status")

_who_is = attrgetter(
    "tenant", "user", "feature", "assistant", "session", "investigation", "api_key", "namespace", "workload"
)

seen_in = itemgetter(13, 14, 6, 9, 4, 5, 16, 15)
"""What occurs in a request's row, in the order of `DIMENSIONS`."""


def request_row(place: int, record: UsageRecord) -> tuple[Any, ...]:
    """A request as `INSERT_REQUEST` takes it."""
    return (
        place,
        record.id,
        to_micros(record.finished_at),
        *_who_is(record.caller),
        record.provider,
        record.model,
        record.tool,
        record.status,
        record.outcome.value,
        record.buckets.total,
        record.cost,
    )


def occurrence_rows(seen: Mapping[tuple[int, ...], Sequence[Sequence[Any]]]) -> list[tuple[int, str, str, int]]:
    """What each set of accounts saw, as `COUNT_OCCURRENCES` takes it: each value of each account once.

    Requests of one caller are charged to the same accounts, so that values are counted once for all of these.
    """
    counts: Counter[tuple[int, str, str]] = Counter()
    for accounts, usages in seen.items():
        for dimension, values in zip(DIMENSIONS, zip(*usages, strict=True), strict=True):
            for value, found in Counter(values).items():
                if value is not None:
                    for account in accounts:
                        counts[account, dimension, str(value)] += found
    return [(*of, found) for of, found in counts.items()]


def conditions(wanted: UsageFilter) -> tuple[list[str], list[Any]]:
    """What a filter demands of a request `r`, and the values to bind; both empty for a filter that leaves all open."""
    demanded: list[tuple[str, Any]] = [
        (f"r.{column} = ?", value) for name, column in _TEXTS.items() if (value := getattr(wanted, name)) is not None
    ]
    if wanted.status is not None:
        demanded += [("r.status >= ?", wanted.status.start), ("r.status < ?", wanted.status.stop)]
    if wanted.since is not None:
        demanded.append(("r.finished >= ?", to_micros(wanted.since)))
    if wanted.until is not None:
        demanded.append(("r.finished < ?", to_micros(wanted.until)))
    return [text for text, _ in demanded], [value for _, value in demanded]


def sole_occurrence(wanted: UsageFilter) -> tuple[str, str, str] | None:
    """The dimension, first and last value of a filter that asks for nothing else: `occurrences` knows how many match."""
    given = {name: value for name in UsageFilter.__slots__ if (value := getattr(wanted, name)) is not None}
    if len(given) != 1:
        return None
    name, value = given.popitem()
    if name in _TEXTS:
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
