"""Many rows of SQLite by few statements. Each step of one lets other threads run, and then has to wait for its turn again."""

import sqlite3
from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Any

ROWS = "{rows}"
"""Stands in a statement where the rows' values belong."""

_SIZES = (256, 64, 16, 4, 1)
"""So many rows a statement: few sizes, so that each is prepared once."""

_MOST_VALUES = 30_000
"""SQLite takes 32,766 in a statement."""


def write_rows(connection: sqlite3.Connection, statement: str, rows: Sequence[Sequence[Any]]) -> int:
    """Run a statement over all rows, in their order; how many it changed."""
    changed = start = 0
    width = len(rows[0]) if rows else 0
    for size in _SIZES:
        if size * width > _MOST_VALUES:
            continue
        while len(rows) - start >= size:
            values = list(chain.from_iterable(rows[start : start + size]))
            changed += connection.execute(_with_rows(statement, width, size), values).rowcount
            start += size
    return changed


@cache
def _with_rows(statement: str, width: int, rows: int) -> str:
    row = f"({', '.join('?' * width)})"
    return statement.replace(ROWS, ", ".join([row] * rows))
