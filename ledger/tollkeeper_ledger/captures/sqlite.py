"""Captures in a SQLite file of their own. Several processes may use it: whoever deletes needs not ask the one that runs.

What is deleted is overwritten (`secure_delete`), its pages go back to the system step by step (`auto_vacuum`), and the log
beside the file is emptied of it. A body that is lost with the machine's power costs nobody anything, so commits do not wait
for the disk.
"""

import contextlib
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tollkeeper_ledger.captures.errors import CapturesUnavailable, NoCaptures
from tollkeeper_ledger.captures.storage import Kept, Sealed, Shrunk
from tollkeeper_ledger.files import read_connection, unreadable
from tollkeeper_ledger.rows import to_micros, to_time

VERSION: Final = 1
SPARED_BYTES: Final = 256 * 2**20
"""So much of the disk is left to the ledger and the gateway's spool, which share it: without them requests are refused."""

_WAIT_SECONDS: Final = 5.0
_PAGES_AT_ONCE: Final = 4096
_LATEST: Final = to_micros(datetime.max.replace(tzinfo=UTC))
_SCHEMA: Final = (
    # Without the checks SQLite keeps in a column whatever is written there, and one such row would hide all others.
    "CREATE TABLE captures (request_id TEXT NOT NULL UNIQUE CHECK (typeof(request_id) = 'text'), "
    "tenant TEXT NOT NULL CHECK (typeof(tenant) = 'text'), "
    f"captured INTEGER NOT NULL CHECK (typeof(captured) = 'integer' AND captured BETWEEN 0 AND {_LATEST}), "
    f"expires INTEGER NOT NULL CHECK (typeof(expires) = 'integer' AND expires BETWEEN 0 AND {_LATEST}), "
    "status INTEGER NOT NULL CHECK (typeof(status) = 'integer'), "
    "request BLOB NOT NULL CHECK (typeof(request) = 'blob'), answer BLOB NOT NULL CHECK (typeof(answer) = 'blob'))",
    "CREATE INDEX captures_by_expiry ON captures (expires)",
    "CREATE INDEX captures_by_tenant ON captures (tenant, captured)",
    f"PRAGMA user_version = {VERSION}",
)
_KEPT: Final = "request_id, tenant, captured, expires, status, length(request) + length(answer)"


