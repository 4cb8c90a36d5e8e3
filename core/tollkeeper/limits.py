"""Limits: the compiled form of every rule of a TokenQuota or TokenBudget, and the accounts they count in.

A `Limit` is policy and never changes; an `AccountId` names its counter for one key (`per:`) and one window. The window
is part of the identity, so nothing is ever reset: a new window is a new account.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from enum import StrEnum
from fnmatch import fnmatchcase
from operator import attrgetter
from urllib.parse import quote, unquote

from tollkeeper.amounts import Unit
from tollkeeper.errors import InvalidValue
from tollkeeper.usage import Buckets, Caller
from tollkeeper.windows import Calendar, Window

_UNITS = frozenset(unit.value for unit in Unit)

LONGEST_ACCOUNT = 2400
"""An account's text has at most so many characters, all of them ASCII: no index of PostgreSQL takes a row of more than
2704 bytes, and there a holder's name, a mark or a limit's own names stand beside it."""

NO_KEY = "(none)"
"""The key that callers without one share (B9)."""


class Enforcement(StrEnum):
    """What passing a limit does: block, warn, or only say what would have happened."""

    HARD = "Hard"
    SOFT = "Soft"
    SHADOW = "Shadow"


class WhenStale(StrEnum):
    """What a limit decides when what is known is too old (I5)."""

    FAIL_OPEN = "FailOpen"
    FAIL_CLOSED = "FailClosed"


class Anonymous(StrEnum):
    """What happens to callers without the key that a limit is `per:` (B9)."""

    SHARE = "Share"
    REFUSE = "Refuse"


class Dimension(StrEnum):
    """What a limit can be counted per."""

    TENANT = "Tenant"
    USER = "User"
    MODEL = "Model"
    PROVIDER = "Provider"
    FEATURE = "Feature"
    ASSISTANT = "Assistant"
    SESSION = "Session"
    API_KEY = "APIKey"
    NAMESPACE = "Namespace"
    WORKLOAD = "Workload"


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is for and whose: everything a limit can match or count by."""

    caller: Caller
    provider: str
    model: str

    def value_of(self, dimension: Dimension) -> str | None:
        """The request's value in a dimension; `None` where it has none."""
        match dimension:
            case Dimension.MODEL:
                return self.model
            case Dimension.PROVIDER:
                return self.provider
            case _:
                return _OF_CALLER[dimension](self.caller)


_OF_CALLER: Mapping[Dimension, Callable[[Caller], str | None]] = {
    Dimension.TENANT: attrgetter("tenant"),
    Dimension.USER: attrgetter("user"),
    Dimension.FEATURE: attrgetter("feature"),
    Dimension.ASSISTANT: attrgetter("assistant"),
    Dimension.SESSION: attrgetter("session"),
    Dimension.API_KEY: attrgetter("api_key"),
    Dimension.NAMESPACE: attrgetter("namespace"),
    Dimension.WORKLOAD: attrgetter("workload"),
}


@dataclass(frozen=True, slots=True)
class Match:
    """Globs by dimension; a request matches when each dimension that is given has one glob that fits (R9)."""

    globs: tuple[tuple[Dimension, tuple[str, ...]], ...] = ()

    def takes(self, target: Target) -> bool:
        """Whether a limit with this match counts the request."""
        return all(
            (value := target.value_of(dimension)) is not None and any(fnmatchcase(value, glob) for glob in globs)
            for dimension, globs in self.globs
            if globs
        )


@dataclass(frozen=True, slots=True, order=True)
class LimitRef:
    """Where a limit is written: kind, namespace and name of its object, and its own name (empty for a budget)."""

    kind: str
    namespace: str
    name: str
    limit: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" + (f" limit {self.limit}" if self.limit else "")


