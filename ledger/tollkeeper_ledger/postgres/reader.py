"""What console, status and reports ask of a PostgreSQL database: a `LedgerReader` over connections that only read."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from tollkeeper_ledger.errors import LedgerUnavailable
from tollkeeper_ledger.postgres.session import name_of, one_line
from tollkeeper_ledger.questions import Questions
from tollkeeper_ledger.rows import to_time

CONNECTIONS = 4
WAIT_SECONDS = 5.0

_FETCHED_AT_ONCE = 2000
_SIZE = """SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c
WHERE c.relkind = 'r' AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('chain_head'))"""


class PostgresAsking:
    """A snapshot that a connection's transaction sees."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection = connection

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """See `Asking`."""
        return self._connection.execute(sql.replace("?", "%s").encode(), values or None).fetchall()

    def row(self, sql: str, values: Sequence[Any] = ()) -> Any:
        """See `Asking`."""
        return self._connection.execute(sql.replace("?", "%s").encode(), values or None).fetchone()

    def each(self, sql: str) -> Iterator[Any]:
        """All rows, fetched some at a time."""
        with self._connection.cursor(name="each") as cursor:
            cursor.itersize = _FETCHED_AT_ONCE
            cursor.execute(sql.encode())
            yield from cursor


class PostgresReader(Questions):
    """Reads one ledger. Raises `LedgerUnavailable` when the database does not answer within a few seconds."""

    same_transaction = "t.seq = {line}.seq AND t.time = {line}.time"

    def __init__(self, dsn: str) -> None:
        self._name = name_of(dsn)
        self._pool: ConnectionPool[psycopg.Connection[tuple[Any, ...]]] = ConnectionPool(
            dsn,
            min_size=0,
            max_size=CONNECTIONS,
            timeout=WAIT_SECONDS,
            reconnect_timeout=WAIT_SECONDS,
            check=ConnectionPool.check_connection,
            configure=_configure,
            name="ledger-reader",
            open=True,
        )

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()

    @contextmanager
    def _lent(self) -> Iterator[PostgresAsking]:
        try:
            with self._pool.connection() as connection:
                yield PostgresAsking(connection)
        except PoolTimeout as error:
            raise LedgerUnavailable(
                f"ledger {self._name}: no connection within {WAIT_SECONDS:.0f} s ({one_line(error)}); see that the server runs"
            ) from error
        except psycopg.Error as error:
            raise LedgerUnavailable(f"ledger {self._name}: {one_line(error)}") from error

    def metadata(self) -> Mapping[str, Any]:
        """See `LedgerReader`."""
        with self._lent() as snapshot:
            row = snapshot.row("SELECT seq, hash, time FROM transactions ORDER BY seq DESC LIMIT 1")
            size = snapshot.row(_SIZE)
        seq, head, time = row or (0, b"", None)
        return {"transactions": seq, "head": head.hex(), "last_time": to_time(time), "size_bytes": int(size[0] or 0)}

    def chain(self) -> Iterator[tuple[bytes, bytes]]:
        """Every transaction's canonical text and hash, in chain order, as of one moment."""
        with self._lent() as snapshot:
            for body, digest in snapshot.each("SELECT body, hash FROM transactions ORDER BY seq"):
                yield bytes(body), bytes(digest)


def _configure(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True
