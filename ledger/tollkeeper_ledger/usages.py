"""An account's usages under a filter, counted and paged (R34).

Sums that are kept answer where they can; a narrow time range becomes a range of reports; what is left is found by going
through the account's reports, many at once, no further than the page needs.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

import numpy as np
import orjson

from tollkeeper.views import ALL_USAGES, Order, Page, UsageFilter, UsageRow
from tollkeeper_ledger.bodies import unpacked
from tollkeeper_ledger.filters import kept_by, sole_occurrence, words_of
from tollkeeper_ledger.packed import CHARGE, USAGE, Numbers, charges_in, sizes, usages_in
from tollkeeper_ledger.rows import to_micros
from tollkeeper_ledger.usagerows import PLACES, record_of, rows_of


class Asking(Protocol):
    """One snapshot of the ledger. Values stand as `?` in its questions."""

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows of an answer."""
        ...

    def row(self, sql: str, values: Sequence[Any] = ()) -> Any:
        """The first row of an answer, or nothing."""
        ...

    def each(self, sql: str) -> Generator[Any]:
        """All rows of an answer that may be too long to keep, one by one; closed by who does not want all of them."""
        ...


NARROW = timedelta(days=7)
"""Up to this length it costs less to look up all reports of a time range than to go through one account's."""

LONG = 3_600_000_000
"""Reports whose usages ended so many microseconds apart are few, and have an index of their own."""

NOTHING = (1, 0)
"""A range of reports that holds none."""

ALL = (0, (1 << 43) - 1)
"""The range of all reports."""

FIRST_LOOK, AT_ONCE, MOST_REPORTS = 32, 50_000, 20_000
"""How many reports are read first; then so many usages at once, as far as can be foreseen, and no more reports than that."""

SKIPPED_AT_ONCE = 4096
"""So many reports are passed over at once, or not."""

_SKIP = (
    "SELECT count(*), sum(usages), min(seq), max(seq) FROM (SELECT seq, usages FROM charges "
    "WHERE account = ? AND seq >= ? AND seq <= ? ORDER BY seq {direction} LIMIT ?) AS passed"
)
_CHARGED = (
    "SELECT seq, packed FROM charges WHERE account = ? AND seq >= ? AND seq <= ? ORDER BY seq {direction} LIMIT ?"
)
_CHARGED_AND_USED = (
    "SELECT c.seq, c.packed, r.packed FROM charges c JOIN reports r ON r.seq = c.seq "
    "WHERE c.account = ? AND c.seq >= ? AND c.seq <= ? ORDER BY c.seq {direction} LIMIT ?"
)
_IN_TIME = (
    "SELECT min(seq), max(seq) FROM reports WHERE last_end >= ? AND last_end < ? AND first_end < ?",
    f"SELECT min(seq), max(seq) FROM reports WHERE last_end - first_end >= {LONG} AND last_end >= ? AND first_end < ?",  # noqa: S608 - a constant
)


@dataclass(frozen=True, slots=True)
class Part:
    """Some of an account's charges, in the order of booking: their places, `packed.CHARGE`, and where asked for
    `packed.USAGE`."""

    places: Numbers
    charges: Numbers
    usages: Numbers | None

    def where(self, kept: Any) -> "Part":
        """Those that a mask, or a slice, keeps."""
        return Part(self.places[kept], self.charges[kept], None if self.usages is None else self.usages[kept])


