"""What instances count themselves, beside what is booked of them: two tables, and what is missing between both.

`counters` are what an instance told, each series at its largest (I3). `tallies` are the ledger's own: how much is booked of
an instance, added up by the commit that books it. The statements are the same on both storages but for one function.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from tollkeeper.amounts import LARGEST
from tollkeeper.counters import SETTLED, Tally, Unbooked
from tollkeeper_ledger.columns import Columns, summed
from tollkeeper_ledger.rows import to_micros, to_time
from tollkeeper_ledger.state import Told
from tollkeeper_ledger.usagerows import rows_of
from tollkeeper_ledger.usages import Asking

BOOKED_FOR: Final = timedelta(hours=1)
"""So long counters stay of which all is booked. They may go at any time: an instance that lives tells them again."""

MISSED_FOR: Final = timedelta(days=30)
"""So long counters stay whose usage never came."""

MERGE: Final = (
    "ON CONFLICT (instance, series) DO UPDATE SET value = excluded.value, told = excluded.told "
    "WHERE excluded.value > counters.value"
)
"""The end of an `INSERT INTO counters`: of two values the larger one stays, with the time when it was told."""


def add_to_tallies(least: str) -> str:
    """The end of an `INSERT INTO tallies`, which adds up; `least` is the function for the smaller of two."""
    sums = ", ".join(
        f"{one} = tallies.{one} + {least}(excluded.{one}, {LARGEST} - tallies.{one})" for one in Tally._fields
    )
    return f"ON CONFLICT (instance) DO UPDATE SET {sums}"


def counter_rows(counters: Mapping[tuple[str, str], Told]) -> list[tuple[str, str, int, int]]:
    """Instance, series, value, and when it was told; in the order of the keys."""
    return [(*key, value, to_micros(at) or 0) for key, (value, at) in sorted(counters.items())]


def over_rows(over: Mapping[str, datetime]) -> list[tuple[str, int]]:
    """Instances whose counters go, in their order, and until when those were told: what was told since stays."""
    return [(instance, to_micros(told) or 0) for instance, told in sorted(over.items())]


def tally_rows(columns: Columns) -> list[tuple[str, int, int, int]]:
    """Instance, requests, tokens and cost of all usages, in the order of the instances."""
    if not columns.ids:
        return []
    of, sums = columns.texts["holder"], columns.sums
    taken = sums[:, [0, 3, 5]]
    taken[:, 1] += sums[:, 4]
    found, added = summed(taken, of.numbers)
    rows = zip(found, added.tolist(), strict=True)
    return sorted((str(of.values[number]), *(min(one, LARGEST) for one in row)) for number, row in rows)


_COUNTED = """FROM counters r
JOIN counters k ON k.instance = r.instance AND k.series = ?
JOIN counters c ON c.instance = r.instance AND c.series = ?
LEFT JOIN tallies t ON t.instance = r.instance
WHERE r.series = ?"""
_ORDER = (SETTLED[1], SETTLED[2], SETTLED[0])
_IS_MISSED = "r.value > coalesce(t.requests, 0)"


class Booked:
    """How much the chain has of each instance, from the transaction after `since` on; of nothing where that is `None`."""

    def __init__(self, since: int | None) -> None:
        self._since = since
        self.by_instance: dict[str, Tally] = {}

    @property
    def counts(self) -> bool:
        """Whether anything is added up."""
        return self._since is not None

    def add(self, transaction: Mapping[str, Any]) -> None:
        """A transaction of an export."""
        if self._since is None or transaction["seq"] <= self._since or transaction["kind"] != "usage":
            return
        for row in rows_of(transaction):
            instance, known = row["holder"], self.by_instance.get(row["holder"], Tally())
            self.by_instance[instance] = known.plus(Tally(1, sum(row["buckets"].values()), row["cost"] or 0))


def unbooked_in(snapshot: Asking) -> Sequence[Unbooked]:
    """What instances have settled and is not booked, those first whose count has not grown for longest."""
    rows = snapshot.rows(
        "SELECT r.instance, r.value - coalesce(t.requests, 0), k.value - coalesce(t.tokens, 0), "
        f"c.value - coalesce(t.cost, 0), r.told {_COUNTED} AND {_IS_MISSED} ORDER BY r.told, r.instance",
        _ORDER,
    )
    return tuple(_unbooked(row) for row in rows)


def over_in(snapshot: Asking, now: datetime, most: int) -> Mapping[str, datetime]:
    """The instances, so many at `most`, whose counters say nothing any more (see `BOOKED_FOR` and `MISSED_FOR`), and when
    these were told."""
    booked, missed = (to_micros(now - kept) or 0 for kept in (BOOKED_FOR, MISSED_FOR))
    rows = snapshot.rows(
        "SELECT instance, told FROM (SELECT r.instance, r.told, r.told < ? AS is_old, "  # noqa: S608 - constants
        f"NOT ({_IS_MISSED}) AS is_booked {_COUNTED}) AS counted "
        "WHERE is_old OR (is_booked AND told < ?) ORDER BY instance LIMIT ?",
        (missed, *_ORDER, booked, most),
    )
    return {str(instance): _time(told) for instance, told in rows}


def _unbooked(row: Sequence[Any]) -> Unbooked:
    instance, *missing, told = row
    # What is booked last may have come with a spool, beyond all that was told.
    return Unbooked(instance, Tally(*(max(0, int(one)) for one in missing)), _time(told))


def _time(told: int) -> datetime:
    time = to_time(told)
    assert time is not None  # noqa: S101 - the column is NOT NULL
    return time
