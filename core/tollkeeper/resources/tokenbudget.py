"""TokenBudget: a balance of money or tokens for a period, or prepaid (R3, B1 to B9)."""

from enum import StrEnum
from typing import ClassVar, Literal

from pydantic import Field

from tollkeeper.accounts import Phase
from tollkeeper.amounts import Unit, parse_amount
from tollkeeper.limits import Anonymous, Enforcement, WhenStale
from tollkeeper.resources.amountrules import Sign, amount_rules, reaches
from tollkeeper.resources.limiting import BINDING_RULE, MatchSpec, Per, Thresholds, WindowSpec
from tollkeeper.resources.meta import (
    AGE,
    API_VERSION,
    Column,
    Kind,
    LabelSelector,
    Observed,
    Part,
    Reference,
    Resource,
    Rule,
    Status,
)
from tollkeeper.resources.standing import KeyCounts, Span, TopKey
from tollkeeper.resources.wire import Time, UnitAmount
from tollkeeper.windows import Calendar

DEFAULT_MINIMUM = {Unit.USD: "-0.12", Unit.TOKENS: "0"}
"""The minimum balance where none is written (R3)."""

_LOW = "string(self.lowBalanceThreshold)"
_MINIMUM = (
    "(has(self.minimumBalance) ? string(self.minimumBalance)"
    f" : (self.unit == 'USD' ? '{DEFAULT_MINIMUM[Unit.USD]}' : '{DEFAULT_MINIMUM[Unit.TOKENS]}'))"
)


class WorkloadAction(StrEnum):
    """What is done with running workloads when the budget is Insufficient (R23)."""

    NONE = "None"
    SUSPEND_JOBS = "SuspendJobs"
    SCALE_TO_ZERO = "ScaleToZero"


class Rollover(Part):
    """What of an unspent balance goes into the next period."""

    maximum: UnitAmount
    """The most that is carried over, written as `allocation` is."""


class Share(Part):
    """How much may be borrowed or lent."""

    limit: UnitAmount
    """The most, written as `allocation` is."""


class OnExhausted(Part):
    """What happens beside refusing requests and new workloads."""

    workloads: WorkloadAction = WorkloadAction.NONE
    """None leaves running workloads alone. SuspendJobs suspends Jobs, ScaleToZero scales Deployments and StatefulSets
    down; both are undone when the budget has room again."""


