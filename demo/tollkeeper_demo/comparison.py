"""The provider's book against the ledger, answer by answer: tokens of each bucket and cost, to the nano-dollar."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from tollkeeper_provider import BookEntry, read_book


@dataclass(frozen=True, slots=True)
class Booked:
    """One side's sums. `cost` is nano-dollars."""

    answers: int
    tokens: int
    cost: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both sides, and every answer on which they differ (by the provider's response id)."""

    provider: Booked
    ledger: Booked
    differing: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether both books say the same of every answer."""
        return not self.differing and self.provider == self.ledger


def usages_of(lines: Iterable[str]) -> list[Mapping[str, Any]]:
    """The usage rows of an export."""
    return [row for line in map(json.loads, lines) if line["kind"] == "usage" for row in line["usage"]]


def compare(book: Path, usages: Iterable[Mapping[str, Any]]) -> Comparison:
    """Join both books by the response's id and compare them."""
    served = {entry.id: (entry.buckets.counted(), entry.cost_nanodollars) for entry in read_book(book)}
    ours: Counter[str] = Counter()
    counted: dict[str, tuple[dict[str, int], int | None]] = {}
    for usage in usages:
        ours[usage["upstream_id"]] += 1
        counted[usage["upstream_id"]] = (usage["buckets"], usage["cost"])
    twice = {answer for answer, times in ours.items() if times > 1}
    differing = {answer for answer in served.keys() | counted.keys() if served.get(answer) != counted.get(answer)}
    return Comparison(_sums(served), _sums(counted), tuple(sorted(differing | twice)))


def _sums(booked: Mapping[str, tuple[Mapping[str, int], int | None]]) -> Booked:
    return Booked(
        answers=len(booked),
        tokens=sum(sum(buckets.values()) for buckets, _ in booked.values()),
        cost=sum(cost or 0 for _, cost in booked.values()),
    )


def dollars(nanodollars: int) -> str:
    """Nano-dollars as dollars, all nine decimals."""
    return f"${Decimal(nanodollars).scaleb(-9):.9f}"


__all__ = ["BookEntry", "Booked", "Comparison", "compare", "dollars", "usages_of"]
