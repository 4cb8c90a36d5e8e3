"""The rows that stand on transactions: which requests are booked, and what usages and payments did to each account.

Pure: both storages write these rows, each with its own SQL. A usage's `place` says where it stands in the chain: the
transaction's `seq`, and its number in that report; places grow in the order of booking.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import repeat
from typing import Any

from tollkeeper_ledger.filters import Seen, occurrence_rows, request_row, seen_in
from tollkeeper_ledger.rows import to_micros
from tollkeeper_ledger.work import Booking

MICROS_PER_MINUTE = 60_000_000

PLACES = 1 << 20
"""How many usages one transaction can have."""


@dataclass(slots=True)
class Lines:
    """Rows by table, each in the order of its columns after the transaction's `seq` or the account's number."""

    requests: list[tuple[Any, ...]] = field(default_factory=list)
    """see `filters.request_row`"""
    marks: list[tuple[str, int]] = field(default_factory=list)
    """name, seq"""
    occurrences: list[tuple[int, str, str, int]] = field(default_factory=list)
    """account, dimension, value, usages"""
    charges: list[tuple[int, int, int, int]] = field(default_factory=list)
    """account, place, amount, balance"""
    payments: list[tuple[int, int, str, int, int]] = field(default_factory=list)
    """account, seq, grant, amount, balance"""


def accounts_of(bookings: Iterable[Booking]) -> set[str]:
    """The accounts that the bookings' lines stand on."""
    found: set[str] = set()
    for booking in bookings:
        found.update(charged.account for charged in booking.charges)
        found.update(line.account for line, _ in booking.payments)
    return found


def lines_of(bookings: Sequence[Booking], seqs: Sequence[int], numbers: Mapping[str, int]) -> Lines:
    """The rows of bookings that stand in the chain at `seqs`; `numbers` are the accounts' row numbers."""
    lines = Lines()
    seen: dict[tuple[int, ...], list[Seen]] = {}
    for seq, booking in zip(seqs, bookings, strict=True):
        lines.marks += [(name, seq) for name in booking.marks]
        lines.payments += [
            (numbers[line.account], seq, grant, line.amount, line.balance) for line, grant in booking.payments
        ]
        if booking.records:
            first = seq * PLACES
            lines.requests += [request_row(place, record) for place, record in enumerate(booking.records, first)]
            for accounts, record in zip(_charged(booking, numbers), booking.records, strict=True):
                seen.setdefault(accounts, []).append(seen_in(record))
            for of in booking.charges:
                places = [first + number for number in of.numbers]
                lines.charges += zip(repeat(numbers[of.account]), places, of.amounts, of.balances)
    lines.occurrences += occurrence_rows(seen)
    return lines


def _charged(booking: Booking, numbers: Mapping[str, int]) -> list[tuple[int, ...]]:
    """Usage by usage the accounts that it was charged to. Most reports are charged to the same ones throughout."""
    every = len(booking.records)
    if all(len(of.numbers) == every for of in booking.charges):
        return [tuple(numbers[of.account] for of in booking.charges)] * every
    found: list[list[int]] = [[] for _ in range(every)]
    for of in booking.charges:
        for number in of.numbers:
            found[number].append(numbers[of.account])
    return [tuple(accounts) for accounts in found]


def _minute(finished: datetime, tokens: int, cost: int | None) -> tuple[int, int, int, int]:
    return (to_micros(finished) or 0) // MICROS_PER_MINUTE, tokens, cost or 0, int(cost is None)


def minutes_of(
    bookings: Iterable[Booking], numbers: Mapping[str, int]
) -> list[tuple[int, int, int, int, int, int, int]]:
    """What each account used in each minute: account, minute, amount, requests, tokens, cost, unpriced; in key order."""
    sums: dict[tuple[int, int], list[int]] = {}
    for booking in bookings:
        used = [_minute(record.finished_at, record.buckets.total, record.cost) for record in booking.records]
        for of in booking.charges:
            account = numbers[of.account]
            for number, amount in zip(of.numbers, of.amounts, strict=True):
                minute, tokens, cost, unpriced = used[number]
                row = sums.get((account, minute))
                if row is None:
                    sums[account, minute] = [amount, 1, tokens, cost, unpriced]
                else:
                    row[0] += amount
                    row[1] += 1
                    row[2] += tokens
                    row[3] += cost
                    row[4] += unpriced
    return [(*of, *row) for of, row in sorted(sums.items())]  # type: ignore[misc]
