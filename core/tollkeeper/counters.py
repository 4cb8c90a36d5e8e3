"""Counters that only grow (I3): what an instance says, again and again, of all that it has counted since it began.

An instance is one run of a program, under a name that no run had before: its counters begin at 0 and are never reset. So
whoever keeps the largest value that was told of each series has the newest, in whatever order, however late and however
often they are told; a value that was lost is in the next one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from tollkeeper.amounts import LARGEST, Unit, format_amount
from tollkeeper.errors import InvalidValue, shown
from tollkeeper.usage import UsageRecord, is_name

SETTLED: Final = ("settled_requests", "settled_tokens", "settled_cost_nanodollars")
"""What a gateway tells of all requests that it has settled, in the order of a `Tally`."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What an instance has counted so far, by series. Raises `InvalidValue` for a name that none can have, and for a value
    that is no count."""

    instance: str
    values: Mapping[str, int]

    def __post_init__(self) -> None:
        for name in (self.instance, *self.values):
            if not is_name(name):
                raise InvalidValue(f"{shown(name)} cannot name counters: write one line of readable text")
        for series, value in self.values.items():
            if type(value) is not int or not 0 <= value <= LARGEST:
                raise InvalidValue(
                    f"{series} of {self.instance}: {shown(value)} is no count; it is a whole number from 0 to {LARGEST}"
                )


class Tally(NamedTuple):
    """How much usage there was: requests, all their tokens, and the nano-dollars of those that have a price.

    A sum that is larger than any column holds stays at the largest that one does.
    """

    requests: int = 0
    tokens: int = 0
    cost: int = 0

    def plus(self, other: "Tally") -> "Tally":
        """Both together."""
        return Tally(*(min(one + more, LARGEST) for one, more in zip(self, other, strict=True)))

    @property
    def words(self) -> str:
        """As a message says it."""
        return f"{self.requests} requests, {self.tokens} tokens and {format_amount(self.cost, Unit.USD)} USD"

    def settled_by(self, instance: str) -> Counters:
        """What an instance tells that settled so much."""
        return Counters(instance, dict(zip(SETTLED, self, strict=True)))


def tally_of(records: Iterable[UsageRecord]) -> Tally:
    """How much these usages are."""
    tally = Tally()
    for record in records:
        tally = tally.plus(Tally(1, record.buckets.total, record.cost or 0))
    return tally


@dataclass(frozen=True, slots=True)
class Unbooked:
    """What an instance has settled, by its own count, and the ledger has not booked: it waits in a spool, or was lost with
    it. `told` is when its count grew last."""

    instance: str
    missing: Tally
    told: datetime
