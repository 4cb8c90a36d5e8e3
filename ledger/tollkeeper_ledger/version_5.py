"""Schema version 5: what a request was about stands in columns, so that usages are found without reading their JSON (R34).

`requests` gets the dimensions of each request. `occurrences` counts how many usages of an account have a value: what there
is to choose from, and how many match, without a look at the usages. Both are filled from what was booked before.

The names of JSON and columns are those of this version; what later versions add is theirs to fill.
"""

import sqlite3
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import orjson

from tollkeeper_ledger.errors import LedgerUnavailable
from tollkeeper_ledger.rows import to_micros

_CREATE = (
    "ALTER TABLE requests RENAME TO requests_of_version_4",
    """CREATE TABLE requests (
      seq INTEGER PRIMARY KEY,
      id TEXT NOT NULL UNIQUE,
      finished INTEGER NOT NULL,
      tenant TEXT NOT NULL, user_name TEXT, feature TEXT, assistant TEXT, session TEXT, investigation TEXT,
      api_key TEXT, namespace TEXT, workload TEXT,
      provider TEXT NOT NULL, model TEXT NOT NULL, tool TEXT,
      status INTEGER NOT NULL, outcome TEXT NOT NULL
    )""",
    """CREATE TABLE occurrences (
      account INTEGER NOT NULL,
      dimension TEXT NOT NULL,
      value TEXT NOT NULL,
      usages INTEGER NOT NULL,
      PRIMARY KEY (account, dimension, value)
    ) WITHOUT ROWID""",
)
_BODIES = "SELECT b.seq, t.body FROM requests_of_version_4 b JOIN transactions t ON t.seq = b.seq ORDER BY b.seq"
_FILL = f"INSERT INTO requests VALUES ({', '.join('?' * 17)})"  # noqa: S608 - constants
_OF_CALLER = ("user", "feature", "assistant", "session", "investigation", "api_key", "namespace", "workload")
_COUNTED = {
    "model": "r.model",
    "tool": "r.tool",
    "assistant": "r.assistant",
    "api_key": "r.api_key",
    "user": "r.user_name",
    "feature": "r.feature",
    "status": "CAST(r.status AS TEXT)",
    "outcome": "r.outcome",
}


def apply(connection: sqlite3.Connection) -> None:
    """Bring a database of version 4 here, inside the caller's transaction. Raises `LedgerUnavailable` for damaged rows."""
    for statement in _CREATE:
        connection.execute(statement)
    connection.executemany(_FILL, _requests(connection))
    for dimension, value in _COUNTED.items():
        connection.execute(
            f"INSERT INTO occurrences SELECT c.account, ?, {value}, count(*) FROM charges c "  # noqa: S608 - constants
            f"JOIN requests r ON r.seq = c.seq WHERE {value} IS NOT NULL GROUP BY c.account, {value}",
            (dimension,),
        )
    # A time range becomes a range of bookings through it; built at the end, in one go.
    connection.execute("CREATE INDEX requests_by_time ON requests (finished)")
    connection.execute("DROP TABLE requests_of_version_4")


def _requests(connection: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    for seq, body in connection.execute(_BODIES):
        try:
            yield _row(seq, orjson.loads(body)["usage"])
        except (KeyError, TypeError, ValueError) as error:
            raise LedgerUnavailable(
                f"transaction {seq} is damaged ({error!r}), so this release's columns cannot be filled from it; "
                "export the ledger, verify it, and restore a good copy"
            ) from error


def _row(seq: int, usage: dict[str, Any]) -> tuple[Any, ...]:
    caller = usage["caller"]
    return (
        seq,
        usage["request_id"],
        to_micros(datetime.fromisoformat(usage["finished_at"])),
        caller["tenant"],
        *(caller.get(name) for name in _OF_CALLER),
        *(usage[name] for name in ("provider", "model", "tool", "status", "outcome")),
    )
