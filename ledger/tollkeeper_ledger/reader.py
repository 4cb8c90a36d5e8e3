"""What console, status and reports ask: a `LedgerReader` over connections that only read.

Every question sees one committed state. Connections are lent from a small pool, so any thread may ask.
"""

import queue
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from tollkeeper.accounts import RECENT_REQUESTS, Account
from tollkeeper.amounts import Unit
from tollkeeper.limits import AccountId, Limit, LimitRef
from tollkeeper.usage import UsageRecord
from tollkeeper.views import AccountTotals, Order, Page, PaymentRow, SpendPoint, UsageRow
from tollkeeper_ledger.errors import LedgerUnavailable
from tollkeeper_ledger.rows import BALANCE_COLUMNS, account_of, to_micros, to_time

CONNECTIONS = 4
WAIT_SECONDS = 5.0

_USAGE = "SELECT c.amount, c.balance, t.body FROM charges c JOIN transactions t ON t.seq = c.seq WHERE c.account = ?"

CORRECTIONS = {"adjust": "Adjustment", "refund": "Refund", "correct": "Reconciliation"}
"""What corrections are called among payments."""


class SqliteReader:
    """Reads one ledger file. Raises `LedgerUnavailable` when it cannot answer within a few seconds."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pool: queue.Queue[sqlite3.Connection] = queue.Queue()
        for _ in range(CONNECTIONS):
            connection = sqlite3.connect(
                f"file:{path}?mode=ro", uri=True, timeout=WAIT_SECONDS, check_same_thread=False, isolation_level=None
            )
            self._pool.put(connection)

    def close(self) -> None:
        """Close all connections."""
        for _ in range(CONNECTIONS):
            self._pool.get(timeout=WAIT_SECONDS).close()

    @contextmanager
    def _lent(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._pool.get(timeout=WAIT_SECONDS)
        except queue.Empty as error:
            raise LedgerUnavailable(f"ledger {self._path}: too many questions at once; try again") from error
        try:
            connection.execute("BEGIN")
            yield connection
        except sqlite3.Error as error:
            raise LedgerUnavailable(f"ledger {self._path}: {error}") from error
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._pool.put(connection)

    def accounts_of(self, limit: Limit, window: str | None = None) -> Sequence[Account]:
        """See `LedgerReader`."""
        ref = limit.ref
        where = "kind = ? AND namespace = ? AND name = ? AND limit_name = ? AND unit = ?"
        where += " AND window = ?" if window else ""
        values = (ref.kind, ref.namespace, ref.name, ref.limit, limit.unit, *((window,) if window else ()))
        with self._lent() as connection:
            rows = connection.execute(
                f"SELECT {BALANCE_COLUMNS}, number FROM accounts WHERE {where} ORDER BY window, key",  # noqa: S608 - constants
                values,
            ).fetchall()
            return [account_of(row, _recent(connection, row[13])) for row in rows]

    def account(self, account: str) -> Account | None:
        """See `LedgerReader`."""
        with self._lent() as connection:
            row = connection.execute(
                f"SELECT {BALANCE_COLUMNS}, number FROM accounts WHERE id = ?",  # noqa: S608 - constant columns
                (account,),
            ).fetchone()
            return account_of(row, _recent(connection, row[13])) if row else None

    def accounts_named(self, ref: LimitRef, key: tuple[str, ...]) -> Sequence[Account]:
        """All accounts that ever counted for a limit and key, in whatever unit, by their windows; needs no policy."""
        with self._lent() as connection:
            rows = connection.execute(
                f"SELECT {BALANCE_COLUMNS} FROM accounts "  # noqa: S608 - constant columns
                "WHERE kind = ? AND namespace = ? AND name = ? AND limit_name = ? AND key = ? ORDER BY window, number",
                (ref.kind, ref.namespace, ref.name, ref.limit, AccountId(ref, key, "", Unit.USD).key_text),
            ).fetchall()
            return [account_of(row) for row in rows]

    def totals(self, account: str) -> AccountTotals:
        """See `LedgerReader`."""
        with self._lent() as connection:
            number = _number(connection, account)
            sums = connection.execute(
                "SELECT sum(requests), sum(tokens), sum(cost), sum(unpriced) FROM minutes WHERE account = ?", (number,)
            ).fetchone()
            ends = [
                connection.execute(f"{_USAGE} ORDER BY c.seq {order} LIMIT 1", (number,)).fetchone()
                for order in ("ASC", "DESC")
            ]
        first, last = (_usage_row(end).time if end else None for end in ends)
        usages, tokens, cost, unpriced = (value or 0 for value in sums)
        return AccountTotals(usages, tokens, cost, unpriced, first, last)

    def usages(self, account: str, *, page: int, size: int = 20, order: Order = "newest") -> Page[UsageRow]:
        """See `LedgerReader`."""
        direction = "DESC" if order == "newest" else "ASC"
        with self._lent() as connection:
            number = _number(connection, account)
            total = connection.execute("SELECT sum(requests) FROM minutes WHERE account = ?", (number,)).fetchone()[0]
            rows = connection.execute(
                f"{_USAGE} ORDER BY c.seq {direction} LIMIT ? OFFSET ?", (number, size, (page - 1) * size)
            ).fetchall()
        return Page([_usage_row(row) for row in rows], total or 0, page, size)

    def usage(self, account: str, id: str) -> UsageRow | None:  # noqa: A002 - the protocol's own name
        """See `LedgerReader`."""
        with self._lent() as connection:
            number = _number(connection, account)
            row = connection.execute(
                _USAGE + " AND c.seq = (SELECT seq FROM requests WHERE id = ?)",  # noqa: S608 - constants
                (number, id),
            ).fetchone()
        return _usage_row(row) if row else None

    def payments(self, account: str, *, page: int, size: int = 20, order: Order = "newest") -> Page[PaymentRow]:
        """See `LedgerReader`."""
        direction = "DESC" if order == "newest" else "ASC"
        with self._lent() as connection:
            number = _number(connection, account)
            total = connection.execute("SELECT count(*) FROM payments WHERE account = ?", (number,)).fetchone()[0]
            rows = connection.execute(
                "SELECT p.seq, t.time, p.amount, g.reason, g.reference, g.name, p.balance, t.id, g.expires_at, t.body "  # noqa: S608 - constant order
                "FROM payments p LEFT JOIN grants g ON g.id = p.grant_id JOIN transactions t ON t.seq = p.seq "
                f"WHERE p.account = ? ORDER BY p.seq {direction} LIMIT ? OFFSET ?",
                (number, size, (page - 1) * size),
            ).fetchall()
        return Page([_payment_row(row) for row in rows], total, page, size)

    def spend(self, account: str, *, slice_seconds: int, since: datetime, until: datetime) -> Sequence[SpendPoint]:
        """See `LedgerReader`; `slice_seconds` is a multiple of 60."""
        minutes = max(1, slice_seconds // 60)
        first, last = (to_micros(time) or 0 for time in (since, until))
        with self._lent() as connection:
            rows = connection.execute(
                "SELECT minute / ? * ?, sum(amount), sum(requests), sum(tokens) FROM minutes "
                "WHERE account = ? AND minute >= ? AND minute < ? GROUP BY 1 ORDER BY 1",
                (minutes, minutes, _number(connection, account), first // 60_000_000, -(-last // 60_000_000)),
            ).fetchall()
        return [SpendPoint(_minute(row[0]), *row[1:]) for row in rows]

    def metadata(self) -> Mapping[str, Any]:
        """See `LedgerReader`."""
        with self._lent() as connection:
            row = connection.execute("SELECT seq, hash, time FROM transactions ORDER BY seq DESC LIMIT 1").fetchone()
            size = connection.execute(
                "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
            ).fetchone()
        seq, head, time = row or (0, b"", None)
        return {"transactions": seq, "head": head.hex(), "last_time": to_time(time), "size_bytes": size[0]}

    def chain(self) -> Iterator[tuple[bytes, bytes]]:
        """Every transaction's canonical text and hash, in chain order, as of one moment."""
        with self._lent() as connection:
            for body, digest in connection.execute("SELECT body, hash FROM transactions ORDER BY seq"):
                yield bytes(body), bytes(digest)


