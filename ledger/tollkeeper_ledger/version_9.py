"""Schema version 9: the usages of a report lie packed, in one row for the report and one for each account it was charged to.

Of a request stands its id and its place; what it was about, when it ended and its tokens lie with its whole report, its
texts as codes of `words`. `hours` and `days` get two more dimensions, `workload` and `tool`, filled from what was booked.

The layout and the names are those of this version; what later versions change is theirs to carry over. Both storages take
this step, each with its own statements.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from operator import add
from typing import Any

import numpy as np
import orjson

from tollkeeper_ledger.bodies import unpacked
from tollkeeper_ledger.errors import ChainBroken, LedgerUnavailable
from tollkeeper_ledger.rows import to_micros

_SHIFT = 20
_LONG, _HOUR = 3_600_000_000, 3_600_000_000
_WORDS = ("model", "tool", "assistant", "api_key", "user", "feature", "outcome", "provider")
_USAGE = np.dtype(
    [
        ("finished", "<i8"),
        ("tokens", "<i8"),
        ("status", "<i8"),
        ("unpriced", "<u4"),
        *((name, "<u4") for name in _WORDS),
    ]
)
_CHARGE = np.dtype([("number", "<u4"), ("amount", "<i8"), ("balance", "<i8")])

REQUESTS = (
    "SELECT place, finished, tokens, status, cost, model, tool, assistant, api_key, user_name, feature, outcome, provider "
    "FROM {requests} WHERE place >= {first} AND place < {after} ORDER BY place"
)
"""What `reports_of` reads."""

CHARGES = (
    "SELECT account, place, amount, balance FROM {charges} WHERE account >= {first} AND account < {after} "
    "ORDER BY account, place"
)
"""What `charges_of` reads."""

BODIES = (
    "SELECT seq, body FROM transactions WHERE seq IN "
    "(SELECT place >> 20 FROM {requests} WHERE workload IS NOT NULL OR tool IS NOT NULL) ORDER BY seq"
)
ROLLUP_COLUMNS = (
    "tenant", "dimension", "at", "value",
    "requests", "errors", "unpriced", "input_tokens", "output_tokens", "cost", "micros",
)  # fmt: skip
_OUTPUT = ("output", "reasoning", "audio_output")
_LARGEST = 2**63 - 1

Row = tuple[Any, ...]
CodeOf = Callable[[str], int]


def reports_of(rows: Iterable[Row], code_of: CodeOf) -> Iterator[Row]:
    """Rows of `reports`, out of those of `REQUESTS`."""
    for seq, group in groupby(rows, lambda row: row[0] >> _SHIFT):
        columns = list(zip(*group, strict=True))
        _, finished, tokens, status, costs, *texts = columns
        # In the order in which a report's words get their codes: column by column.
        packed = np.empty(len(finished), _USAGE)
        packed["finished"], packed["tokens"], packed["status"] = finished, tokens, status
        packed["unpriced"] = [cost is None for cost in costs]
        for name, column in zip(_WORDS, texts, strict=True):
            packed[name] = [0 if value is None else code_of(value) for value in column]
        yield seq, min(finished), max(finished), len(finished), packed.tobytes()


def charges_of(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows of `charges` (account, seq, usages, packed), out of those of `CHARGES`, and what more each of a report had."""
    for (account, seq), group in groupby(rows, lambda row: (row[0], row[1] >> _SHIFT)):
        _, places, amounts, balances, *more = zip(*group, strict=True)
        packed = np.empty(len(places), _CHARGE)
        packed["number"] = np.array(places, np.int64) - (seq << _SHIFT)
        packed["amount"], packed["balance"] = amounts, balances
        yield account, seq, len(places), packed.tobytes(), *(column[0] for column in more)


def sums_of(bodies: Iterable[tuple[int, bytes]]) -> tuple[list[Row], list[Row]]:
    """What booked usages add to the hours and days by workload and tool. Raises `LedgerUnavailable` for damaged ones."""
    hours: dict[Row, list[int]] = {}
    days: dict[Row, list[int]] = {}
    for seq, body in bodies:
        try:
            usage = orjson.loads(unpacked(body))["usage"]
            for row in usage if isinstance(usage, list) else [usage]:
                _add_usage(hours, days, row)
        except (ChainBroken, KeyError, TypeError, ValueError, AttributeError) as error:
            raise LedgerUnavailable(
                f"transaction {seq} is damaged ({error!r}), so this release's sums cannot be filled from it; "
                "export the ledger, verify it, and restore a good copy"
            ) from error
    return _rows(hours), _rows(days)


