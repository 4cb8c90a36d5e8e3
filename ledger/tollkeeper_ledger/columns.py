"""Usages by column: what the reports of one commit were about, worked out once for all rows that are written of it.

Pure. Each text column is its distinct values and a number for each usage, so that sums are taken by numpy for all usages
at once. Numbers are 64-bit where every sum of them surely fits, and Python's own integers otherwise: sums are exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from operator import attrgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from tollkeeper.usage import BUCKETS, Caller, Outcome, UsageRecord
from tollkeeper_ledger.packed import USAGE, WORDS, Numbers
from tollkeeper_ledger.rows import EPOCH
from tollkeeper_ledger.state import Booking

_FITS = 2**63
_MICROSECOND = timedelta(microseconds=1)
_OUTPUT = tuple(BUCKETS.index(name) for name in ("output", "reasoning", "audio_output"))
_CALLER = tuple(Caller.__slots__)
_who_is, _counts_of = attrgetter(*_CALLER), attrgetter(*BUCKETS)


@dataclass(frozen=True, slots=True)
class Texts:
    """A column of texts: each value once, and for each usage the number of its own."""

    values: tuple[str | None, ...]
    numbers: npt.NDArray[np.intp]

    @classmethod
    def of(cls, column: Sequence[str | None]) -> "Texts":
        """A column, value by value."""
        number = {value: index for index, value in enumerate(dict.fromkeys(column))}
        return cls(tuple(number), np.fromiter(map(number.__getitem__, column), np.intp, len(column)))

    def taken(self, usages: npt.NDArray[np.intp]) -> "Texts":
        """The column of these usages of it."""
        return Texts(self.values, self.numbers[usages])

    def counted(self, usages: npt.NDArray[np.intp]) -> list[tuple[str, int]]:
        """The values of some usages, with how many have each."""
        counts = np.bincount(self.numbers[usages], minlength=len(self.values)).tolist()
        return [(value, count) for value, count in zip(self.values, counts, strict=True) if count and value is not None]


@dataclass(frozen=True, slots=True)
class Columns:
    """The usages of some bookings, one booking after the other; `starts` says where each one's begin, and the end of all.

    `sums` has a row for each usage: requests, errors, unpriced, input tokens, output tokens, cost, microseconds.
    """

    starts: Sequence[int]
    ids: Sequence[str]
    finished: Numbers
    status: Numbers
    sums: Numbers
    texts: dict[str, Texts]

    @property
    def words(self) -> list[str]:
        """Every word that needs a code, once, in the order of the columns."""
        used = [word for word in WORDS if self.ids]
        return list(dict.fromkeys(value for word in used for value in self.texts[word].values if value is not None))

    def packed(self, codes: dict[str, int]) -> npt.NDArray[Any]:
        """All usages as `USAGE`; `codes` are those of `words`."""
        rows = np.empty(len(self.ids), USAGE)
        rows["finished"], rows["status"] = self.finished, self.status
        rows["tokens"] = self.sums[:, 3] + self.sums[:, 4]
        rows["unpriced"] = self.sums[:, 2]
        for word in WORDS:
            texts = self.texts[word]
            own = np.array([0 if value is None else codes[value] for value in texts.values], np.uint32)
            rows[word] = own[texts.numbers]
        return rows


def columns_of(bookings: Sequence[Booking]) -> Columns:
    """The usages of bookings by column."""
    records = [record for booking in bookings for record in booking.records]
    starts = list(accumulate((len(booking.records) for booking in bookings), initial=0))
    if not records:
        return Columns(starts, (), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 7), np.int64), {})
    texts = _texts_of_callers([record.caller for record in records])
    texts["provider"] = Texts.of([record.provider for record in records])
    texts["model"] = Texts.of([record.model for record in records])
    texts["tool"] = Texts.of([record.tool for record in records])
    texts["outcome"] = Texts.of([record.outcome for record in records])
    texts["holder"] = Texts.of([record.holder for record in records])
    status = np.array([record.status for record in records])
    finished = _micros([record.finished_at for record in records])
    sums = _sums(records, finished, (status >= 400) | _failed(texts["outcome"]))
    return Columns(starts, [record.id for record in records], finished, status, sums, texts)


def _texts_of_callers(callers: Sequence[Caller]) -> dict[str, Texts]:
    """What callers say of themselves, by field. Few call for most usages: each object is looked at once."""
    known = {id(caller): caller for caller in callers}
    number = {identity: index for index, identity in enumerate(known)}
    numbers = np.fromiter(map(number.__getitem__, map(id, callers)), np.intp, len(callers))
    columns = zip(*map(_who_is, known.values()), strict=True)
    return {name: Texts.of(column).taken(numbers) for name, column in zip(_CALLER, columns, strict=True)}


def _failed(outcomes: Texts) -> npt.NDArray[np.bool_]:
    return np.array([outcome != Outcome.OK for outcome in outcomes.values])[outcomes.numbers]


def _sums(records: Sequence[UsageRecord], finished: Numbers, failed: npt.NDArray[np.bool_]) -> Numbers:
    counts = list(map(_counts_of, [record.buckets for record in records]))
    first, second, third = _OUTPUT
    output = [row[first] + row[second] + row[third] for row in counts]
    tokens = list(map(sum, counts))
    costs = [record.cost for record in records]
    took = finished - _micros([record.admitted_at for record in records])
    greatest = max(max(tokens), max(filter(None, costs), default=0), int(np.abs(took).max()))
    kind: Any = np.int64 if greatest * len(records) < _FITS else object
    sums = np.empty((len(records), 7), kind)
    sums[:, 0], sums[:, 1], sums[:, 6] = 1, failed.astype(np.int64), took
    sums[:, 2] = [int(cost is None) for cost in costs]
    sums[:, 4] = output
    sums[:, 3] = np.array(tokens, kind) - sums[:, 4]
    sums[:, 5] = [cost or 0 for cost in costs]
    return sums


def _micros(times: Sequence[datetime]) -> Numbers:
    return np.array([(time - EPOCH) // _MICROSECOND for time in times], np.int64)


def summed(rows: Numbers, keys: Numbers) -> tuple[list[int], Numbers]:
    """The distinct keys in their order, and the sums of the rows of each."""
    if int(keys.max()) < 1 << 16:
        keys = keys.astype(np.uint16)  # so short that numpy sorts them by counting
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    return ordered[starts].tolist(), np.add.reduceat(rows[order], starts, axis=0)
