"""The rows that stand on transactions: which requests are booked, and what usages and payments did to each account.

Pure: both storages write these rows, each with its own SQL.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tollkeeper_ledger.filters import Seen, occurrence_rows, request_row, seen_in
from tollkeeper_ledger.rows import to_micros
from tollkeeper_ledger.work import Booking

MICROS_PER_MINUTE = 60_000_000


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
    """account, seq, amount, balance"""
    payments: list[tuple[int, int, str, int, int]] = field(default_factory=list)
    """account, seq, grant, amount, balance"""


def accounts_of(bookings: Iterable[Booking]) -> set[str]:
    """The accounts that the bookings' lines stand on."""
    return {line.account for b in bookings for line in (*b.charges, *(line for line, _ in b.payments))}


def lines_of(bookings: Sequence[Booking], seqs: Sequence[int], numbers: Mapping[str, int]) -> Lines:
    """The rows of bookings that stand in the chain at `seqs`; `numbers` are the accounts' row numbers."""
    lines = Lines()
    seen: dict[tuple[int, ...], list[Seen]] = {}
    for seq, booking in zip(seqs, bookings, strict=True):
        lines.marks += [(name, seq) for name in booking.marks]
        lines.payments += [
            (numbers[line.account], seq, grant, line.amount, line.balance) for line, grant in booking.payments
        ]
        if booking.record:
            lines.requests.append(request_row(seq, booking.record))
            charged = tuple(numbers[line.account] for line in booking.charges)
            seen.setdefault(charged, []).append(seen_in(booking.record))
            lines.charges += [
                (number, seq, line.amount, line.balance) for number, line in zip(charged, booking.charges, strict=True)
            ]
    lines.occurrences += occurrence_rows(seen)
    return lines


def minutes_of(
    bookings: Iterable[Booking], numbers: Mapping[str, int]
) -> list[tuple[int, int, int, int, int, int, int]]:
    """What each account used in each minute: account, minute, amount, requests, tokens, cost, unpriced; in key order."""
    minutes: dict[tuple[int, int], Counter[str]] = {}
    for booking in bookings:
        record = booking.record
        if record is None:
            continue
        minute = (to_micros(record.finished_at) or 0) // MICROS_PER_MINUTE
        for line in booking.charges:
            sums = minutes.setdefault((numbers[line.account], minute), Counter())
            sums.update(amount=line.amount, requests=1, tokens=record.buckets.total, cost=record.cost or 0)
            sums.update(unpriced=int(record.cost is None))
    return [
        (*of, sums["amount"], sums["requests"], sums["tokens"], sums["cost"], sums["unpriced"])
        for of, sums in sorted(minutes.items())
    ]
