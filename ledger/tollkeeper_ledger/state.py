"""What bookkeeping reads of a ledger, and the values that it reads and writes: the side of a storage that rules see."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from tollkeeper.accounts import Account
from tollkeeper.books import Grant
from tollkeeper.grants import Share
from tollkeeper.usage import UsageRecord
from tollkeeper_ledger.chain import Transaction

LATEST_WINDOWS = 64
"""Among so many windows of a limit and key, those that began last, one is looked for that overlaps another (B7)."""


class Lease(NamedTuple):
    """What one holder may still spend on one account; `lapsed` ones count as unreconciled instead of held."""

    holder: str
    account: str
    outstanding: int
    lapsed: bool = False

    def grown(self, amount: int) -> "Lease":
        """The lease with so much more outstanding, or with a negative amount less."""
        holder, account, outstanding, lapsed = self
        return Lease._make((holder, account, outstanding + amount, lapsed))


@dataclass(frozen=True, slots=True)
class Holder:
    """The last batch that was heard of a holder, and whether it has ended.

    `lapsed` is remembered while leases of it may have lapsed, so that nobody looks for them otherwise; it follows from
    the leases, is no part of what is known of the holder, and stands in no row.
    """

    holder: str
    sequence: int = 0
    closed: bool = False
    lapsed: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class BookedGrant:
    """A grant that stands in the ledger, with the transaction that booked it."""

    grant: Grant
    transaction: str


@dataclass(frozen=True, slots=True)
class BookedShare:
    """A grant's part in one account; an expired one keeps what had been burned of it."""

    account: str
    share: Share
    expired: bool = False


@dataclass(frozen=True, slots=True)
class ChargeLine:
    """A payment or correction as it counted in one account, with the balance after it (R29)."""

    account: str
    amount: int
    balance: int


@dataclass(frozen=True, slots=True)
class Charged:
    """What a report took from one account, by column: each usage's number in the report, its amount, and the balance
    after it (R29)."""

    account: str
    numbers: Sequence[int]
    amounts: Sequence[int]
    balances: Sequence[int]


@dataclass(frozen=True, slots=True)
class Booking:
    """A transaction to append, with the rows that stand on it: a report's `records`, and what they did to each account.

    `payments` name the grant of each line, or nothing for a correction. `marks` are names under which it is booked once,
    as a usage is under its request's id: `State.booked_among` and `State.transaction` know them from then on.
    """

    transaction: Transaction
    records: tuple[UsageRecord, ...] = ()
    charges: tuple[Charged, ...] = ()
    payments: tuple[tuple[ChargeLine, str], ...] = ()
    marks: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that it is booked under: its requests' ids and its marks."""
        return (*[record.id for record in self.records], *self.marks)


class Told(NamedTuple):
    """The value of a counter, and when it was told (see `tollkeeper.counters`)."""

    value: int
    at: datetime


class State(Protocol):
    """What bookkeeping reads."""

    def account(self, account: str) -> tuple[Account, str] | None:
        """An account and its unit."""
        ...

    def with_held(self, account: str) -> tuple[Account, str, int] | None:
        """An account as of when more of it changed than what is held, its unit, and what is held of it now.

        It says what `account` says, without making a value of both, which a grant has no need of.
        """
        ...

    def previous_account(self, account: str) -> Account | None:
        """The account of the same limit, key and unit whose window was the last to end before this one began.

        It is looked for among the `LATEST_WINDOWS` that began last.
        """
        ...

    def next_account(self, account: Account) -> Account | None:
        """The account of the same limit and key in the first window after the end of this one's, whether it is stored or not."""
        ...

    def overlapping(self, account: str, now: datetime) -> Account | None:
        """The account of the same limit, key and unit, other than this one, whose window holds an instant.

        Of several, the one that was opened last; it is looked for among the `LATEST_WINDOWS` that began last.
        """
        ...

    def held_out_of_loans(self, lender: str) -> Mapping[str, int]:
        """What the accounts that borrow of a lender hold out of their loans: what is held, as far as it was borrowed.

        It says what may come back, and no decision rests on it: where there are several writers it may be out of date.
        """
        ...

    def leases_of(self, holder: str) -> Mapping[str, Lease]:
        """A holder's leases, by account."""
        ...

    def holder(self, holder: str) -> Holder:
        """What is known of a holder; a fresh one if nothing."""
        ...

    def booked_among(self, names: Collection[str]) -> Collection[str]:
        """Which of these requests and other marks are in the ledger."""
        ...

    def transaction(self, request: str) -> Mapping[str, Any] | None:
        """The transaction that is booked under a request's id or another mark, as its canonical text says it."""
        ...

    def grant(self, grant: str) -> BookedGrant | None:
        """A booked grant."""
        ...

    def shares_of(self, account: str) -> Sequence[BookedShare]:
        """What grants put into an account."""
        ...

    def crossed(self, account: str, threshold: int) -> bool:
        """Whether a threshold was crossed before."""
        ...


def limit_and_key(account: str) -> tuple[str, str]:
    """What accounts of one limit, key and unit have in common."""
    of, _, unit = account.rsplit("@", 2)
    return of, unit
