"""The rows that stand on transactions: which requests are booked, and what usages and payments did to each account.

Pure: both storages write these rows, each with its own SQL.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tollkeeper_ledger.rows import to_micros
from tollkeeper_ledger.work import Booking

MICROS_PER_MINUTE = 60_000_000


@dataclass(slots=True)
class Lines:
    """Rows by table, each in the order of its columns after the transaction's `seq` or the account's number."""

    requests: list[tuple[str, int]] = field(default_factory=list)
    """name, seq"""
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
    for seq, booking in zip(seqs, bookings, strict=True):
        lines.requests += [(name, seq) for name in booking.names]
        lines.payments += [
            (numbers[line.account], seq, grant, line.amount, line.balance) for line, grant in booking.payments
        ]
        if booking.record:
            lines.charges += [(numbers[line.account], seq, line.amount, line.balance) for line in booking.charges]
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
