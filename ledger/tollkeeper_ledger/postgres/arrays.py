"""Columns of rows as PostgreSQL's own array literals: one text for a whole column, where a driver would turn value by value.

See "Array Input and Output Syntax" in its manual: elements in quotes stand for themselves, but for `"` and `\\`.
"""

from collections.abc import Iterable, Sequence


def integers(column: Iterable[int | None]) -> str:
    """The literal of a `bigint[]`."""
    return "{" + ",".join(["NULL" if value is None else str(value) for value in column]) + "}"


def texts(column: Sequence[str]) -> str:
    """The literal of a `text[]`; without NULLs."""
    if not column:
        return "{}"
    joined = '","'.join(column)
    if "\\" in joined or joined.count('"') != 2 * (len(column) - 1):
        joined = '","'.join([value.replace("\\", "\\\\").replace('"', '\\"') for value in column])
    return '{"' + joined + '"}'