def _recent(connection: sqlite3.Connection, number: int) -> tuple[int, ...]:
    rows = connection.execute(
        "SELECT amount FROM charges WHERE account = ? ORDER BY seq DESC LIMIT ?", (number, RECENT_REQUESTS)
    ).fetchall()
    return tuple(amount for (amount,) in reversed(rows))


def _number(connection: sqlite3.Connection, account: str) -> int:
    row = connection.execute("SELECT number FROM accounts WHERE id = ?", (account,)).fetchone()
    return int(row[0]) if row else -1


def _minute(minute: int) -> datetime:
    time = to_time(minute * 60_000_000)
    assert time is not None  # noqa: S101 - of an integer
    return time


def _usage_row(row: Sequence[Any]) -> UsageRow:
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


def _payment_row(row: Sequence[Any]) -> PaymentRow:
    seq, time, amount, reason, reference, grant, balance, transaction, expires_at, body = row
    booked = to_time(time)
    assert booked is not None  # noqa: S101 - the column is NOT NULL
    if grant is None:
        correction = orjson.loads(body)
        details = correction["usage"]
        reason, reference = CORRECTIONS.get(correction["kind"], correction["kind"]), details.get("reference")
        reference, grant = reference or details.get("request_id"), details["reason"]
    return PaymentRow(seq, booked, amount, reason, reference, grant, balance, transaction, to_time(expires_at))
