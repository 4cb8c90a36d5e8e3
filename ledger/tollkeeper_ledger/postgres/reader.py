"""What console, status and reports ask of a PostgreSQL database: a `LedgerReader` over connections that only read."""

import queue
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from tollkeeper_ledger.bodies import unpacked
from tollkeeper_ledger.errors import LedgerUnavailable, NoLedger
from tollkeeper_ledger.postgres.schema import MIGRATIONS
from tollkeeper_ledger.postgres.session import Connection, connect, name_of, one_line
from tollkeeper_ledger.questions import Questions
from tollkeeper_ledger.rows import to_time

CONNECTIONS = 4
WAIT_SECONDS = 5.0

_FETCHED_AT_ONCE = 2000
_SIZE = """SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c
WHERE c.relkind = 'r' AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('chain_head'))"""


class PostgresAsking:
    """A snapshot that a connection's transaction sees."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """See `Asking`."""
        return self._connection.execute(sql.replace("?", "%s").encode(), values or None).fetchall()

    def row(self, sql: str, values: Sequence[Any] = ()) -> Any:
        """See `Asking`."""
        return self._connection.execute(sql.replace("?", "%s").encode(), values or None).fetchone()

    def each(self, sql: str) -> Generator[Any]:
        """All rows, fetched some at a time."""
        with self._connection.cursor(name="each") as cursor:
            cursor.itersize = _FETCHED_AT_ONCE
            cursor.execute(sql.encode())
            yield from cursor


class PostgresReader(Questions):
    """Reads one ledger. Raises `LedgerUnavailable` when the database does not answer within a few seconds, of which
    `NoLedger` is one where it has none."""

    chain_end = "SELECT seq, hash FROM chain_head WHERE chain = 'ledger'"
    schema = ("SELECT version FROM ledger_schema", len(MIGRATIONS))
    table = "SELECT 1 WHERE to_regclass(?) IS NOT NULL"
    same_transaction = "t.seq = {line}.seq AND t.time = {line}.time"

    def __init__(self, dsn: str) -> None:
        self._name = name_of(dsn)
        self._dsn = dsn
        self._pool: queue.Queue[Connection | None] = queue.Queue()
        for _ in range(CONNECTIONS):
            self._pool.put(None)

    def close(self) -> None:
        """Close all connections."""
        for _ in range(CONNECTIONS):
            connection = self._pool.get(timeout=WAIT_SECONDS)
            if connection is not None:
                connection.close()

    @contextmanager
    def _lent(self) -> Iterator[PostgresAsking]:
        try:
            connection = self._pool.get(timeout=WAIT_SECONDS)
        except queue.Empty as error:
            raise LedgerUnavailable(f"ledger {self._name}: too many questions at once; try again") from error
        try:
            connection = self._alive(connection)
            with connection.transaction():
                yield PostgresAsking(connection)
        except psycopg.errors.UndefinedTable as error:
            raise NoLedger(f"{self._name}: there is no ledger in this database") from error
        except psycopg.Error as error:
            raise LedgerUnavailable(f"ledger {self._name}: {one_line(error)}; see that the server runs") from error
        finally:
            self._pool.put(connection)

    def _alive(self, connection: Connection | None) -> Connection:
        """A connection that answers: this one, or a new one where the server went away since."""
        if connection is not None:
            try:
                connection.execute("SELECT 1")
            except psycopg.Error:
                connection.close()
            else:
                return connection
        fresh = connect(self._dsn)
        fresh.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        fresh.read_only = True
        return fresh

    def metadata(self) -> Mapping[str, Any]:
        """See `LedgerReader`."""
        with self._lent() as snapshot:
            row = snapshot.row("SELECT seq, hash, time FROM transactions ORDER BY seq DESC LIMIT 1")
            size = snapshot.row(_SIZE)
        seq, head, time = row or (0, b"", None)
        return {"transactions": seq, "head": head.hex(), "last_time": to_time(time), "size_bytes": int(size[0] or 0)}

    def chain(self) -> Generator[tuple[bytes, bytes]]:
        """Every transaction's canonical text and hash, in chain order, as of one moment."""
        with self._lent() as snapshot:
            for body, digest in snapshot.each("SELECT body, hash FROM transactions ORDER BY seq"):
                yield unpacked(body), bytes(digest)
