"""The rows that a commit appends to the chain: each transaction's text, hashed after the one before it, as it is stored."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from tollkeeper_ledger.bodies import packed
from tollkeeper_ledger.chain import canonical, check_zero_sum, link
from tollkeeper_ledger.rows import booked_at
from tollkeeper_ledger.state import Booking

LARGE = 64
"""From so many usages on it is worth a thread to hash and compress beside the rest of a commit; both let other threads run."""


class Linked(NamedTuple):
    """A transaction's place, id and booking time in microseconds, what is stored of its text, and its hash."""

    seq: int
    id: str
    time: int
    stored: bytes
    hash: bytes


def linked(bookings: Sequence[Booking], seq: int, head: bytes) -> list[Linked]:
    """The transactions that follow `seq` and `head`, in order. Raises `ChainBroken` where entries do not sum to zero."""
    rows = []
    for seq_, booking in enumerate(bookings, start=seq + 1):
        transaction = booking.transaction
        check_zero_sum(transaction.entries, f"transaction {transaction.id}")
        text = canonical(seq_, transaction)
        head = link(head, text)
        rows.append(Linked(seq_, transaction.id, booked_at(booking), packed(text), head))
    return rows


class Linking:
    """Links the transactions of one commit after another; those of large ones while the caller does something else."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "ledger-chain")

    def begin(self, bookings: Sequence[Booking], seq: int, head: bytes) -> Callable[[], list[Linked]]:
        """What gives the rows of `linked` when they are needed, and raises what it raises."""
        if sum(len(booking.records) for booking in bookings) < LARGE:
            return partial(linked, bookings, seq, head)
        return self._thread.submit(linked, bookings, seq, head).result

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()
