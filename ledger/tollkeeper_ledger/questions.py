"""The questions of a `LedgerReader` in SQL that both storages understand, each answered out of one snapshot.

Values stand as `?`; a storage lends an `Asking` that knows its own sign for them.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

import orjson

from tollkeeper.accounts import RECENT_REQUESTS, Account
from tollkeeper.amounts import Unit
from tollkeeper.counters import Unbooked
from tollkeeper.limits import AccountId, Limit, LimitRef
from tollkeeper.views import (
    ALL_USAGES,
    AccountTotals,
    BreakdownRow,
    Order,
    Page,
    PaymentRow,
    PeriodRow,
    SpendPoint,
    UnpricedPart,
    UsageChoices,
    UsageFilter,
    UsageRow,
)
from tollkeeper_ledger.bodies import unpacked
from tollkeeper_ledger.breakdowns import breakdown_of
from tollkeeper_ledger.counting import over_in, unbooked_in
from tollkeeper_ledger.filters import DIMENSIONS, choices_of
from tollkeeper_ledger.handing import OWED, PAID
from tollkeeper_ledger.packed import LATEST, latest
from tollkeeper_ledger.rows import BALANCE_COLUMNS, account_of, to_micros, to_time
from tollkeeper_ledger.state import Holder
from tollkeeper_ledger.unpriced import part_of
from tollkeeper_ledger.usages import Asking, end_of, page_of, usage_at

CORRECTIONS = {"adjust": "Adjustment", "refund": "Refund", "correct": "Reconciliation", "release": "Release"}
"""What corrections are called among payments."""

_MOST_NAMED = 10_000
"""So many names in one statement: storages bound how many values it may have."""

EXPIRED = "Expired"
"""What a payment is called that takes out what was left of a grant."""


_HOLDERS_OF = (
    "SELECT a.id, h.holder FROM accounts a JOIN lease_rows l ON l.account = a.number JOIN holders h ON h.number = l.holder "
    "WHERE a.id IN ({signs}) AND l.outstanding > 0 AND l.lapsed = 0 AND h.closed = 0"
)
_AFTER_OWED = OWED[:-1] + chr(ord(OWED[-1]) + 1)


class Questions:
    """See `LedgerReader`. A storage says how to lend a snapshot, and by what else than `seq` its rows find transactions."""

    same_transaction = "t.seq = {line}.seq"

    chain_end: str | None = None
    """What to ask for the last transaction's place and hash, where the storage keeps these beside the transactions."""

    schema: tuple[str, int]
    """What to ask for the schema's version, and the newest that is known."""

    table = "SELECT 1 FROM sqlite_master WHERE name = ?"
    """What to ask with a table's name whether there is one."""

    def _lent(self) -> AbstractContextManager[Asking]:
        raise NotImplementedError

    def snapshot(self) -> AbstractContextManager[Asking]:
        """See `LedgerStoreReader`."""
        return self._lent()

    def accounts_of(self, limit: Limit, window: str | None = None) -> Sequence[Account]:
        """See `LedgerReader`."""
        ref = limit.ref
        where = "kind = ? AND namespace = ? AND name = ? AND limit_name = ? AND unit = ?"
        where += ' AND "window" = ?' if window else ""
        values = (ref.kind, ref.namespace, ref.name, ref.limit, limit.unit, *((window,) if window else ()))
        with self._lent() as snapshot:
            rows = snapshot.rows(
                f'SELECT {BALANCE_COLUMNS}, number FROM accounts WHERE {where} ORDER BY "window", key',  # noqa: S608 - constants
                values,
            )
            return [account_of(row, _recent(snapshot, row[-1])) for row in rows]

    def account(self, account: str) -> Account | None:
        """See `LedgerReader`."""
        with self._lent() as snapshot:
            row = snapshot.row(
                f"SELECT {BALANCE_COLUMNS}, number FROM accounts WHERE id = ?",  # noqa: S608 - constant columns
                (account,),
            )
            return account_of(row, _recent(snapshot, row[-1])) if row else None

    def accounts_named(self, ref: LimitRef, key: tuple[str, ...]) -> Sequence[Account]:
        """All accounts that ever counted for a limit and key, in whatever unit, by their windows; needs no policy."""
        with self._lent() as snapshot:
            rows = snapshot.rows(
                f"SELECT {BALANCE_COLUMNS} FROM accounts "  # noqa: S608 - constant columns
                'WHERE kind = ? AND namespace = ? AND name = ? AND limit_name = ? AND key = ? ORDER BY "window", number',
                (ref.kind, ref.namespace, ref.name, ref.limit, AccountId(ref, key, "", Unit.USD).key_text),
            )
            return [account_of(row) for row in rows]

    def vanished_holders(self, account: str) -> Sequence[str]:
        """See `LedgerStoreReader`."""
        with self._lent() as snapshot:
            rows = snapshot.rows(
                "SELECT h.holder FROM lease_rows l JOIN holders h ON h.number = l.holder "
                "WHERE l.account = ? AND l.lapsed = 1 AND l.outstanding > 0 ORDER BY h.holder",
                (_number(snapshot, account),),
            )
            return [holder for (holder,) in rows]

    def holders_without_leases(self, most: int) -> Sequence[Holder]:
        """See `LedgerStoreReader`."""
        with self._lent() as snapshot:
            rows = snapshot.rows(
                "SELECT holder, sequence, closed FROM holders h WHERE NOT EXISTS "
                "(SELECT 1 FROM lease_rows l WHERE l.holder = h.number) ORDER BY holder LIMIT ?",
                (most,),
            )
            return [Holder(holder, sequence, bool(closed)) for holder, sequence, closed in rows]

    def owed(self) -> Sequence[str]:
        """See `LedgerStoreReader`."""
        with self._lent() as snapshot:
            rows = snapshot.rows(
                "SELECT name FROM marks WHERE name >= ? AND name < ? AND NOT EXISTS "
                "(SELECT 1 FROM marks paid WHERE paid.name = ? || substr(marks.name, ?)) ORDER BY seq",
                (OWED, _AFTER_OWED, PAID, len(OWED) + 1),
            )
            return [name for (name,) in rows]

    def unbooked(self) -> Sequence[Unbooked]:
        """See `LedgerReader`."""
        with self._lent() as snapshot:
            return unbooked_in(snapshot)

    def counters_over(self, now: datetime, most: int) -> Mapping[str, datetime]:
        """See `LedgerStoreReader`."""
        with self._lent() as snapshot:
            return over_in(snapshot, now, most)

    def totals(self, account: str) -> AccountTotals:
        """See `LedgerReader`."""
        with self._lent() as snapshot:
            number = _number(snapshot, account)
            sums = snapshot.row(
                "SELECT sum(requests), sum(tokens), sum(cost), sum(unpriced) FROM minutes WHERE account = ?", (number,)
            )
            first, last = (to_time(end_of(snapshot, number, order)) for order in ("oldest", "newest"))
        usages, tokens, cost, unpriced = (int(value or 0) for value in sums)
        return AccountTotals(usages, tokens, cost, unpriced, first, last)

    def usages(
        self,
        account: str,
        *,
        page: int,
        size: int = 20,
        order: Order = "newest",
        wanted: UsageFilter = ALL_USAGES,
    ) -> Page[UsageRow]:
        """See `LedgerReader`."""
        with self._lent() as snapshot:
            return page_of(snapshot, _number(snapshot, account), wanted, page=page, size=size, order=order)

    def usage_choices(self, account: str, *, most: int) -> UsageChoices:
        """See `LedgerReader`."""
        with self._lent() as snapshot:
            number = _number(snapshot, account)
            rows = [
                row
                for dimension in DIMENSIONS
                for row in snapshot.rows(
                    "SELECT dimension, value FROM occurrences WHERE account = ? AND dimension = ? "
                    "ORDER BY usages DESC, value LIMIT ?",
                    (number, dimension, most),
                )
            ]
        return choices_of(rows)

    def unpriced(self, account: str, *, after: int, most: int) -> UnpricedPart:
        """See `LedgerReader`."""
        with self._lent() as snapshot:
            return part_of(snapshot, _number(snapshot, account), after=after, most=most)

    def periods(self, account: str, *, most: int) -> Sequence[PeriodRow]:
        """See `LedgerReader`."""
        identity = AccountId.parse(account)
        ref = identity.ref
        with self._lent() as snapshot:
            rows = snapshot.rows(
                "SELECT id, window_start, window_end FROM accounts WHERE kind = ? AND namespace = ? AND name = ? "
                'AND limit_name = ? AND key = ? AND unit = ? ORDER BY "window" DESC LIMIT ?',
                (ref.kind, ref.namespace, ref.name, ref.limit, identity.key_text, identity.unit, most),
            )
        return [PeriodRow(known, to_time(start), to_time(end)) for known, start, end in rows]

    def usage(self, account: str, id: str) -> UsageRow | None:  # noqa: A002 - the protocol's own name
        """See `LedgerReader`."""
        with self._lent() as snapshot:
            number = _number(snapshot, account)
            row = snapshot.row("SELECT place FROM requests WHERE id = ?", (id,))
            return usage_at(snapshot, number, int(row[0])) if row else None

    def payments(self, account: str, *, page: int, size: int = 20, order: Order = "newest") -> Page[PaymentRow]:
        """See `LedgerReader`."""
        direction = "DESC" if order == "newest" else "ASC"
        with self._lent() as snapshot:
            number = _number(snapshot, account)
            total = snapshot.row("SELECT count(*) FROM payments WHERE account = ?", (number,))[0]
            join = self.same_transaction.format(line="p")
            rows = snapshot.rows(
                "SELECT p.seq, t.time, p.amount, g.reason, g.reference, g.name, p.balance, t.id, g.expires_at, t.body "  # noqa: S608 - constant order
                f"FROM payments p LEFT JOIN grants g ON g.id = p.grant_id JOIN transactions t ON {join} "
                f"WHERE p.account = ? ORDER BY p.seq {direction} LIMIT ? OFFSET ?",
                (number, size, (page - 1) * size),
            )
        return Page([_payment_row(row) for row in rows], total, page, size)

    def live_holders(self) -> Mapping[str, int]:
        """See `LedgerStoreReader`."""
        with self._lent() as snapshot:
            rows = snapshot.rows(
                "SELECT holder, sequence FROM holders h WHERE EXISTS "
                "(SELECT 1 FROM lease_rows l WHERE l.holder = h.number AND l.outstanding > 0 AND l.lapsed = 0) ORDER BY holder"
            )
            return {holder: int(sequence) for holder, sequence in rows}

    def holders_of(self, accounts: Collection[str], among: Collection[str] | None) -> Mapping[str, Collection[str]]:
        """See `LedgerStoreReader`."""
        found: dict[str, list[str]] = {account: [] for account in accounts}
        named, wanted = tuple(found), None if among is None else frozenset(among)
        with self._lent() as snapshot:
            for start in range(0, len(named), _MOST_NAMED):
                part = named[start : start + _MOST_NAMED]
                for account, holder in snapshot.rows(_HOLDERS_OF.format(signs=_signs(part)), part):
                    if wanted is None or holder in wanted:
                        found[account].append(holder)
        return found

    def spend(self, account: str, *, slice_seconds: int, since: datetime, until: datetime) -> Sequence[SpendPoint]:
        """See `LedgerReader`; `slice_seconds` is a multiple of 60."""
        minutes = max(1, slice_seconds // 60)
        first, last = (to_micros(time) or 0 for time in (since, until))
        with self._lent() as snapshot:
            rows = snapshot.rows(
                "SELECT minute / ? * ?, sum(amount), sum(requests), sum(tokens) FROM minutes "
                "WHERE account = ? AND minute >= ? AND minute < ? GROUP BY 1 ORDER BY 1",
                (minutes, minutes, _number(snapshot, account), first // 60_000_000, -(-last // 60_000_000)),
            )
        return [SpendPoint(_minute(start), *(int(sum_) for sum_ in sums)) for start, *sums in rows]

    def breakdown(
        self, dimension: str, *, tenants: Collection[str], since: datetime, until: datetime
    ) -> Sequence[BreakdownRow]:
        """See `LedgerReader`."""
        with self._lent() as snapshot:
            return breakdown_of(snapshot, dimension, tenants, to_micros(since) or 0, to_micros(until) or 0)


def _signs(values: Collection[str]) -> str:
    return ", ".join("?" * len(values))


def _recent(snapshot: Asking, number: int) -> tuple[int, ...]:
    rows = snapshot.rows(LATEST, (number, RECENT_REQUESTS) * 2)
    return latest([packed for (packed,) in rows], RECENT_REQUESTS)


def _number(snapshot: Asking, account: str) -> int:
    row = snapshot.row("SELECT number FROM accounts WHERE id = ?", (account,))
    return int(row[0]) if row else -1


def _minute(minute: int) -> datetime:
    time = to_time(minute * 60_000_000)
    assert time is not None  # noqa: S101 - of an integer
    return time


def _payment_row(row: Sequence[Any]) -> PaymentRow:
    seq, time, amount, reason, reference, grant, balance, transaction, expires_at, body = row
    booked = to_time(time)
    assert booked is not None  # noqa: S101 - the column is NOT NULL
    if grant is None:
        correction = orjson.loads(unpacked(body))
        details = correction["usage"]
        reason = CORRECTIONS.get(correction["kind"], str(correction["kind"]))
        reference, grant = details.get("reference") or details.get("request_id"), details["reason"]
    elif amount < 0:
        reason = EXPIRED
    return PaymentRow(seq, booked, amount, reason, reference, grant, balance, transaction, to_time(expires_at))
