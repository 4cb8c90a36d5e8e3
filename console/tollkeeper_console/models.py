"""The JSON API's shapes. Amounts are decimal strings in the limit's unit: dollars for USD, whole counts else (M1).

Times are RFC 3339 in UTC. Fields are only ever added.
"""

from datetime import datetime
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Amount = Annotated[str, Field(pattern=r"^-?[0-9]+(\.[0-9]{2,9})?$", description="An amount in the limit's unit.")]
Dollars = Annotated[str, Field(pattern=r"^-?[0-9]+\.[0-9]{2,9}$", description="US dollars.")]
ExactDollars = Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]{2,}$", description="US dollars, not rounded.")]

Item = TypeVar("Item")


class Shape(BaseModel):
    """What all shapes share."""

    model_config = ConfigDict(frozen=True)


class WindowShape(Shape):
    """The window that counts: `[start, end)`; `end` is null where it never ends."""

    start: datetime | None
    end: datetime | None
    time_zone: str


class LimitItem(Shape):
    """A budget, or one limit of a quota, in its current window. With several keys, its tightest account."""

    kind: Literal["TokenBudget", "TokenQuota"]
    namespace: str
    name: str
    limit: str = Field(description="The limit's own name; empty for a budget.")
    unit: str
    tenants: list[str] = Field(description="Paths of the tenants it is bound to.")
    enforcement: Literal["Hard", "Soft", "Shadow"]
    phase: Literal["Sufficient", "Low", "Insufficient"]
    account: str = Field(description="The account shown: pass it as `account` to ask for it again.")
    accounts: int = Field(description="How many accounts the limit has in this window.")
    balance: Amount
    minimum: Amount
    remaining: Amount = Field(description="Balance less minimum: what may still be spent.")
    spent: Amount
    held: Amount
    cap: Amount
    utilization: int = Field(description="Percent of the cap, rounded down.")
    window: WindowShape
    page: str = Field(description="The page for people.")


class LimitDetail(LimitItem):
    """One account of a limit with its sums."""

    key: list[str] = Field(description="The account's values of `per:`.")
    allocation: Amount
    rolled_over: Amount
    granted: Amount
    borrowed: Amount = Field(description="What it has of a budget above: part of its balance.")
    lent: Amount = Field(
        description="What budgets below have of it; not taken off its balance, which their spending is."
    )
    unreconciled: Amount
    overshoot: Amount
    usages: int
    tokens: int
    cost: Dollars = Field(description="The cost of all priced usages.")
    unpriced: int = Field(description="Usages for which no price is known; they are not in `cost`.")
    today: Amount = Field(description="Spent since midnight in the window's time zone.")
    last_hour: Amount = Field(description="Spent in the last 60 minutes: the hourly rate.")
    first_usage: datetime | None
    last_usage: datetime | None
    as_of: datetime


class UnbookedItem(Shape):
    """What a gateway has settled, by its own count, and is not booked: it waits in a spool, or was lost with it."""

    gateway: str
    requests: int
    tokens: int
    cost: Dollars = Field(description="The cost of those that have a price.")
    told: datetime = Field(description="When its count grew last.")


class CostPartItem(Shape):
    """What one bucket of a usage's tokens cost, or the request beside them: `count` at `unit_price`, exactly."""

    name: str = Field(description="The bucket of tokens; `request` for what a request costs beside its tokens.")
    count: int = Field(description="Tokens; 1 for `request`.")
    unit_price: ExactDollars = Field(description="US dollars for a million tokens; for one request under `request`.")
    cost: ExactDollars


class UsageItem(Shape):
    """One booked usage; `amount` is what it took from this account, `balance` what was left after it."""

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
    buckets: dict[str, int]
    tokens: int
    cost: Dollars | None = Field(description="Null where no price is known.")
    price: str | None = Field(description="The price's name and version, with @ between them.")
    cost_parts: list[CostPartItem] = Field(
        description="What `cost` was made of: their sum, rounded once, half up, to a nano-dollar. "
        "Empty where no unit price is kept with the usage."
    )
    amount: Amount
    balance: Amount
    seconds: float
    status: int
    outcome: str
    streamed: bool
    estimated: bool
    transaction: str


class PaymentItem(Shape):
    """One booked grant."""

    time: datetime
    amount: Amount
    reason: str
    reference: str | None
    grant: str
    balance: Amount
    transaction: str
    expires_at: datetime | None


class PeriodItem(Shape):
    """One period of an account: `[start, end)`."""

    account: str = Field(description="Pass it as `account` to ask for this period.")
    start: datetime | None
    end: datetime | None


class PeriodList(Shape):
    """The last periods of one key, the newest first."""

    items: list[PeriodItem]


class SpendItem(Shape):
    """One slice of time. `wall` is its start on the window's clock, without offset."""

    start: datetime
    wall: str
    amount: Amount
    cumulative: Amount
    requests: int
    tokens: int


class ForecastShape(Shape):
    """The forecast; all amounts are null, and `reason` says why, while there is not enough history."""

    status: Literal["Known", "NotEnoughHistory"]
    reason: str | None = None
    low: Amount | None = None
    median: Amount | None = None
    high: Amount | None = None
    interval_percent: int
    probability_of_exceeding: float | None = Field(default=None, ge=0, le=1)
    exhaustion: datetime | None = Field(default=None, description="Null when not before `until`.")
    until: datetime | None = None


class SpendSeries(Shape):
    """Spending over a range, with what a chart needs around it."""

    unit: str
    time_zone: str
    range: Literal["period", "day", "hour"]
    slice_seconds: int
    since: datetime
    since_wall: str
    now: datetime
    now_wall: str
    until: datetime | None
    until_wall: str | None
    spent: Amount
    before: Amount = Field(description="Spent in the window before `since`.")
    cap: Amount
    points: list[SpendItem]
    forecast: ForecastShape


class PageOf(Shape, Generic[Item]):
    """One page of a list, and how many items there are in all."""

    items: list[Item]
    page: int
    size: int
    total: int


class Problem(Shape):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
