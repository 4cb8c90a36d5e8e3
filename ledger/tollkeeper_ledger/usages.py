"""An account's usages under a filter, counted and paged (R34).

Sums that are kept answer where they can; a narrow time range becomes a range of bookings; what is left is found by going
through the account's charges.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

import orjson

from tollkeeper.views import ALL_USAGES, Order, Page, UsageFilter, UsageRow
from tollkeeper_ledger.bodies import unpacked
from tollkeeper_ledger.filters import conditions, sole_occurrence
from tollkeeper_ledger.lines import PLACES
from tollkeeper_ledger.rows import to_micros
from tollkeeper_ledger.usagerows import record_of, rows_of


class Asking(Protocol):
    """One snapshot of the ledger. Values stand as `?` in its questions."""

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows of an answer."""
        ...

    def row(self, sql: str, values: Sequence[Any] = ()) -> Any:
        """The first row of an answer, or nothing."""
        ...


NARROW = timedelta(days=7)
"""Up to this length it costs less to look up all bookings of a time range than to go through one account's."""

NOTHING = (1, 0)
"""A range of bookings that holds none."""


@dataclass(frozen=True, slots=True)
class Matching:
    """`FROM` and `WHERE` of an account's charges `c` under a filter, and the values to bind."""

    text: str
    values: tuple[Any, ...]


def page_of(
    snapshot: Asking, account: int, wanted: UsageFilter, *, page: int, size: int, order: Order
) -> Page[UsageRow]:
    """One page of the usages of an account, by its row number."""
    matching = _matching(snapshot, account, wanted)
    total = _count(snapshot, account, wanted, matching)
    skipped = (page - 1) * size
    direction = "DESC" if order == "newest" else "ASC"
    # No row beyond the last match is looked for.
    rows = snapshot.rows(
        f"SELECT c.place, c.amount, c.balance {matching.text} ORDER BY c.place {direction} LIMIT ? OFFSET ?",
        (*matching.values, max(0, min(size, total - skipped)), skipped),
    )
    return Page(usage_rows(snapshot, rows), total, page, size)


def _matching(snapshot: Asking, account: int, wanted: UsageFilter) -> Matching:
    demanded, values = conditions(wanted)
    source = "FROM charges c JOIN requests r ON r.place = c.place" if demanded else "FROM charges c"
    if bookings := _bookings(snapshot, wanted):
        demanded, values = ["c.place >= ?", "c.place <= ?", *demanded], [*bookings, *values]
    return Matching(f"{source} WHERE {' AND '.join(('c.account = ?', *demanded))}", (account, *values))


def _bookings(snapshot: Asking, wanted: UsageFilter) -> tuple[int, int] | None:
    """The first and last booking in a narrow time range; None for wider ones."""
    if wanted.since is None:
        return None
    since, until = to_micros(wanted.since) or 0, to_micros(wanted.until)
    (last,) = snapshot.row("SELECT max(finished) FROM requests")
    if last is None or last < since:
        return NOTHING
    end = last + 1 if until is None else min(until, last + 1)
    if timedelta(microseconds=end - since) > NARROW:
        return None
    row = snapshot.row("SELECT min(place), max(place) FROM requests WHERE finished >= ? AND finished < ?", (since, end))
    return NOTHING if row[0] is None else (row[0], row[1])


def _count(snapshot: Asking, account: int, wanted: UsageFilter, matching: Matching) -> int:
    if wanted == ALL_USAGES:
        question = Matching("SELECT sum(requests) FROM minutes WHERE account = ?", (account,))
    elif known := sole_occurrence(wanted):
        text = "SELECT sum(usages) FROM occurrences WHERE account = ? AND dimension = ? AND value >= ? AND value <= ?"
        question = Matching(text, (account, *known))
    else:
        question = Matching(f"SELECT count(*) {matching.text}", matching.values)
    return int(snapshot.row(question.text, question.values)[0] or 0)


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
        amount=amount,
        balance=balance,
        seconds=(record.finished_at - record.admitted_at).total_seconds(),
        status=record.status,
        outcome=record.outcome,
        streamed=record.streamed,
        estimated=record.estimated,
        transaction=transaction["id"],
    )
