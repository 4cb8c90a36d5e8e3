"""The abstract model of `docs/leases.tla`, in Python: what each step of the authority should come to. It shares no code with us.

A lease is a number for each holder; what an account has held or unreconciled is never stored, only summed.
"""

from dataclasses import dataclass, replace
from typing import TypeVar


@dataclass(frozen=True, slots=True)
class Books:
    """`outstanding`, `lapsed`, `closed` and `heard` (the last sequence number) by holder; `booked` by request."""

    spent: int
    outstanding: tuple[int, ...]
    lapsed: tuple[bool, ...]
    closed: tuple[bool, ...]
    heard: tuple[int, ...]
    booked: frozenset[str]

    @property
    def held(self) -> int:
        return sum(amount for amount, gone in zip(self.outstanding, self.lapsed, strict=True) if not gone)

    @property
    def unreconciled(self) -> int:
        return sum(amount for amount, gone in zip(self.outstanding, self.lapsed, strict=True) if gone)


Value = TypeVar("Value")


def _at(values: tuple[Value, ...], index: int, value: Value) -> tuple[Value, ...]:
    return (*values[:index], value, *values[index + 1 :])


def _owing(books: Books, holder: int, amount: int, *, lapsed: bool) -> Books:
    """A holder's lease with this amount; an empty one cannot have lapsed."""
    return replace(
        books,
        outstanding=_at(books.outstanding, holder, amount),
        lapsed=_at(books.lapsed, holder, lapsed and amount > 0),
    )


def lease(books: Books, holder: int, sequence: int, returned: int, granted: int) -> Books:
    """Returns and grants count once for each sequence number; whoever calls is not gone."""
    if sequence <= books.heard[holder]:
        return books
    heard = replace(books, heard=_at(books.heard, holder, sequence))
    return _owing(heard, holder, books.outstanding[holder] - returned + granted, lapsed=False)


def report(books: Books, holder: int, request: str, used: int, held: int) -> Books:
    """A request counts once. Of a holder that has ended all that stood for it is free; else what it used comes off the lease."""
    if request in books.booked:
        return books
    covered = held if books.closed[holder] else used
    left = max(0, books.outstanding[holder] - covered)
    charged = replace(books, spent=books.spent + used, booked=books.booked | {request})
    return _owing(charged, holder, left, lapsed=books.lapsed[holder])


def lapse(books: Books, holder: int) -> Books:
    """What a holder has stands as unreconciled, whatever the reason why it is not heard of."""
    return _owing(books, holder, books.outstanding[holder], lapsed=True)


def close(books: Books, holder: int, kept: int) -> Books:
    """What a holder kept stands as unreconciled; the rest of its lease is free; it never calls again."""
    ended = replace(books, closed=_at(books.closed, holder, True))
    return _owing(ended, holder, min(kept, books.outstanding[holder]), lapsed=True)