class TokenBudgetSpec(Part):
    """Whom the budget binds, what it holds, and what happens as it runs out."""

    tenant_ref: Reference | None = None
    """The tenant that is bound, with all below it. It must own this namespace or stand below its owner."""
    tenant_selector: LabelSelector | None = None
    """Every tenant with these labels, each with a balance of its own; only in the namespace tollkeeper-system."""
    unit: Literal["USD", "Tokens"] = "USD"
    """What the budget counts. All its amounts are in this unit; so are the grants to it."""
    allocation: UnitAmount = "0"
    """What each period begins with: with USD a quoted decimal string such as "250.00", with Tokens 2000000 or 2M. 0 for a
    prepaid budget, which lives on grants alone."""
    period: WindowSpec | None = None
    """When a new balance begins. Left out: prepaid, one balance that never resets."""
    rollover: Rollover | None = None
    """Carries an unspent balance into the next period, up to a maximum. Left out: nothing is carried."""
    minimum_balance: UnitAmount | None = None
    """How far the balance may go: 0 or below. It is part of what may be spent, so strict budgets say "0".
    Left out: -0.12 with USD, 0 with Tokens. Below it the budget is Insufficient, and AI is blocked."""
    low_balance_threshold: UnitAmount = "0"
    """Below this balance the budget is Low: still enabled, with warnings. Not below minimumBalance."""
    borrowing: Share | None = None
    """What may be had beyond the own allocation from what is unspent and lent by a tenant above."""
    lending: Share | None = None
    """What tenants below may borrow of this budget."""
    per: Per = Field(default=(), max_length=4)
    """One balance for each value, or combination of values, of these. Left out: one that all share."""
    match: MatchSpec = MatchSpec()
    """Which requests are charged. Left out: all of the tenant and of those below it."""
    enforcement: Enforcement = Enforcement.HARD
    """Hard blocks. Soft warns. Shadow only says what would have happened."""
    when_stale: WhenStale = WhenStale.FAIL_CLOSED
    """What is decided when what is known is too old to decide on."""
    anonymous: Anonymous = Anonymous.SHARE
    """Callers without the key of `per`: they share one balance, or are refused."""
    thresholds: Thresholds = Field(default=(50, 80, 95, 100), max_length=20)
    """Percentages of what may be spent; each is announced once a period."""
    on_exhausted: OnExhausted = OnExhausted()
    """What happens to running workloads when the budget is Insufficient."""

    rules: ClassVar[tuple[Rule, ...]] = (
        BINDING_RULE,
        *amount_rules("allocation", "allocation"),
        *amount_rules("minimumBalance", "minimum_balance", Sign.NOT_ABOVE),
        *amount_rules("lowBalanceThreshold", "low_balance_threshold", Sign.EITHER),
        *amount_rules("rollover.maximum", "rollover.maximum"),
        *amount_rules("borrowing.limit", "borrowing.limit"),
        *amount_rules("lending.limit", "lending.limit"),
        Rule(
            says="must not be below minimumBalance: raise it, or lower minimumBalance",
            # What is no amount, or above 0, is said by its own rule.
            cel=f"!isQuantity({_LOW}) || !isQuantity({_MINIMUM}) || quantity({_MINIMUM}).isGreaterThan(quantity('0'))"
            f" || quantity({_LOW}).compareTo(quantity({_MINIMUM})) >= 0",
            holds=lambda self: reaches(self.low_balance_threshold, self.minimum_text, self.amount_unit),
            path="lowBalanceThreshold",
        ),
        Rule(
            says="needs a period: a prepaid budget never resets, so nothing rolls over",
            cel="!has(self.rollover) || has(self.period)",
            holds=lambda self: self.rollover is None or self.period is not None,
            path="rollover",
        ),
    )

    @property
    def amount_unit(self) -> Unit:
        """The unit as the ledger knows it."""
        return Unit(self.unit)

    @property
    def minimum_text(self) -> int | str:
        """The minimum balance as written, or its default."""
        return DEFAULT_MINIMUM[self.amount_unit] if self.minimum_balance is None else self.minimum_balance

    @property
    def allocation_amount(self) -> int:
        """The allocation in nano-dollars or tokens."""
        return parse_amount(self.allocation, self.amount_unit)

    @property
    def minimum_amount(self) -> int:
        """The minimum balance in nano-dollars or tokens; not above 0."""
        return parse_amount(self.minimum_text, self.amount_unit)

    @property
    def low_balance_amount(self) -> int:
        """The low-balance threshold in nano-dollars or tokens."""
        return parse_amount(self.low_balance_threshold, self.amount_unit)

    @property
    def rollover_amount(self) -> int:
        """The most that is carried over, in nano-dollars or tokens."""
        return parse_amount(self.rollover.maximum, self.amount_unit) if self.rollover else 0

    @property
    def borrowing_amount(self) -> int:
        """The most that may be borrowed, in nano-dollars or tokens."""
        return parse_amount(self.borrowing.limit, self.amount_unit) if self.borrowing else 0

    @property
    def lending_amount(self) -> int:
        """The most that may be lent, in nano-dollars or tokens."""
        return parse_amount(self.lending.limit, self.amount_unit) if self.lending else 0

    @property
    def zone(self) -> str:
        """The zone whose clock its times are shown on."""
        return self.period.zone if self.period else "UTC"

    def calendar(self) -> Calendar:
        """The periods; prepaid budgets have one that never ends (B6)."""
        return self.period.calendar() if self.period else Calendar.FOREVER


class SpendForecast(Observed):
    """What will have been spent at the end of the period, in the budget's unit."""

    low: str
    """Spending will be above this in nine of ten cases."""
    median: str
    """As likely above as below."""
    high: str
    """Spending will be below this in nine of ten cases."""


