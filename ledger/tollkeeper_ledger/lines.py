"""The rows that stand on transactions: which requests are booked, and what usages and payments did to each account.

Pure: both storages write these rows, each with its own SQL. A usage's `place` says where it stands in the chain: the
transaction's `seq`, and its number in that report; places grow in the order of booking. How a report's usages lie in its
rows says `packed`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tollkeeper_ledger.columns import Columns, summed
from tollkeeper_ledger.counting import tally_rows
from tollkeeper_ledger.filters import occurrences_in
from tollkeeper_ledger.packed import Numbers, numbered, pack_charges
from tollkeeper_ledger.rollups import rollups_of
from tollkeeper_ledger.state import Booking
from tollkeeper_ledger.usagerows import PLACES

MICROS_PER_MINUTE = 60_000_000

Row = tuple[Any, ...]


@dataclass(slots=True)
class Lines:
    """Rows by table, each in the order of its columns after the transaction's `seq` or the account's number."""

    requests: list[tuple[str, int]] = field(default_factory=list)
    """id, place"""
    reports: list[tuple[int, int, int, int, bytes]] = field(default_factory=list)
    """seq, when its first and its last usage ended, usages, `packed.USAGE`"""
    marks: list[tuple[str, int]] = field(default_factory=list)
    """name, seq"""
    occurrences: list[tuple[int, str, str, int]] = field(default_factory=list)
    """account, dimension, value, usages"""
    charges: list[tuple[int, int, int, bytes]] = field(default_factory=list)
    """account, seq, usages, `packed.CHARGE`"""
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
    tallies: list[tuple[str, int, int, int]]
    """instance, requests, tokens, cost"""


@dataclass(frozen=True, slots=True)
class Share:
    """Accounts that the same usages were charged to, each with the usages' amounts."""

    usages: npt.NDArray[np.intp]
    accounts: list[tuple[str, list[int]]] = field(default_factory=list)


def shares_of(bookings: Sequence[Booking], columns: Columns) -> list[Share]:
    """Each account once. Most reports are charged to a few accounts throughout, so that sums are taken once for these."""
    usages: dict[str, list[npt.NDArray[np.intp]]] = {}
    amounts: dict[str, list[int]] = {}
    for booking, start in zip(bookings, columns.starts, strict=False):
        for of in booking.charges:
            usages.setdefault(of.account, []).append(numbered(of.numbers) + start)
            amounts.setdefault(of.account, []).extend(of.amounts)
    shares: dict[bytes, Share] = {}
    for account, parts in usages.items():
        which = np.concatenate(parts)
        shares.setdefault(which.tobytes(), Share(which)).accounts.append((account, amounts[account]))
    return list(shares.values())


def lines_of(
    bookings: Sequence[Booking],
    columns: Columns,
    seqs: Sequence[int],
    numbers: Mapping[str, int],
    codes: dict[str, int],
    shares: Sequence[Share],
) -> Lines:
    """The rows of bookings, whose usages are `columns` and their `shares`, that stand in the chain at `seqs`.

    `numbers` are the accounts' row numbers, `codes` those of the columns' words.
    """
    lines = Lines()
    usages = columns.packed(codes) if columns.ids else None
    for index, (seq, booking) in enumerate(zip(seqs, bookings, strict=True)):
        lines.marks += [(name, seq) for name in booking.marks]
        lines.payments += [
            (numbers[line.account], seq, grant, line.amount, line.balance) for line, grant in booking.payments
        ]
        start, end = columns.starts[index : index + 2]
        if usages is not None and start < end:
            lines.requests += zip(columns.ids[start:end], range(seq * PLACES, seq * PLACES + end - start), strict=True)
            finished = columns.finished[start:end]
            ended = int(finished.min()), int(finished.max())
            lines.reports.append((seq, *ended, end - start, usages[start:end].tobytes()))
        lines.charges += [
            (numbers[of.account], seq, len(of.numbers), pack_charges(of.numbers, of.amounts, of.balances))
            for of in booking.charges
        ]
    lines.occurrences += _occurrences(columns, shares, numbers)
    return lines


def _occurrences(
    columns: Columns, shares: Iterable[Share], numbers: Mapping[str, int]
) -> list[tuple[int, str, str, int]]:
    counts: Counter[tuple[int, str, str]] = Counter()
    for share in shares:
        for name, value, count in occurrences_in(columns, share.usages):
            for account, _ in share.accounts:
                counts[numbers[account], name, value] += count
    return [(*of, found) for of, found in counts.items()]


def sums_of(columns: Columns, shares: Iterable[Share], numbers: Mapping[str, int]) -> Sums:
    """What usages add up to; `numbers` are the accounts' row numbers."""
    minutes = [row for share in shares for row in _minutes(columns, share, numbers)]
    hours, days = rollups_of(columns.finished, columns.texts, columns.sums)
    return Sums(sorted(minutes), hours, days, tally_rows(columns))


def _minutes(columns: Columns, share: Share, numbers: Mapping[str, int]) -> Iterator[Row]:
    """What an account's usages add to each minute."""
    of = columns.sums[share.usages]
    minute = columns.finished[share.usages] // MICROS_PER_MINUTE
    first = int(minute.min())
    keys = minute - first
    found, added = summed(np.stack([of[:, 0], of[:, 3] + of[:, 4], of[:, 5], of[:, 2]], axis=1), keys)
    sums = added.tolist()
    for account, amounts in share.accounts:
        _, spent = summed(_exact(amounts), keys)
        for key, row, amount in zip(found, sums, spent.tolist(), strict=True):
            yield numbers[account], first + key, amount, *row


def _exact(amounts: Sequence[int]) -> Numbers:
    """Amounts as a column whose sums are exact."""
    return np.array(amounts, np.int64 if max(amounts) * len(amounts) < 1 << 63 else object)