def _add_usage(hours: dict[Row, list[int]], days: dict[Row, list[int]], usage: Mapping[str, Any]) -> None:
    caller = usage["caller"]
    hour = (to_micros(datetime.fromisoformat(usage["finished_at"])) or 0) // _HOUR
    for dimension, value in (("workload", caller.get("workload")), ("tool", usage["tool"])):
        if value is not None:
            sums = _sums(usage)
            for table, at in ((hours, hour), (days, hour // 24)):
                key = (caller["tenant"], dimension, at, value)
                table[key] = list(map(add, table[key], sums)) if key in table else sums


def _sums(usage: Mapping[str, Any]) -> list[int]:
    finished, admitted = (
        to_micros(datetime.fromisoformat(usage[name])) or 0 for name in ("finished_at", "admitted_at")
    )
    output = sum(usage["buckets"].get(name, 0) for name in _OUTPUT)
    failed, cost = usage["status"] >= 400 or usage["outcome"] != "ok", usage["cost"]
    tokens = sum(usage["buckets"].values()) - output
    return [1, int(failed), int(cost is None), tokens, output, cost or 0, finished - admitted]


def _rows(sums: Mapping[Row, Sequence[int]]) -> list[Row]:
    return [(*key, *(min(one, _LARGEST) for one in sums[key])) for key in sorted(sums)]


_CREATE = (
    "DROP INDEX requests_by_time",
    "ALTER TABLE requests RENAME TO requests_of_version_8",
    "ALTER TABLE charges RENAME TO charges_of_version_8",
    "CREATE TABLE requests (id TEXT PRIMARY KEY, place INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE words (code INTEGER PRIMARY KEY, word TEXT NOT NULL UNIQUE)",
    """CREATE TABLE reports (
      seq INTEGER PRIMARY KEY,
      first_end INTEGER NOT NULL, last_end INTEGER NOT NULL,
      usages INTEGER NOT NULL,
      packed BLOB NOT NULL
    )""",
    """CREATE TABLE charges (
      account INTEGER NOT NULL,
      seq INTEGER NOT NULL,
      usages INTEGER NOT NULL,
      packed BLOB NOT NULL,
      PRIMARY KEY (account, seq)
    ) WITHOUT ROWID""",
    "INSERT INTO requests SELECT id, place FROM requests_of_version_8",
)
_FINISH = (
    # A time range becomes a range of reports through them; built at the end, in one go.
    "CREATE INDEX reports_by_time ON reports (last_end, first_end)",
    f"CREATE INDEX long_reports ON reports (last_end, first_end) WHERE last_end - first_end >= {_LONG}",
    "DROP TABLE requests_of_version_8",
    "DROP TABLE charges_of_version_8",
)


def apply(connection: sqlite3.Connection) -> None:
    """Bring a database of version 8 here, inside the caller's transaction. Raises `LedgerUnavailable` for damaged rows."""
    for statement in _CREATE:
        connection.execute(statement)
    whole = {"first": 0, "after": _LARGEST}
    codes: dict[str, int] = {}
    rows = connection.execute(REQUESTS.format(requests="requests_of_version_8", **whole))
    reports = reports_of(rows, lambda word: codes.setdefault(word, len(codes) + 1))
    connection.executemany("INSERT INTO reports VALUES (?, ?, ?, ?, ?)", reports)
    connection.executemany("INSERT INTO words (word, code) VALUES (?, ?)", codes.items())
    rows = connection.execute(CHARGES.format(charges="charges_of_version_8", **whole))
    connection.executemany("INSERT INTO charges VALUES (?, ?, ?, ?)", charges_of(rows))
    bodies = connection.execute(BODIES.format(requests="requests_of_version_8"))
    signs = ", ".join("?" * len(ROLLUP_COLUMNS))
    for table, sums in zip(("hours", "days"), sums_of(bodies), strict=True):
        connection.executemany(f"INSERT INTO {table} VALUES ({signs})", sums)  # noqa: S608 - constants
    for statement in _FINISH:
        connection.execute(statement)