class ForecastStatus(Observed):
    """What is to be expected by the end of the period, or why nothing can be said yet."""

    spend: SpendForecast | None = None
    """Spending at the end of the period."""
    exhaustion_time: Time | None = None
    """When the balance is expected to reach its minimum; left out where it is not expected to in this period."""
    probability_of_exceeding: int | None = None
    """Percent: how likely it is that the period's spending passes what may be spent."""
    message: str | None = None
    """Why there is no forecast, such as not enough history."""


class TokenBudgetColumns(Observed):
    """What `kubectl get` shows."""

    forecast: str = ""
    """The expected spending at the end of the period."""
    exhausted: str = ""
    """When the balance is expected to reach its minimum."""
    resets: str = ""
    """When a new period begins, on the budget's own clock."""
    as_of: str = ""
    """The time of the knowledge that the row is made of."""


class TokenBudgetStatus(Status):
    """Where the budget stands. Amounts are strings in its unit; with `per` they are sums, and the phase is the worst."""

    phase: Phase | None = None
    """Sufficient. Low: below lowBalanceThreshold. Insufficient: AI is blocked until there is room again."""
    balance: str | None = None
    """allocation + rolledOver + granted + borrowed - spent - unreconciled. Requests in flight do not change it."""
    allocation: str | None = None
    """What the period began with."""
    spent: str | None = None
    """What settled requests cost."""
    held: str | None = None
    """What is set aside for requests in flight."""
    granted: str | None = None
    """What grants put in."""
    rolled_over: str | None = None
    """What the period before left over."""
    borrowed: str | None = None
    """What was had from a tenant above."""
    lent: str | None = None
    """What tenants below have of it."""
    unreconciled: str | None = None
    """What meters that vanished held: counted as spent until they report."""
    overshoot: str | None = None
    """What requests used beyond what was set aside for them and past what may be spent, added up over the period.

    0 where every bound held. Corrections by hand or to a provider's bill do not change it.
    """
    utilization: int | None = None
    """Percent of what may be spent, rounded down."""
    period: Span | None = None
    """The period that is counted now."""
    keys: KeyCounts | None = None
    """With `per`: how many keys there are and how they stand."""
    top: tuple[TopKey, ...] = Field(default=(), max_length=10, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    """With `per`: the keys that used most."""
    forecast: ForecastStatus | None = None
    """What is to be expected by the end of the period."""
    last_usage_time: Time | None = None
    """When the last request was charged."""
    as_of: Time | None = None
    """The time of the knowledge that this status is made of."""
    columns: TokenBudgetColumns = TokenBudgetColumns()
    """What `kubectl get` shows."""


class TokenBudget(Resource):
    """A balance of money or tokens that a tenant's AI use is charged to, for each period or prepaid.

    Its phase is Sufficient, Low (warned) or Insufficient (blocked: requests, and new metered workloads). A TokenGrant
    in the same namespace tops it up.
    """

    api_version: Literal["tollkeeper.dev/v1alpha1"] = API_VERSION
    kind: Literal["TokenBudget"] = "TokenBudget"
    spec: TokenBudgetSpec
    status: TokenBudgetStatus = TokenBudgetStatus()

    definition: ClassVar[Kind] = Kind(
        kind="TokenBudget",
        plural="tokenbudgets",
        short_name="tb",
        namespaced=True,
        columns=(
            Column("Phase", ".status.phase", says="Sufficient, Low or Insufficient"),
            Column("Balance", ".status.balance", says="What is left"),
            Column("Spent", ".status.spent", says="What settled requests cost"),
            Column("Used%", ".status.utilization", "integer", "Percent of what may be spent"),
            Column("Forecast", ".status.columns.forecast", says="Expected spending at the period's end"),
            Column("Exhausted", ".status.columns.exhausted", says="When it is expected to run out"),
            Column("Resets", ".status.columns.resets", says="When a new period begins"),
            AGE,
            Column("Held", ".status.held", says="Set aside for requests in flight", wide=True),
            Column("Overshoot", ".status.overshoot", says="What requests used past what may be spent", wide=True),
            Column("As-Of", ".status.columns.asOf", says="The time of this knowledge", wide=True),
        ),
    )
