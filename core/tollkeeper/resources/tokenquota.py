"""TokenQuota: allowances of tokens or requests in windows of time (R2)."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StrictBool

from tollkeeper.accounts import Phase
from tollkeeper.amounts import Tokens, Unit, parse_quantity
from tollkeeper.limits import Anonymous, Dimension, Enforcement, WhenStale
from tollkeeper.resources.limiting import BINDING_RULE, MatchSpec, Per, Thresholds, Weights, WindowSpec
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
from tollkeeper.resources.wire import MapBy, Name, Quantity, Time

CountedUnit = Literal["Tokens", "InputTokens", "OutputTokens", "WeightedTokens", "Requests"]


class QuotaLimit(Part):
    """One allowance: so much of a unit in each window, shared or one for each key of `per`."""

    name: Name
    """The limit's name; refusals and Events name it. Renaming it begins a new count."""
    unit: CountedUnit = "Tokens"
    """What is counted. WeightedTokens counts each bucket by its weight."""
    amount: Quantity
    """How much each window allows: a whole number, or with k, M or G as powers of ten, such as 2M. 0 allows nothing."""
    window: WindowSpec
    """When the count begins again."""
    per: Per = Field(default=(), max_length=4)
    """One allowance for each value, or combination of values, of these. Left out: one that all share."""
    match: MatchSpec = MatchSpec()
    """Which requests count. Left out: all of the tenant and of those below it."""
    weights: Weights | None = None
    """How much a token of each bucket counts; only with WeightedTokens."""
    enforcement: Enforcement = Enforcement.HARD
    """Hard blocks. Soft warns. Shadow only says what would have happened."""
    when_stale: WhenStale = WhenStale.FAIL_CLOSED
    """What is decided when what is known is too old to decide on."""
    anonymous: Anonymous = Anonymous.SHARE
    """Callers without the key of `per`: they share one allowance, or are refused."""
    thresholds: Thresholds = Field(default=(50, 80, 95), max_length=20)
    """Percentages of the amount; each is announced once a window."""
    block_workloads: StrictBool | None = None
    """Whether it closes the namespaces' gates for new workloads when it is used up. Left out: windows of a day or
    longer do, unless they count per anything but Tenant and Namespace."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            says="weights belong to unit WeightedTokens: change the unit or remove the weights",
            cel="!has(self.weights) || self.unit == 'WeightedTokens'",
            holds=lambda self: self.weights is None or self.unit == "WeightedTokens",
            path="weights",
        ),
        Rule(
            says="only a Hard limit blocks: set enforcement to Hard or blockWorkloads to false",
            cel="!has(self.blockWorkloads) || !self.blockWorkloads || self.enforcement == 'Hard'",
            holds=lambda self: not self.block_workloads or self.enforcement is Enforcement.HARD,
            path="blockWorkloads",
        ),
    )

    @property
    def count(self) -> Tokens:
        """The amount as a whole number."""
        return parse_quantity(self.amount)

    @property
    def counted_unit(self) -> Unit:
        """The unit as the ledger knows it."""
        return Unit(self.unit)

    @property
    def weight_by_bucket(self) -> Mapping[str, Decimal]:
        """The weights that were given; a bucket that is missing counts 1 (M5)."""
        return self.weights.by_bucket() if self.weights else {}

    @property
    def blocks_workloads(self) -> bool:
        """Whether it closes gates when it is used up (K3)."""
        if self.enforcement is not Enforcement.HARD:
            return False
        if self.block_workloads is not None:
            return self.block_workloads
        return self.window.is_a_day_or_longer and set(self.per) <= {Dimension.TENANT, Dimension.NAMESPACE}


class TokenQuotaSpec(Part):
    """Whom the limits bind, and the limits."""

    tenant_ref: Reference | None = None
    """The tenant that is bound, with all below it. It must own this namespace or stand below its owner."""
    tenant_selector: LabelSelector | None = None
    """Every tenant with these labels, each with allowances of its own; only in the namespace tollkeeper-system."""
    limits: Annotated[tuple[QuotaLimit, ...], MapBy(("name",))] = Field(min_length=1, max_length=32)
    """The allowances. All of them hold at once."""

    rules: ClassVar[tuple[Rule, ...]] = (BINDING_RULE,)


class LimitStatus(Observed):
    """Where one limit stands; with `per`, the key that is closest to its limit."""

    name: str
    """The limit's name."""
    phase: Phase | None = None
    """Sufficient, Low or Insufficient; the worst of all keys."""
    window: Span | None = None
    """The window that is counted now."""
    used: str = "0"
    """What was used in the window."""
    held: str = "0"
    """What is set aside for requests in flight."""
    remaining: str = "0"
    """What may still be used."""
    utilization: int = 0
    """Percent used, rounded down."""
    keys: KeyCounts | None = None
    """With `per`: how many keys there are and how they stand."""
    top: tuple[TopKey, ...] = Field(default=(), max_length=10, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    """With `per`: the keys that used most."""


class TokenQuotaColumns(Observed):
    """What `kubectl get` shows."""

    limits: int | None = None
    """How many limits there are."""
    tightest: str = ""
    """The limit that is closest to being used up."""
    utilization: int | None = None
    """Percent used of the tightest."""
    resets: str = ""
    """When the tightest begins again, on its own clock."""


class TokenQuotaStatus(Status):
    """Where the limits stand."""

    limits: Annotated[tuple[LimitStatus, ...], MapBy(("name",))] = ()
    """Each limit by name."""
    as_of: Time | None = None
    """The time of the knowledge that this status is made of."""
    columns: TokenQuotaColumns = TokenQuotaColumns()
    """What `kubectl get` shows."""


class TokenQuota(Resource):
    """Allowances of tokens or requests for a tenant: so many each minute, hour, day, week, month or custom window."""

    api_version: Literal["tollkeeper.dev/v1alpha1"] = API_VERSION
    kind: Literal["TokenQuota"] = "TokenQuota"
    spec: TokenQuotaSpec
    status: TokenQuotaStatus = TokenQuotaStatus()

    definition: ClassVar[Kind] = Kind(
        kind="TokenQuota",
        plural="tokenquotas",
        short_name="tq",
        namespaced=True,
        columns=(
            Column("Limits", ".status.columns.limits", "integer", "How many limits there are"),
            Column("Tightest", ".status.columns.tightest", says="The limit closest to being used up"),
            Column("Used%", ".status.columns.utilization", "integer", "Percent used of the tightest limit"),
            Column("Resets", ".status.columns.resets", says="When the tightest limit begins again"),
            Column(
                "Within",
                '.status.conditions[?(@.type=="WithinLimit")].status',
                says="Whether all limits have room",
            ),
            AGE,
        ),
    )