@dataclass(frozen=True, slots=True)
class AccountId:
    """One counter of one limit: its key values in the order of `per:`, its window's start, and its unit.

    `text` is its identity (B7). A limit that is written again in another unit counts anew: money and tokens never mix.
    """

    ref: LimitRef
    key: tuple[str, ...]
    window: str
    unit: Unit

    @property
    def text(self) -> str:
        """`TokenBudget/namespace/name/limit/key,key@2026-11-01T00:00:00Z@USD`, parts percent-encoded; see `parse`."""
        path = "/".join(
            quote(part, safe="") for part in (self.ref.kind, self.ref.namespace, self.ref.name, self.ref.limit)
        )
        return f"{path}/{self.key_text}@{self.window}@{self.unit}"

    @property
    def key_text(self) -> str:
        """The key as it stands in `text`: values percent-encoded, with commas between."""
        return ",".join(quote(value, safe="") for value in self.key)

    @classmethod
    def parse(cls, text: str) -> "AccountId":
        """The identity that `text` wrote. Raises `InvalidValue`."""
        path, *rest = text.split("@")
        parts = path.split("/")
        if len(rest) != 2 or len(parts) != 5 or rest[1] not in _UNITS:
            raise InvalidValue(f"{text!r} is not an account: expected kind/namespace/name/limit/key@window@unit")
        kind, namespace, name, limit = (unquote(part) for part in parts[:4])
        key = tuple(unquote(value) for value in parts[4].split(",")) if parts[4] else ()
        return cls(LimitRef(kind, namespace, name, limit), key, rest[0], Unit(rest[1]))


@dataclass(frozen=True, slots=True)
class Limit:
    """One rule, compiled. Amounts are integers of `unit`.

    `tenants` are the tenants it is bound to; it counts their requests and those of all their descendants. Bound by a
    selector (`each_tenant`), every selected tenant has an account of its own. `minimum` is not above 0.
    `borrowing` is the most that each of its accounts may borrow in a window, and `lenders` says of whom, by bound tenant;
    `lending` is the most that its account may lend in a window.
    """

    ref: LimitRef
    tenants: frozenset[str]
    unit: Unit
    calendar: Calendar
    allocation: int
    minimum: int = 0
    low_threshold: int = 0
    rollover: int = 0
    per: tuple[Dimension, ...] = ()
    match: Match = Match()
    enforcement: Enforcement = Enforcement.HARD
    when_stale: WhenStale = WhenStale.FAIL_CLOSED
    anonymous: Anonymous = Anonymous.SHARE
    thresholds: tuple[int, ...] = ()
    weights: Mapping[str, Decimal] = field(default_factory=dict)
    blocks_workloads: bool = False
    each_tenant: bool = False
    borrowing: int = 0
    lending: int = 0
    lenders: Mapping[str, LimitRef] = field(default_factory=dict)

    def lender_for(self, key: tuple[str, ...]) -> LimitRef | None:
        """The limit that lends to the account of a key; `None` where nobody does."""
        if not self.borrowing:
            return None
        tenant = key[0] if self.each_tenant and key else next(iter(self.tenants), "")
        return self.lenders.get(tenant)

    @property
    def is_hard(self) -> bool:
        """Whether the limit blocks."""
        return self.enforcement is Enforcement.HARD

    def key_of(self, target: Target, bound_tenant: str) -> tuple[str, ...] | None:
        """The key a request counts under; `None` when a value is missing and the limit refuses anonymous callers (B9)."""
        values = [target.value_of(dimension) for dimension in self.per]
        if self.anonymous is Anonymous.REFUSE and None in values:
            return None
        own = (bound_tenant,) if self.each_tenant else ()
        return own + tuple(NO_KEY if value is None else value for value in values)

    def account_at(self, key: tuple[str, ...], now: datetime) -> tuple[AccountId, Window]:
        """The account that counts `key` at an instant, and its window."""
        window = self.calendar.window_at(now)
        return AccountId(self.ref, key, window.key(), self.unit), window

    def amount_of(self, buckets: Buckets, cost: int | None) -> int:
        """What a request with these buckets and cost (nano-dollars; `None`: unpriced, counts 0) takes from this limit."""
        match self.unit:
            case Unit.USD:
                return cost or 0
            case Unit.TOKENS:
                return buckets.total
            case Unit.INPUT_TOKENS:
                return buckets.input_tokens
            case Unit.OUTPUT_TOKENS:
                return buckets.output_tokens
            case Unit.WEIGHTED_TOKENS:
                return weighted(buckets, self.weights)
            case Unit.REQUESTS:
                return 1


def weighted(buckets: Buckets, weights: Mapping[str, Decimal]) -> int:
    """Tokens times their weight (default 1), the sum rounded up once to a whole token (M5)."""
    total = sum(
        (Decimal(count) * weights.get(name, Decimal(1)) for name, count in buckets.nonzero().items()), Decimal(0)
    )
    return int(total.to_integral_value(rounding=ROUND_CEILING))
