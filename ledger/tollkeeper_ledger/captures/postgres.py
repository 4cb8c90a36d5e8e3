"""Captures in a table of the ledger's PostgreSQL database, on connections of their own; its schema has a version of its own.

Bodies are compressed and encrypted, so the server is told not to try again. Rows that several delete at once are skipped by
all but the first. What is deleted gives its room back when the server vacuums.
"""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from tollkeeper_ledger.captures.errors import CapturesUnavailable, NoCaptures
from tollkeeper_ledger.captures.storage import Kept, Sealed, Shrunk
from tollkeeper_ledger.errors import LedgerUnavailable, Unstorable
from tollkeeper_ledger.postgres.session import Fault, Interrupted, Session
from tollkeeper_ledger.rows import to_micros, to_time

VERSION: Final = 1

_ATTEMPTS: Final = 5
_SCHEMA: Final = (
    "CREATE TABLE captures (request_id TEXT PRIMARY KEY, tenant TEXT NOT NULL, captured BIGINT NOT NULL, "
    "expires BIGINT NOT NULL, status INTEGER NOT NULL, request BYTEA NOT NULL, answer BYTEA NOT NULL)",
    "ALTER TABLE captures ALTER COLUMN request SET STORAGE EXTERNAL, ALTER COLUMN answer SET STORAGE EXTERNAL",
    "CREATE INDEX captures_by_expiry ON captures (expires)",
    "CREATE INDEX captures_by_tenant ON captures (tenant, captured)",
)
_KEPT: Final = "request_id, tenant, captured, expires, status, length(request) + length(answer)"
_DEAD: Final = (
    "SELECT 2048 * pg_stat_get_dead_tuples(reltoastrelid) + pg_stat_get_dead_tuples(oid) "
    "FROM pg_class WHERE oid = 'captures'::regclass"
)
"""What the server's vacuum has not made free yet; bodies lie in parts of nearly so many bytes."""

_ROW: Final = "(%s, %s, %s, %s, %s, %s, %s)"


class PostgresCaptures:
    """See `CaptureStore`."""

    def __init__(self, dsn: str, *, make: bool = True) -> None:
        self._lock = threading.Lock()
        self._session = Session(dsn)
        try:
            with self._faults():
                self._open(make=make)
        except BaseException:
            self._session.drop()
            raise

    @property
    def name(self) -> str:
        """See `CaptureStore`."""
        return self._session.name

    @property
    def is_stale(self) -> bool:
        """See `CaptureStore`: what it has open is the server's matter."""
        return False

    def add(self, captures: Sequence[Sealed]) -> None:
        """See `CaptureStore`."""
        if not captures:
            return
        values = [
            value
            for one in captures
            for value in (
                one.request_id,
                one.tenant,
                to_micros(one.captured_at),
                to_micros(one.expires_at),
                one.status,
                one.request,
                one.answer,
            )
        ]
        rows = ", ".join([_ROW] * len(captures))
        self._change(f"INSERT INTO captures VALUES {rows} ON CONFLICT DO NOTHING", values)  # noqa: S608 - placeholders

    def find(self, request_id: str, now: datetime) -> Sealed | None:
        """See `CaptureStore`."""
        rows = self._ask("SELECT * FROM captures WHERE request_id = %s AND expires > %s", (request_id, to_micros(now)))
        return next((Sealed(*_read(row)) for row in rows), None)

    def listed(self, tenant: str | None, now: datetime, most: int) -> Sequence[Kept]:
        """See `CaptureStore`."""
        rows = self._ask(
            f"SELECT {_KEPT} FROM captures WHERE (%s::text IS NULL OR tenant = %s) AND expires > %s "  # noqa: S608 - constants
            "ORDER BY captured DESC, request_id DESC LIMIT %s",
            (tenant, tenant, to_micros(now), most),
        )
        return [Kept(*_read(row)) for row in rows]

    def delete(self, request_id: str) -> int:
        """See `CaptureStore`."""
        return self._delete("request_id = %s", (request_id,), 1)

    def delete_of(self, tenant: str, most: int) -> int:
        """See `CaptureStore`."""
        return self._delete("tenant = %s", (tenant,), most)

    def delete_over(self, now: datetime, most: int) -> int:
        """See `CaptureStore`."""
        return self._delete("expires <= %s", (to_micros(now),), most)

    def delete_before(self, tenant: str, captured: datetime, most: int) -> int:
        """See `CaptureStore`."""
        return self._delete("tenant = %s AND captured <= %s", (tenant, to_micros(captured)), most)

    def takes(self, most: int) -> bool:
        """See `CaptureStore`. Tables keep the room of what was deleted: where it is large, the bodies in it are added up."""
        if self._ask("SELECT pg_total_relation_size('captures')", ())[0][0] < most:
            return False
        kept = self._ask("SELECT coalesce(sum(length(request) + length(answer)), 0) FROM captures", ())[0][0]
        return bool(kept + self._ask(_DEAD, ())[0][0] >= most)

    def shrink(self) -> Shrunk:
        """See `CaptureStore`: the server's own vacuum does it."""
        return Shrunk.DONE

    def close(self) -> None:
        """See `CaptureStore`."""
        with self._lock:
            self._session.drop()

    def _open(self, *, make: bool) -> None:
        version = self._version()
        if version is None and not make:
            raise NoCaptures(
                f"{self.name}: no bodies were kept there; name its database in storage.postgres of the settings"
            )
        if version is None:
            self._make()
        elif version > VERSION:
            raise CapturesUnavailable(
                f"{self.name}: its captures have schema version {version} and this release knows {VERSION}; "
                "use the release that wrote them, or a newer one"
            )

    def _version(self) -> int | None:
        if self._session.ask("SELECT to_regclass('captures_schema')")[0][0] is None:
            return None
        return int(self._session.ask("SELECT version FROM captures_schema")[0][0])

    def _make(self) -> None:
        """Make the tables; where somebody else does so at the same moment, theirs."""
        for attempt in range(_ATTEMPTS):
            try:
                self._session.change("BEGIN")
                self._session.change("CREATE TABLE captures_schema (version BIGINT NOT NULL)")
                for statement in _SCHEMA:
                    self._session.change(statement)
                self._session.change("INSERT INTO captures_schema VALUES (%s)", (VERSION,))
                self._session.change("COMMIT")
            except Interrupted as interrupted:
                self._session.rollback()
                if interrupted.fault is not Fault.CONTENDED or attempt == _ATTEMPTS - 1:
                    raise
            if self._version() is not None:
                return

    def _ask(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        with self._lock, self._faults():
            return self._session.ask(sql, values)

    def _change(self, sql: str, values: Sequence[Any]) -> int:
        with self._lock, self._faults():
            return self._session.change(sql, values)

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        """A session speaks of the ledger and of booking; nothing of that is here."""
        try:
            yield
        except (LedgerUnavailable, Unstorable) as error:
            said = str(error).removeprefix("ledger ").replace("of this was booked", "of this was done")
            raise CapturesUnavailable(said) from error

    def _delete(self, where: str, values: Sequence[Any], most: int) -> int:
        chosen = f"SELECT request_id FROM captures WHERE {where} LIMIT %s FOR UPDATE SKIP LOCKED"  # noqa: S608 - ours
        return self._change(f"DELETE FROM captures WHERE request_id IN ({chosen})", (*values, most))  # noqa: S608 - ours


def _read(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row with its times as such."""
    request_id, tenant, captured, expires, *rest = row
    return request_id, tenant, to_time(captured), to_time(expires), *rest
