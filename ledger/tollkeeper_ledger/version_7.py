"""Schema version 7: a transaction may hold many usages, so a usage has a place of its own in the chain.

`place` is the transaction's `seq` times 2^20, plus the usage's number in it; what was booked before is the first of its
transaction. A request's row also says its tokens and its cost (none: it had no price), read out of what was booked.

The names of JSON and columns are those of this version; what later versions add is theirs to fill.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from operator import add
from typing import Any

import orjson

from tollkeeper_ledger.errors import LedgerUnavailable
from tollkeeper_ledger.rows import to_micros

_SHIFT = 20
_HOUR = 3_600_000_000
_BY_DAY_ALONE = ("session", "investigation")
_DIMENSIONS = {
    "tenant": 0,
    "user": 1,
    "feature": 2,
    "assistant": 3,
    "session": 4,
    "investigation": 5,
    "api_key": 6,
    "namespace": 7,
    "provider": 9,
    "model": 10,
}
"""Dimensions of hours and days, and which of a request's columns has them, from `tenant` on."""

_Usage = tuple[int, tuple[Any, ...], tuple[int, ...]]
"""When it ended, the columns of `_DIMENSIONS`, and its `_SUMS`."""

_SUMS = ("requests", "errors", "unpriced", "input_tokens", "output_tokens", "cost", "micros")
_OLD_COLUMNS = (
    "id, finished, tenant, user_name, feature, assistant, session, investigation, api_key, namespace, workload, "
    "provider, model, tool, status, outcome"
)
_CREATE = (
    "DROP INDEX requests_by_time",
    "ALTER TABLE requests RENAME TO requests_of_version_6",
    "ALTER TABLE charges RENAME TO charges_of_version_6",
    """CREATE TABLE requests (
      place INTEGER PRIMARY KEY,
      id TEXT NOT NULL UNIQUE,
      finished INTEGER NOT NULL,
      tenant TEXT NOT NULL, user_name TEXT, feature TEXT, assistant TEXT, session TEXT, investigation TEXT,
      api_key TEXT, namespace TEXT, workload TEXT,
      provider TEXT NOT NULL, model TEXT NOT NULL, tool TEXT,
      status INTEGER NOT NULL, outcome TEXT NOT NULL,
      tokens INTEGER NOT NULL, cost INTEGER
    )""",
    """CREATE TABLE charges (
      account INTEGER NOT NULL,
      place INTEGER NOT NULL,
      amount INTEGER NOT NULL,
      balance INTEGER NOT NULL,
      PRIMARY KEY (account, place)
    ) WITHOUT ROWID""",
    f"INSERT INTO charges SELECT account, seq << {_SHIFT}, amount, balance FROM charges_of_version_6",  # noqa: S608 - constants
    "DROP TABLE charges_of_version_6",
    *(
        f"""CREATE TABLE {table} (
          tenant TEXT NOT NULL, dimension TEXT NOT NULL, at INTEGER NOT NULL, value TEXT NOT NULL,
          requests INTEGER NOT NULL, errors INTEGER NOT NULL, unpriced INTEGER NOT NULL,
          input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, cost INTEGER NOT NULL, micros INTEGER NOT NULL,
          PRIMARY KEY (tenant, dimension, at, value)
        ) WITHOUT ROWID"""
        for table in ("hours", "days")
    ),
)
_ROWS = (
    f"SELECT r.seq, t.body, {_OLD_COLUMNS} FROM requests_of_version_6 r "  # noqa: S608 - constants
    "JOIN transactions t ON t.seq = r.seq ORDER BY r.seq"
).replace("SELECT r.seq, t.body, id", "SELECT r.seq, t.body, r.id")
_OUTPUT = ("output", "reasoning", "audio_output")
_AT_ONCE = 10_000
_FILL = f"INSERT INTO requests VALUES ({', '.join('?' * 19)})"  # noqa: S608 - constants


def apply(connection: sqlite3.Connection) -> None:
    """Bring a database of version 6 here, inside the caller's transaction. Raises `LedgerUnavailable` for damaged rows."""
    for statement in _CREATE:
        connection.execute(statement)
    usages: list[_Usage] = []
    connection.executemany(_FILL, _requests(connection, usages))
    _roll_up(connection, usages)
    connection.execute("CREATE INDEX requests_by_time ON requests (finished)")
    connection.execute("DROP TABLE requests_of_version_6")


def _requests(connection: sqlite3.Connection, usages: list[_Usage]) -> Iterator[tuple[Any, ...]]:
    """The requests' rows; `usages` collects what they add to the hours and days, and is emptied into these as it grows."""
    for seq, body, *columns in connection.execute(_ROWS):
        try:
            usage = orjson.loads(body)["usage"]
            yield (seq << _SHIFT, *columns, sum(usage["buckets"].values()), usage["cost"])
            usages.append(_usage(columns, usage))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise LedgerUnavailable(
                f"transaction {seq} is damaged ({error!r}), so this release's columns cannot be filled from it; "
                "export the ledger, verify it, and restore a good copy"
            ) from error
        if len(usages) >= _AT_ONCE:
            _roll_up(connection, usages)


def _usage(columns: Sequence[Any], usage: Mapping[str, Any]) -> _Usage:
    """What a request adds to the hours and days; `columns` are those of `_OLD_COLUMNS`."""
    finished, status, outcome = columns[1], columns[14], columns[15]
    admitted = to_micros(datetime.fromisoformat(usage["admitted_at"])) or 0
    output = sum(usage["buckets"].get(name, 0) for name in _OUTPUT)
    tokens, cost = sum(usage["buckets"].values()) - output, usage["cost"]
    failed = status >= 400 or outcome != "ok"
    return finished, tuple(columns[2:13]), (1, failed, cost is None, tokens, output, cost or 0, finished - admitted)


def _roll_up(connection: sqlite3.Connection, usages: list[_Usage]) -> None:
    """Add usages to the hours and days, and forget them."""
    hours: dict[tuple[Any, ...], Sequence[int]] = {}
    days: dict[tuple[Any, ...], Sequence[int]] = {}
    for finished, labels, sums in usages:
        hour = finished // _HOUR
        for dimension, column in _DIMENSIONS.items():
            value = labels[column]
            if value is not None:
                _add(days, (labels[0], dimension, hour // 24, value), sums)
                if dimension not in _BY_DAY_ALONE:
                    _add(hours, (labels[0], dimension, hour, value), sums)
    added = ", ".join(f"{name} = {name} + excluded.{name}" for name in _SUMS)
    for table, rows in (("hours", hours), ("days", days)):
        connection.executemany(
            f"INSERT INTO {table} VALUES ({', '.join('?' * 11)}) "  # noqa: S608 - constants
            f"ON CONFLICT (tenant, dimension, at, value) DO UPDATE SET {added}",
            [(*key, *sums) for key, sums in rows.items()],
        )
    usages.clear()


def _add(rows: dict[tuple[Any, ...], Sequence[int]], key: tuple[Any, ...], sums: Sequence[int]) -> None:
    known = rows.get(key)
    rows[key] = sums if known is None else list(map(add, known, sums))
