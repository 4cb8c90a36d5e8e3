"""An account's usages under a filter, counted and paged (R34).

Sums that are kept answer where they can; a narrow time range becomes a range of bookings; what is left is found by going
through the account's charges.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

import orjson

from tollkeeper.usage import UsageRecord
from tollkeeper.views import ALL_USAGES, Order, Page, UsageFilter, UsageRow
from tollkeeper_ledger.filters import conditions, sole_occurrence
from tollkeeper_ledger.rows import to_micros


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
    snapshot: Asking, account: int, wanted: UsageFilter, *, page: int, size: int, order: Order, same_transaction: str
) -> Page[UsageRow]:
    """One page of the usages of an account, by its row number. `same_transaction` joins a `t` to the charges `w`."""
    matching = _matching(snapshot, account, wanted)
    total = _count(snapshot, account, wanted, matching)
    skipped = (page - 1) * size
    direction = "DESC" if order == "newest" else "ASC"
    # The page is cut before the texts are fetched, and no row beyond the last match is looked for.
    cut = f"SELECT c.* {matching.text} ORDER BY c.seq {direction} LIMIT ? OFFSET ?"
    rows = snapshot.rows(
        f"WITH wanted AS ({cut}) SELECT w.amount, w.balance, t.body "  # noqa: S608 - constants, values are bound
        f"FROM wanted w JOIN transactions t ON {same_transaction} ORDER BY w.seq {direction}",
        (*matching.values, max(0, min(size, total - skipped)), skipped),
    )
    return Page([usage_row(row) for row in rows], total, page, size)


def _matching(snapshot: Asking, account: int, wanted: UsageFilter) -> Matching:
    demanded, values = conditions(wanted)
    source = "FROM charges c JOIN requests r ON r.seq = c.seq" if demanded else "FROM charges c"
    if bookings := _bookings(snapshot, wanted):
        demanded, values = ["c.seq >= ?", "c.seq <= ?", *demanded], [*bookings, *values]
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
    row = snapshot.row("SELECT min(seq), max(seq) FROM requests WHERE finished >= ? AND finished < ?", (since, end))
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


def usage_row(row: Sequence[Any]) -> UsageRow:
    """The usage of an amount, a balance and a transaction's text."""
    amount, balance, body = row
    transaction = orjson.loads(body)
    usage = transaction["usage"]
    record = UsageRecord.from_json(
        {name: value for name, value in usage.items() if name != "request_id"} | {"id": usage["request_id"]}
    )
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
