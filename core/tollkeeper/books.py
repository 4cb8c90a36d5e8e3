"""What the operator asks of the ledger: accounts opened, grants booked, changes told. The ledger's own words are pure values."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from tollkeeper.accounts import Account
from tollkeeper.limits import Limit, LimitRef
from tollkeeper.views import LedgerReader


@dataclass(frozen=True, slots=True)
class Grant:
    """A TokenGrant, ready to be booked. `id` is the object's UID: it is booked once (R4). `amount` is in the budget's unit."""

    id: str
    name: str
    ref: LimitRef
    amount: int
    reason: str
    reference: str | None
    priority: int
    created: datetime
    effective_from: datetime | None
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class GrantState:
    """How a grant stands: the transaction that booked it and what of it is left."""

    id: str
    transaction: str
    remaining: int
    expired: bool


class Books(Protocol):
    """The ledger as the operator uses it. Whatever a method has returned is durable; all may raise `Unavailable`."""

    @property
    def reader(self) -> LedgerReader:
        """Questions about what is booked."""
        ...

    async def open(self, limit: Limit, key: tuple[str, ...], now: datetime) -> Account:
        """The account of a limit and key at an instant, opened if it is new, with the limit's allocation as it is now."""
        ...

    async def book_grant(self, grant: Grant, limit: Limit, now: datetime) -> GrantState:
        """Book a grant whose time has come, once; a grant that is booked already answers how it stands."""
        ...

    async def first_crossing(self, account: str, threshold: int) -> bool:
        """Whether this is the first time an account crosses a threshold (R8: each fires once a window); remembers it."""
        ...

    def subscribe(self, tell: Callable[[frozenset[str]], None]) -> Callable[[], None]:
        """Be told, on the event loop, which accounts changed after each commit; the answer ends it."""
        ...
