"""How fast the bare requests can be inserted: one table, one row a request, its id unique, as durable as the ledger."""

import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psycopg

from tollkeeper.usage import UsageRecord

Row = tuple[Any, ...]
Batches = Sequence[Sequence[Row]]
"""Each is a commit."""

COLUMNS = (
    "id", "upstream_id", "holder", "tenant", "user_name", "feature", "assistant", "session", "provider", "model", "tokens",
    "cost", "admitted", "finished", "status",
)  # fmt: skip
_NUMBERS = {"tokens", "cost", "status"}
_MADE = ", ".join(f"{name} {'BIGINT' if name in _NUMBERS else 'TEXT'}" for name in COLUMNS[1:])
CREATE = f"CREATE TABLE usages (id TEXT PRIMARY KEY, {_MADE})"


def row(record: UsageRecord) -> Row:
    """A request as `COLUMNS`."""
    who = record.caller
    times = record.admitted_at.isoformat(), record.finished_at.isoformat()
    about = (who.tenant, who.user, who.feature, who.assistant, who.session, record.provider, record.model)
    return (
        record.id, record.upstream_id, record.holder, *about, record.buckets.total, record.cost, *times, record.status,
    )  # fmt: skip


def on_sqlite(path: Path) -> Callable[[Batches], float]:
    """What inserts batches into a file, and says how many seconds that took."""

    def insert(batches: Batches) -> float:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(CREATE)
        began = time.perf_counter()
        for batch in batches:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(f"INSERT INTO usages VALUES ({', '.join('?' * len(COLUMNS))})", batch)  # noqa: S608 - signs
            connection.execute("COMMIT")
        taken = time.perf_counter() - began
        connection.close()
        return taken

    return insert


def on_postgres(dsn: str) -> Callable[[Batches], float]:
    """What copies batches into a database, and says how many seconds that took."""

    def insert(batches: Batches) -> float:
        with psycopg.connect(dsn) as connection:
            connection.execute(CREATE.encode())
            connection.commit()
            began = time.perf_counter()
            for batch in batches:
                with connection.cursor().copy(f"COPY usages ({', '.join(COLUMNS)}) FROM STDIN".encode()) as copy:
                    for one in batch:
                        copy.write_row(one)
                connection.commit()
            return time.perf_counter() - began

    return insert
