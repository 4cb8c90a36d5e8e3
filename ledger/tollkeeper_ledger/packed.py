"""How the usages of a report lie in a database: one row for the report, and one for each account that it was charged to.

Each usage is a record of fixed width, little-endian, so that the rows of many reports are joined and looked through at once,
however few usages each has. What a usage was about stands in codes of the table `words`; 0 is no word.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

WORDS = ("model", "tool", "assistant", "api_key", "user", "feature", "outcome", "provider")
"""What stands in codes."""

USAGE = np.dtype(
    [("finished", "<i8"), ("tokens", "<i8"), ("status", "<i8"), ("unpriced", "<u4"), *((word, "<u4") for word in WORDS)]
)
"""A usage of a report, in the report's order."""

CHARGE = np.dtype([("number", "<u4"), ("amount", "<i8"), ("balance", "<i8")])
"""What a usage, by its number in the report, took from an account, and the balance after it (R29)."""

Numbers = npt.NDArray[Any]
"""Integers: 64-bit where they fit, else Python's own."""


def pack_charges(numbers: Sequence[int], amounts: Sequence[int], balances: Sequence[int]) -> bytes:
    """The charges of one report to one account. Raises `OverflowError` for what no column holds."""
    rows = np.empty(len(numbers), CHARGE)
    rows["number"], rows["amount"], rows["balance"] = numbered(numbers), amounts, balances
    return rows.tobytes()


def numbered(numbers: Sequence[int]) -> npt.NDArray[np.intp]:
    """Numbers of usages as a column; most often they are all that a report has."""
    if isinstance(numbers, range):
        return np.arange(numbers.start, numbers.stop, numbers.step)
    return np.array(numbers, np.intp)


def usages_in(packed: Sequence[bytes]) -> npt.NDArray[Any]:
    """The usages of some reports, one after the other, as `USAGE`."""
    return np.frombuffer(b"".join(packed), USAGE)


def charges_in(packed: Sequence[bytes]) -> npt.NDArray[Any]:
    """The charges of some reports to one account, one after the other, as `CHARGE`."""
    return np.frombuffer(b"".join(packed), CHARGE)


def sizes(packed: Sequence[bytes], of: "np.dtype[Any]") -> Numbers:
    """How many records each of them has."""
    return np.fromiter((len(one) // of.itemsize for one in packed), np.int64, len(packed))


def latest(packed: Sequence[bytes], most: int) -> tuple[int, ...]:
    """The amounts of the last charges, newest last, of reports that are given newest first."""
    amounts: list[int] = charges_in(packed[::-1])["amount"][-most:].tolist()
    return tuple(amounts)


LATEST = (
    "SELECT c.packed FROM (SELECT seq, sum(usages) OVER (ORDER BY seq DESC) - usages AS newer "
    "FROM (SELECT seq, usages FROM charges WHERE account = ? ORDER BY seq DESC LIMIT ?) AS last) AS found "
    "JOIN charges c ON c.account = ? AND c.seq = found.seq WHERE found.newer < ? ORDER BY c.seq DESC"
)
"""The reports with an account's last charges, newest first; to bind: account, most, account, most."""
