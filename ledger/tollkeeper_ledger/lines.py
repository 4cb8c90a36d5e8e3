"""The rows that stand on transactions: which requests are booked, and what usages and payments did to each account.

Pure: both storages write these rows, each with its own SQL. A usage's `place` says where it stands in the chain: the
transaction's `seq`, and its number in that report; places grow in the order of booking.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from operator import itemgetter
from typing import Any

from tollkeeper.usage import Outcome, UsageRecord
from tollkeeper_ledger.filters import occurrence_rows, request_row, seen_in
from tollkeeper_ledger.rollups import Usage, rollups_of
from tollkeeper_ledger.work import Booking, Charged

MICROS_PER_MINUTE = 60_000_000

PLACES = 1 << 20
"""How many usages one transaction can have."""

Row = tuple[Any, ...]

_FINISHED, _STATUS, _TOKENS, _COST = 2, 15, 17, 18
_LABELS = slice(3, 14)
"""Where a request's row has what it was about: the caller, provider and model."""

_tokens_of, _cost_of = itemgetter(_TOKENS), itemgetter(_COST)


@dataclass(slots=True)
class Lines:
    """Rows by table, each in the order of its columns after the transaction's `seq` or the account's number."""

    requests: list[Row] = field(default_factory=list)
    """see `filters.request_row`"""
    marks: list[tuple[str, int]] = field(default_factory=list)
    """name, seq"""
    occurrences: list[tuple[int, str, str, int]] = field(default_factory=list)
    """account, dimension, value, usages"""
    charges: list[tuple[int, int, int, int]] = field(default_factory=list)
    """account, place, amount, balance"""
    payments: list[tuple[int, int, str, int, int]] = field(default_factory=list)
    """account, seq, grant, amount, balance"""


@dataclass(slots=True)
class Sums:
    """What to add to rollups, each in the order of its keys."""

    minutes: list[Row]
    """account, minute, amount, requests, tokens, cost, unpriced"""
    hours: list[Row]
    """see `rollups.COLUMNS`"""
    days: list[Row]
    """see `rollups.COLUMNS`"""


def accounts_of(bookings: Iterable[Booking]) -> set[str]:
    """The accounts that the bookings' lines stand on."""
    found: set[str] = set()
    for booking in bookings:
        found.update(charged.account for charged in booking.charges)
        found.update(line.account for line, _ in booking.payments)
    return found


def requests_of(bookings: Sequence[Booking]) -> list[list[Row]]:
    """The rows of each booking's requests, by their number in it: see `placed`."""
    return [[request_row(number, record) for number, record in enumerate(booking.records)] for booking in bookings]


def lines_of(
    bookings: Sequence[Booking], requests: Sequence[Sequence[Row]], seqs: Sequence[int], numbers: Mapping[str, int]
) -> Lines:
    """The rows of bookings and their `requests` that stand in the chain at `seqs`; `numbers` are the accounts' row numbers."""
    lines = Lines()
    seen: dict[tuple[int, ...], list[Row]] = {}
    for seq, booking, rows in zip(seqs, bookings, requests, strict=True):
        lines.marks += [(name, seq) for name in booking.marks]
        lines.payments += [
            (numbers[line.account], seq, grant, line.amount, line.balance) for line, grant in booking.payments
        ]
        if not rows:
            continue
        first = seq * PLACES
        lines.requests += [(first + row[0], *row[1:]) for row in rows]
        for accounts, found in _charged(booking, rows, numbers):
            seen.setdefault(accounts, []).extend(map(seen_in, found))
        for of in booking.charges:
            places = [first + number for number in of.numbers]
            lines.charges += zip(repeat(numbers[of.account]), places, of.amounts, of.balances)
    lines.occurrences += occurrence_rows(seen)
    return lines


def _charged(
    booking: Booking, rows: Sequence[Row], numbers: Mapping[str, int]
) -> Iterable[tuple[tuple[int, ...], Sequence[Row]]]:
    """Requests with the accounts that they were charged to. Most reports are charged to the same ones throughout."""
    if all(len(of.numbers) == len(rows) for of in booking.charges):
        return [(tuple(numbers[of.account] for of in booking.charges), rows)]
    found: list[list[int]] = [[] for _ in rows]
    for of in booking.charges:
        for number in of.numbers:
            found[number].append(numbers[of.account])
    return [(tuple(accounts), [row]) for accounts, row in zip(found, rows, strict=True)]


def sums_of(bookings: Sequence[Booking], requests: Sequence[Sequence[Row]], numbers: Mapping[str, int]) -> Sums:
    """What the bookings' usages add up to."""
    minutes: dict[tuple[int, int], list[int]] = {}
    usages: list[Usage] = []
    for booking, rows in zip(bookings, requests, strict=True):
        usages += map(_usage, booking.records, rows)
        whole = _by_minute(rows, range(len(rows)))
        for of in booking.charges:
            _add_minutes(minutes, numbers[of.account], of, rows, whole)
    hours, days = rollups_of(usages)
    return Sums([(*of, *row) for of, row in sorted(minutes.items())], hours, days)


def _usage(record: UsageRecord, row: Row) -> Usage:
    failed = row[_STATUS] >= 400 or record.outcome is not Outcome.OK
    taken = record.finished_at - record.admitted_at
    micros = (taken.days * 86_400 + taken.seconds) * 1_000_000 + taken.microseconds
    cost, output = row[_COST], record.buckets.output_tokens
    return row[_FINISHED], row[_LABELS], (1, failed, cost is None, row[_TOKENS] - output, output, cost or 0, micros)


Minute = tuple[int, list[int], int, int, int]
"""A minute, the positions of its usages, and the sums of their tokens and cost, and how many had none."""


def _by_minute(rows: Sequence[Row], numbers: Sequence[int]) -> list[Minute]:
    """The minutes in which the requests of these numbers ended."""
    found: dict[int, list[int]] = {}
    for position, number in enumerate(numbers):
        minute = rows[number][_FINISHED] // MICROS_PER_MINUTE
        positions = found.get(minute)
        if positions is None:
            found[minute] = [position]
        else:
            positions.append(position)
    return [(minute, positions, *_sums(rows[numbers[at]] for at in positions)) for minute, positions in found.items()]


def _sums(rows: Iterator[Row]) -> tuple[int, int, int]:
    all_of = list(rows)
    costs = list(map(_cost_of, all_of))
    return sum(map(_tokens_of, all_of)), sum(filter(None, costs)), costs.count(None)


def _add_minutes(
    minutes: dict[tuple[int, int], list[int]],
    account: int,
    of: Charged,
    rows: Sequence[Row],
    whole: Sequence[Minute],
) -> None:
    found = whole if len(of.numbers) == len(rows) else _by_minute(rows, of.numbers)
    for minute, positions, tokens, cost, unpriced in found:
        amount = sum(map(of.amounts.__getitem__, positions))
        row = minutes.setdefault((account, minute), [0] * 5)
        for index, value in enumerate((amount, len(positions), tokens, cost, unpriced)):
            row[index] += value