@dataclass(slots=True)
class Parts:
    """Goes through an account's charges in a range of reports, some reports at a time.

    `within` is narrowed to what is left as it goes; `with_usages` also reads what the usages were about. `reports` is how
    many are read next.
    """

    snapshot: Asking
    account: int
    within: tuple[int, int] = ALL
    order: Order = "oldest"
    with_usages: bool = False
    reports: int = FIRST_LOOK

    def __iter__(self) -> Iterator[Part]:
        while part := self._next():
            yield part

    def _ask(self, question: str, reports: int) -> list[Any]:
        direction = "DESC" if self.order == "newest" else "ASC"
        return self.snapshot.rows(question.format(direction=direction), (self.account, *self.within, reports))

    def _go_on(self, least: int, greatest: int) -> None:
        first, last = self.within
        self.within = (first, least - 1) if self.order == "newest" else (greatest + 1, last)

    def _next(self) -> Part | None:
        rows = self._ask(_CHARGED_AND_USED if self.with_usages else _CHARGED, self.reports)
        if not rows:
            return None
        self._go_on(rows[-1][0], rows[-1][0])
        if self.order == "newest":
            rows.reverse()
        part = _part(rows)
        self.reports = min(max(FIRST_LOOK, AT_ONCE * len(rows) // len(part.places)), MOST_REPORTS)
        return part

    def skip(self, usages: int) -> int:
        """Pass over as many reports as surely hold no more than so many usages; how many were passed over."""
        passed, reports = 0, SKIPPED_AT_ONCE
        while reports >= FIRST_LOOK and passed < usages:
            ((found, held, least, greatest),) = self._ask(_SKIP, reports)
            if not found:
                break
            if passed + int(held) > usages:
                reports //= 8
                continue
            passed += int(held)
            self._go_on(least, greatest)
        return passed


def _part(rows: Sequence[Sequence[Any]]) -> Part:
    """The part of rows of seq, charges and perhaps usages, in the order of booking."""
    seqs, charged, *used = zip(*rows, strict=True)
    counts = sizes(charged, CHARGE)
    charges = charges_in(charged)
    places = np.repeat(np.array(seqs, np.int64) * PLACES, counts) + charges["number"]
    if not used:
        return Part(places, charges, None)
    lengths = sizes(used[0], USAGE)
    begins = np.cumsum(lengths) - lengths
    return Part(places, charges, usages_in(used[0])[np.repeat(begins, counts) + charges["number"]])


def page_of(
    snapshot: Asking, account: int, wanted: UsageFilter, *, page: int, size: int, order: Order
) -> Page[UsageRow]:
    """One page of the usages of an account, by its row number."""
    total = _known_count(snapshot, account, wanted)
    skipped = (page - 1) * size
    filtered = wanted != ALL_USAGES
    codes = _codes(snapshot, wanted)
    within = _reports(snapshot, wanted) if codes is not None else NOTHING
    parts = Parts(snapshot, account, within, order, filtered)
    # No row beyond the last match is looked for.
    needed = None if total is None else max(0, min(size, total - skipped))
    met = parts.skip(skipped) if needed and not filtered else 0
    found: list[Sequence[int]] = []
    for part in parts if needed != 0 else ():
        kept = part.where(kept_by(wanted, codes or {}, part.usages)) if part.usages is not None else part
        rows = slice(None, None, -1 if order == "newest" else 1)
        begin = max(0, skipped - met)
        end = begin + size - len(found)
        chosen = kept.where(rows).where(slice(begin, end))
        found += _charges(chosen)
        met += len(kept.places)
        if needed is not None and len(found) >= needed:
            break
    return Page(usage_rows(snapshot, found), met if total is None else total, page, size)


def _charges(part: Part) -> list[tuple[int, int, int]]:
    """Place, amount and balance of each."""
    columns = (part.places, part.charges["amount"], part.charges["balance"])
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _codes(snapshot: Asking, wanted: UsageFilter) -> Mapping[str, int] | None:
    """The codes of a filter's texts, by column; None where one of them occurs nowhere."""
    found = {}
    for name, word in words_of(wanted).items():
        row = snapshot.row("SELECT code FROM words WHERE word = ?", (word,))
        if row is None:
            return None
        found[name] = int(row[0])
    return found


def _reports(snapshot: Asking, wanted: UsageFilter) -> tuple[int, int]:
    """The first and last report in a narrow time range; all of them for wider ones."""
    if wanted.since is None:
        return ALL
    since, until = to_micros(wanted.since) or 0, to_micros(wanted.until)
    (last,) = snapshot.row("SELECT max(last_end) FROM reports")
    if last is None or last < since:
        return NOTHING
    end = last + 1 if until is None else min(until, last + 1)
    if timedelta(microseconds=end - since) > NARROW:
        return ALL
    bounds = [snapshot.row(_IN_TIME[0], (since, end + LONG, end)), snapshot.row(_IN_TIME[1], (since, end))]
    seqs = [int(seq) for row in bounds for seq in row if seq is not None]
    return (min(seqs), max(seqs)) if seqs else NOTHING


def _known_count(snapshot: Asking, account: int, wanted: UsageFilter) -> int | None:
    """How many usages match, where a sum that is kept says it."""
    if wanted == ALL_USAGES:
        row = snapshot.row("SELECT sum(requests) FROM minutes WHERE account = ?", (account,))
    elif known := sole_occurrence(wanted):
        text = "SELECT sum(usages) FROM occurrences WHERE account = ? AND dimension = ? AND value >= ? AND value <= ?"
        row = snapshot.row(text, (account, *known))
    else:
        return None
    return int(row[0] or 0)


def end_of(snapshot: Asking, account: int, order: Order) -> int | None:
    """When the first, or with the newest first the last, booked usage of an account ended, in microseconds."""
    for part in Parts(snapshot, account, order=order, with_usages=True, reports=1):
        assert part.usages is not None  # noqa: S101 - they were asked for
        return int(part.usages["finished"][-1 if order == "newest" else 0])
    return None


def usage_at(snapshot: Asking, account: int, place: int) -> UsageRow | None:
    """One usage of an account, by its place."""
    seq = place // PLACES
    for part in Parts(snapshot, account, (seq, seq)):
        return next(iter(usage_rows(snapshot, _charges(part.where(part.places == place)))), None)
    return None


def usage_rows(snapshot: Asking, charges: Sequence[Sequence[Any]]) -> list[UsageRow]:
    """The usages of charges (place, amount, balance), in their order. Each transaction's text is read once."""
    transactions: dict[int, Any] = {}
    for place, *_ in charges:
        seq = place // PLACES
        if seq not in transactions:
            (body,) = snapshot.row("SELECT body FROM transactions WHERE seq = ?", (seq,))
            transactions[seq] = orjson.loads(unpacked(body))
    return [_usage_row(transactions[charge[0] // PLACES], *charge) for charge in charges]


def _usage_row(transaction: Mapping[str, Any], place: int, amount: int, balance: int) -> UsageRow:
    record = record_of(rows_of(transaction)[place % PLACES])
    caller = record.caller
    return UsageRow(
        seq=transaction["seq"],
        id=record.id,
        upstream_id=record.upstream_id,
        time=record.finished_at,
        tenant=caller.tenant,
        user=caller.user,
        assistant=caller.assistant,
        feature=caller.feature,
        api_key=caller.api_key,
        provider=record.provider,
        model=record.model,
        tool=record.tool,
        buckets=record.buckets.nonzero(),
        tokens=record.buckets.total,
        cost=record.cost,
        price=record.price,
        unit_prices=record.unit_prices,
        amount=amount,
        balance=balance,
        seconds=(record.finished_at - record.admitted_at).total_seconds(),
        status=record.status,
        outcome=record.outcome,
        streamed=record.streamed,
        estimated=record.estimated,
        transaction=transaction["id"],
    )
