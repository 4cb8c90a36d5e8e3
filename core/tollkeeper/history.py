"""What a ledger's chain tells of the past, as values: usages, grants and corrections in the order of booking."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from tollkeeper.amounts import Unit
from tollkeeper.grants import Share
from tollkeeper.limits import LimitRef
from tollkeeper.usage import UsageRecord


@dataclass(frozen=True, slots=True)
class BookedUsage:
    """A usage, when it was booked, and the balance of each account that it was charged to just before. `place` grows in
    the order of booking, and is each usage's own."""

    place: int
    record: UsageRecord
    booked_at: datetime
    balances: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BookedCredit:
    """A grant to a budget, when it was booked."""

    ref: LimitRef
    unit: Unit
    share: Share
    booked_at: datetime


@dataclass(frozen=True, slots=True)
class BookedCorrection:
    """What an account was given back (negative: charged). `request` is the one that was refunded, `upstream` the
    provider's id of the one that a reconciliation put right."""

    account: str
    amount: int
    booked_at: datetime
    kind: str
    request: str | None = None
    upstream: str | None = None


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What a reconciliation booked for a provider's id, or for a day, model and tenant: nano-dollars that were charged more.

    `place` is its own in the order of booking, `as_of` the place up to which it knew the books; for the rest see `restated`.
    """

    upstream: str | None
    day: date
    model: str
    cost: int
    tenant: str = ""
    place: int = 0
    as_of: int = 0
    due: int | None = None
    besides: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class History:
    """The past, as far as it can be judged again."""

    usages: tuple[BookedUsage, ...] = ()
    credits: tuple[BookedCredit, ...] = ()
    corrections: tuple[BookedCorrection, ...] = ()
    reconciled: tuple[Reconciled, ...] = ()
    end: int = 0
    """The place after everything that it tells."""
