"""What console, status and reports ask of a SQLite file: a `LedgerReader` over connections that only read.

Every question sees one committed state. Connections are lent from a small pool, so any thread may ask.
"""

import queue
import sqlite3
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tollkeeper_ledger.bodies import unpacked
from tollkeeper_ledger.errors import LedgerUnavailable, NoLedger
from tollkeeper_ledger.files import read_connection, unreadable
from tollkeeper_ledger.questions import Questions
from tollkeeper_ledger.rows import to_time
from tollkeeper_ledger.schema import MIGRATIONS, holds_ledger

CONNECTIONS = 4
WAIT_SECONDS = 5.0


class SqliteAsking:
    """A snapshot that a connection's transaction sees."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """See `Asking`."""
        return self._connection.execute(sql, values).fetchall()

    def row(self, sql: str, values: Sequence[Any] = ()) -> Any:
        """See `Asking`."""
        return self._connection.execute(sql, values).fetchone()

    def holds_ledger(self) -> bool:
        """See `schema.holds_ledger`."""
        return holds_ledger(self._connection)

    def each(self, sql: str) -> Generator[Any]:
        """All rows, one by one."""
        yield from self._connection.execute(sql)


class SqliteReader(Questions):
    """Reads one ledger file. Raises `LedgerUnavailable` when it cannot answer within a few seconds."""

    schema = ("PRAGMA user_version", len(MIGRATIONS))

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pool: queue.Queue[sqlite3.Connection] = queue.Queue()
        try:
            for _ in range(CONNECTIONS):
                self._pool.put(read_connection(path, WAIT_SECONDS))
        except sqlite3.Error as error:
            raise unreadable(path, error) or LedgerUnavailable(f"ledger {path}: {error}") from error

    def close(self) -> None:
        """Close all connections."""
        for _ in range(CONNECTIONS):
            self._pool.get(timeout=WAIT_SECONDS).close()

    @contextmanager
    def _lent(self) -> Iterator[SqliteAsking]:
        try:
            connection = self._pool.get(timeout=WAIT_SECONDS)
        except queue.Empty as error:
            raise LedgerUnavailable(f"ledger {self._path}: too many questions at once; try again") from error
        try:
            connection.execute("BEGIN")
            yield SqliteAsking(connection)
        except sqlite3.Error as error:
            raise unreadable(self._path, error) or LedgerUnavailable(f"ledger {self._path}: {error}") from error
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._pool.put(connection)

    def metadata(self) -> Mapping[str, Any]:
        """See `LedgerReader`. Raises `NoLedger` where none was ever made in the file."""
        with self._lent() as snapshot:
            if not snapshot.holds_ledger():
                raise NoLedger(f"ledger {self._path}: it holds no ledger")
            row = snapshot.row("SELECT seq, hash, time FROM transactions ORDER BY seq DESC LIMIT 1")
            size = snapshot.row("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
        seq, head, time = row or (0, b"", None)
        return {"transactions": seq, "head": head.hex(), "last_time": to_time(time), "size_bytes": size[0]}

    def chain(self) -> Generator[tuple[bytes, bytes]]:
        """Every transaction's canonical text and hash, in chain order, as of one moment."""
        with self._lent() as snapshot:
            for body, digest in snapshot.each("SELECT body, hash FROM transactions ORDER BY seq"):
                yield unpacked(body), bytes(digest)
