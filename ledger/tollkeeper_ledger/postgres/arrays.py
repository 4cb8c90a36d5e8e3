"""Columns of rows as PostgreSQL's own arrays: one value for a whole column, where a driver would turn element by element.

See "Array Input and Output Syntax" in its manual (elements in quotes stand for themselves, but for `"` and `\\`), and
`array_recv` for the binary form: dimensions, whether there are NULLs, the elements' type; length and lower bound of the
dimension; each element after its size.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from psycopg import adapters, pq
from psycopg.abc import Buffer
from psycopg.adapt import Dumper

_ELEMENT: Final = np.dtype([("size", ">i4"), ("value", ">i8")])
_BIGINT, _BIGINTS = (adapters.types["int8"].oid, adapters.types["int8"].array_oid)


class Integers(bytes):
    """The binary form of a `bigint[]`."""


class IntegersDumper(Dumper):
    """Sends `Integers` as they are."""

    format = pq.Format.BINARY
    oid = _BIGINTS

    def dump(self, obj: Buffer) -> Buffer:
        """See `Dumper`."""
        return obj


Column = Integers | str
"""A whole column, as a statement takes it."""


def integers(column: Iterable[int]) -> Column:
    """A `bigint[]`; where a value is beyond 64 bits its literal, of which the server says so."""
    values = list(column)
    elements = np.empty(len(values), _ELEMENT)
    elements["size"] = 8
    try:
        elements["value"] = values
    except OverflowError:
        return "{" + ",".join(map(str, values)) + "}"
    return Integers(struct.pack(">5i", 1, 0, _BIGINT, len(values), 1) + elements.tobytes())


def texts(column: Sequence[str]) -> str:
    """The literal of a `text[]`; without NULLs."""
    if not column:
        return "{}"
    joined = '","'.join(column)
    if "\\" in joined or joined.count('"') != 2 * (len(column) - 1):
        joined = '","'.join([value.replace("\\", "\\\\").replace('"', '\\"') for value in column])
    return '{"' + joined + '"}'