class SqliteCaptures:
    """See `CaptureStore`. The file is its owner's alone (0600)."""

    def __init__(self, path: Path, *, make: bool = True, reads: bool = False) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._is_damaged = False
        with self._faults():
            self._connection = read_connection(path, _WAIT_SECONDS) if reads else _connected(path)
            try:
                self._open(make=make)
            except BaseException:
                self._connection.close()
                raise
        self._opened = _identity(path)

    @property
    def name(self) -> str:
        """See `CaptureStore`."""
        return str(self._path)

    @property
    def is_stale(self) -> bool:
        """See `CaptureStore`: a file that was moved away or replaced is still written by who has it open."""
        return self._is_damaged or _identity(self._path) != self._opened

    def add(self, captures: Sequence[Sealed]) -> None:
        """See `CaptureStore`. Raises `CapturesUnavailable` where the disk is nearly full: others need the rest."""
        with self._faults():
            free = shutil.disk_usage(self._path.parent).free
        if free < SPARED_BYTES:
            raise CapturesUnavailable(
                f"{self._path}: less than {SPARED_BYTES >> 20} MiB of its disk are free, which are left to the ledger; "
                "free some space"
            )
        with self._transaction():
            self._connection.executemany(
                "INSERT INTO captures VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                [(one.request_id, one.tenant, *_times(one), one.status, one.request, one.answer) for one in captures],
            )

    def find(self, request_id: str, now: datetime) -> Sealed | None:
        """See `CaptureStore`."""
        rows = self._rows("SELECT * FROM captures WHERE request_id = ? AND expires > ?", (request_id, to_micros(now)))
        return next((Sealed(*_read(row)) for row in rows), None)

    def listed(self, tenant: str | None, now: datetime, most: int) -> Sequence[Kept]:
        """See `CaptureStore`."""
        rows = self._rows(
            f"SELECT {_KEPT} FROM captures WHERE (?1 IS NULL OR tenant = ?1) AND expires > ?2 "  # noqa: S608 - constants
            "ORDER BY captured DESC, request_id DESC LIMIT ?3",
            (tenant, to_micros(now), most),
        )
        return [Kept(*_read(row)) for row in rows]

    def delete(self, request_id: str) -> int:
        """See `CaptureStore`."""
        return self._delete("request_id = ?", (request_id,), 1)

    def delete_of(self, tenant: str, most: int) -> int:
        """See `CaptureStore`."""
        return self._delete("tenant = ?", (tenant,), most)

    def delete_over(self, now: datetime, most: int) -> int:
        """See `CaptureStore`."""
        return self._delete("expires <= ?", (to_micros(now),), most)

    def delete_before(self, tenant: str, captured: datetime, most: int) -> int:
        """See `CaptureStore`."""
        return self._delete("tenant = ? AND captured <= ?", (tenant, to_micros(captured)), most)

    def takes(self, most: int) -> bool:
        """See `CaptureStore`."""
        with self._lock, self._faults():
            pages, free, size = (self._number(name) for name in ("page_count", "freelist_count", "page_size"))
        return (pages - free) * size >= most

    def shrink(self) -> Shrunk:
        """See `CaptureStore`. A reader that is there keeps the log from being emptied, after a bounded wait for it."""
        with self._lock, self._faults():
            # As a script: it goes one page with each step, and `execute` takes but one of a statement without columns.
            self._connection.executescript(f"PRAGMA incremental_vacuum({_PAGES_AT_ONCE})")
            is_held, _, _ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if is_held:
                return Shrunk.HELD
            return Shrunk.MORE if self._number("freelist_count") else Shrunk.DONE

    def close(self) -> None:
        """See `CaptureStore`."""
        with self._lock:
            self._connection.close()

    def _open(self, *, make: bool) -> None:
        version = self._version()
        if version == 0 and make:
            self._make()
        elif version == 0:
            raise NoCaptures(f"{self._path}: no bodies were kept there; name the folder of the ledger with --data-dir")
        elif version > VERSION:
            raise CapturesUnavailable(
                f"{self._path}: it has schema version {version} and this release knows {VERSION}; "
                "use the release that wrote it, or a newer one"
            )

    def _make(self) -> None:
        with self._transaction():
            for statement in _SCHEMA if self._version() == 0 else ():
                self._connection.execute(statement)

    def _version(self) -> int:
        return self._number("user_version")

    def _number(self, pragma: str) -> int:
        return int(self._connection.execute(f"PRAGMA {pragma}").fetchone()[0])

    def _rows(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        with self._lock, self._faults():
            return self._connection.execute(sql, values).fetchall()

    def _delete(self, where: str, values: Sequence[Any], most: int) -> int:
        with self._transaction():
            return self._connection.execute(
                f"DELETE FROM captures WHERE rowid IN (SELECT rowid FROM captures WHERE {where} LIMIT ?)",  # noqa: S608 - ours
                (*values, most),
            ).rowcount

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, self._faults():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if unreadable(self._path, error):
                self._is_damaged = True
                raise CapturesUnavailable(
                    f"{self._path}: it is damaged, or no SQLite database: move it away, and a new one is made; "
                    "what it holds is lost where nobody restores a good copy"
                ) from error
            raise CapturesUnavailable(
                f"{self._path}: {error}; nothing of this was done: see that there is room, and who uses the file"
            ) from error
        except OSError as error:
            raise CapturesUnavailable(
                f"{self._path}: it cannot be opened ({error.strerror}); see that its folder is there and can be written"
            ) from error


def _connected(path: Path) -> sqlite3.Connection:
    # Made by hand, so that nobody else may read it from its first byte on; SQLite's files beside it take its mode.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    connection = sqlite3.connect(path, timeout=_WAIT_SECONDS, check_same_thread=False, isolation_level=None)
    for pragma in ("auto_vacuum = INCREMENTAL", "journal_mode = WAL", "synchronous = NORMAL", "secure_delete = ON"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    return connection


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file lies there, by whatever name; None where none does."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _times(one: Sealed) -> tuple[int | None, int | None]:
    return to_micros(one.captured_at), to_micros(one.expires_at)


def _read(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row with its times as such."""
    request_id, tenant, captured, expires, *rest = row
    return request_id, tenant, to_time(captured), to_time(expires), *rest
