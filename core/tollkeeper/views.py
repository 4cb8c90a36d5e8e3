"""What people are shown: read-only values that the ledger fills and console, status and reports display.

Amounts are integers of the view's unit; times are aware, UTC.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Literal, Protocol, TypeVar

from tollkeeper.accounts import Account
from tollkeeper.counters import Unbooked
from tollkeeper.limits import Limit
from tollkeeper.unpriced import UnpricedModel
from tollkeeper.usage import Outcome

Order = Literal["newest", "oldest"]

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class UsageRow:
    """One booked usage as it counted in one account; `amount` in the limit's unit, `balance` after it (R29).

    `unit_prices` are as in `UsageRecord`: what `cost` was made of, for `costs.cost_parts`.
    """

    seq: int
    id: str
    upstream_id: str | None
    time: datetime
    tenant: str
    user: str | None
    assistant: str | None
    feature: str | None
    api_key: str | None
    provider: str
    model: str
    tool: str | None
    buckets: Mapping[str, int]
    tokens: int
    cost: int | None
    price: str | None
    unit_prices: Mapping[str, str]
    amount: int
    balance: int
    seconds: float
    status: int
    outcome: str
    streamed: bool
    estimated: bool
    transaction: str


@dataclass(frozen=True, slots=True)
class UsageFilter:
    """Which usages are asked for (R34): those that have every value given here; `None` leaves open.

    `status` is a range of HTTP statuses, such as `range(400, 500)`. `since` and `until` (aware) bound the time at which a
    usage finished: from `since` on, before `until`.
    """

    model: str | None = None
    tool: str | None = None
    assistant: str | None = None
    api_key: str | None = None
    user: str | None = None
    feature: str | None = None
    status: range | None = None
    outcome: Outcome | None = None
    since: datetime | None = None
    until: datetime | None = None


ALL_USAGES = UsageFilter()


@dataclass(frozen=True, slots=True)
class UsageChoices:
    """What occurs among the usages of one account, by the names of `UsageFilter`: each sorted, each value once."""

    model: tuple[str, ...] = ()
    tool: tuple[str, ...] = ()
    assistant: tuple[str, ...] = ()
    api_key: tuple[str, ...] = ()
    user: tuple[str, ...] = ()
    feature: tuple[str, ...] = ()
    status: tuple[int, ...] = ()
    outcome: tuple[Outcome, ...] = ()


@dataclass(frozen=True, slots=True)
class UnpricedPart:
    """What a part of an account's usages has without a price, by model in the order of first use (M6).

    `until` is the place in the ledger of the part's last usage, and `is_last` whether there was none after it.
    """

    models: Sequence[UnpricedModel]
    until: int
    is_last: bool


@dataclass(frozen=True, slots=True)
class PeriodRow:
    """One window in which a limit counted for a key, and the account that holds it; `None` is the edge of a prepaid one."""

    account: str
    start: datetime | None
    end: datetime | None


@dataclass(frozen=True, slots=True)
class PaymentRow:
    """One booked grant, what was left of one when its time was over (negative, `Expired`), or one correction.

    Of a correction `grant` is the reason that was given for it.
    """

    seq: int
    time: datetime
    amount: int
    reason: str
    reference: str | None
    grant: str
    balance: int
    transaction: str
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class SpendPoint:
    """What was spent in one slice of time that begins at `start`."""

    start: datetime
    amount: int
    requests: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """One page of rows, and how many there are in all."""

    rows: Sequence[Row]
    total: int
    page: int
    size: int


@dataclass(frozen=True, slots=True)
class BreakdownRow:
    """What was used of one value of a dimension. `cost` is nano-dollars, `seconds` the time that all requests took."""

    value: str
    requests: int
    errors: int
    unpriced: int
    input_tokens: int
    output_tokens: int
    cost: int
    seconds: float


@dataclass(frozen=True, slots=True)
class AccountTotals:
    """Sums over the usages of one account: what the summary shows beside the balance."""

    usages: int
    tokens: int
    cost: int
    unpriced: int
    first_usage: datetime | None
    last_usage: datetime | None


class LedgerReader(Protocol):
    """Questions to the ledger. Every method reads committed state only and may be called from any thread."""

    def accounts_of(self, limit: Limit, window: str | None = None) -> Sequence[Account]:
        """All accounts that count for a limit in its unit, of one window (`Window.key()`) or of all."""
        ...

    def account(self, account: str) -> Account | None:
        """One account by its identity."""
        ...

    def periods(self, account: str, *, most: int) -> Sequence[PeriodRow]:
        """The last `most` windows of an account's limit and key in its unit, the newest first, its own among them."""
        ...

    def totals(self, account: str) -> AccountTotals:
        """Sums over an account's usages."""
        ...

    def usages(
        self,
        account: str,
        *,
        page: int,
        size: int = 20,
        order: Order = "newest",
        wanted: UsageFilter = ALL_USAGES,
    ) -> Page[UsageRow]:
        """An account's usages that a filter lets through, by the order of booking; `total` counts those alone."""
        ...

    def usage_choices(self, account: str, *, most: int) -> UsageChoices:
        """What occurs among an account's usages: of each dimension the `most` that occur in most usages."""
        ...

    def unpriced(self, account: str, *, after: int, most: int) -> UnpricedPart:
        """Exactly what the next `most` usages of an account have without a price: those behind the place `after`, oldest
        first. A part that has nothing of it may be longer."""
        ...

    def usage(self, account: str, id: str) -> UsageRow | None:  # noqa: A002 - the wire's own name
        """One usage of an account."""
        ...

    def payments(self, account: str, *, page: int, size: int = 20, order: Order = "newest") -> Page[PaymentRow]:
        """The grants booked to an account."""
        ...

    def spend(self, account: str, *, slice_seconds: int, since: datetime, until: datetime) -> Sequence[SpendPoint]:
        """Spending in slices of time, aligned to the Unix epoch; slices without usage are left out."""
        ...

    def breakdown(
        self, dimension: str, *, tenants: Collection[str], since: datetime, until: datetime
    ) -> Sequence[BreakdownRow]:
        """What these tenants' own requests used by each value of a dimension, the dearest first (R31).

        `dimension` is `tenant`, `user`, `feature`, `assistant`, `session`, `investigation`, `api_key`, `namespace`,
        `workload`, `provider`, `model` or `tool`. Requests count in the hour (UTC) in which they ended, for sessions and
        investigations the day, and every one that `[since, until)` touches counts whole. Raises `InvalidValue` for
        another dimension.
        """
        ...

    def unbooked(self) -> Sequence[Unbooked]:
        """What gateways have settled, by their own count, and is not booked; those first whose count stands for longest."""
        ...

    def metadata(self) -> Mapping[str, Any]:
        """`transactions` (count), `head` (the chain's last hash), `last_time`, `size_bytes`."""
        ...
