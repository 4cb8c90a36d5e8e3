"""The policy in force: one frozen value, compiled from all resources, that every decision is taken from.

`PolicySet` is built by `tollkeeper.compile` and swapped whole; who holds one holds a consistent view.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tollkeeper.captures import KeptBodies
from tollkeeper.keys import ApiKey
from tollkeeper.limits import AccountId, Limit, LimitRef, Target
from tollkeeper.prices import PriceList
from tollkeeper.windows import Window

REMEMBERED_ACCOUNTS = 20_000
"""Of so many accounts a policy remembers their limits and windows."""


@dataclass(frozen=True, slots=True)
class Assistant:
    """An assistant that callers of a tenant may name; `models` are globs."""

    name: str
    models: tuple[str, ...]
    active: bool


@dataclass(frozen=True, slots=True)
class TenantNode:
    """A tenant in its place: `path` from the root ("acme/research"), `chain` itself first, then its ancestors."""

    name: str
    path: str
    chain: tuple[str, ...]
    level: str
    namespaces: frozenset[str]
    labels: Mapping[str, str]
    output_limit: str = "Lower"
    unmetered: str = "Refuse"
    assistants: tuple[Assistant, ...] = ()
    capture: KeptBodies | None = None
    """How the bodies of its own requests are kept; nothing of it comes from ancestors (R27)."""

    @property
    def root(self) -> str:
        """The topmost ancestor."""
        return self.chain[-1]


@dataclass(frozen=True, slots=True)
class BoundAccount:
    """An account that a request falls under, with the limit that it counts for and its window."""

    limit: Limit
    account: AccountId
    window: Window


@dataclass(frozen=True, slots=True)
class PolicySet:
    """Tenants, limits and prices at one moment. `version` grows by one with each compiled change."""

    version: int
    tenants: Mapping[str, TenantNode]
    limits: tuple[Limit, ...]
    prices: PriceList
    owners: Mapping[str, str] = field(default_factory=dict)
    """Namespace → the tenant that owns it."""
    keys: Mapping[str, ApiKey] = field(default_factory=dict)
    """API keys in force, by the hash of their secret (`tollkeeper.keys.fingerprint`)."""
    mark: object = field(init=False, repr=False, compare=False, default_factory=object)
    """Stands for this policy where something is remembered for as long as it is in force, and must not keep it alive."""
    lends: bool = field(init=False, repr=False, compare=False)
    """Whether any limit borrows: where none does, nobody needs to look for loans."""
    _by_ref: Mapping[LimitRef, Limit] = field(init=False, repr=False, compare=False)
    _by_tenant: Mapping[str, tuple[tuple[Limit, str], ...]] = field(init=False, repr=False, compare=False)
    _counting: dict[str, BoundAccount] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lends", any(limit.lenders for limit in self.limits))
        object.__setattr__(self, "_by_ref", {limit.ref: limit for limit in self.limits})
        object.__setattr__(self, "_counting", {})
        object.__setattr__(self, "_by_tenant", {name: self._bound(node) for name, node in self.tenants.items()})

    def _bound(self, node: TenantNode) -> tuple[tuple[Limit, str], ...]:
        return tuple((limit, bound) for limit in self.limits for bound in node.chain if bound in limit.tenants)

    def limit(self, ref: LimitRef) -> Limit | None:
        """The limit that stands at a place, if it is in force."""
        return self._by_ref.get(ref)

    def limits_of(self, tenant: str) -> tuple[tuple[Limit, str], ...]:
        """Every limit that binds a tenant through itself or an ancestor, with the tenant it is bound to."""
        return self._by_tenant.get(tenant, ())

    def counting(self, account: str, now: datetime) -> BoundAccount | None:
        """What an account's canonical text names, if it counts at an instant: its limit and its window."""
        bound = self._counting.get(account)
        if bound is None or not bound.window.contains(now):
            bound = self._bound_at(account, now)
            if bound is not None:
                if len(self._counting) >= REMEMBERED_ACCOUNTS:
                    self._counting.clear()
                self._counting[account] = bound
        return bound

    def _bound_at(self, account: str, now: datetime) -> BoundAccount | None:
        asked = AccountId.parse(account)
        limit = self.limit(asked.ref)
        if limit is None:
            return None
        current, window = limit.account_at(asked.key, now)
        return BoundAccount(limit, current, window) if current.text == account else None

    def accounts_for(self, target: Target, now: datetime) -> tuple[tuple[BoundAccount, ...], tuple[Limit, ...]]:
        """The accounts a request falls under at an instant, and the limits that refuse it for want of a key (B9)."""
        bound: dict[str, BoundAccount] = {}
        refused: list[Limit] = []
        for limit, tenant in self.limits_of(target.caller.tenant):
            if not limit.match.takes(target):
                continue
            key = limit.key_of(target, tenant)
            if key is None:
                refused.append(limit)
                continue
            account, window = limit.account_at(key, now)
            bound[account.text] = BoundAccount(limit, account, window)
        return tuple(bound.values()), tuple(refused)


@dataclass(slots=True)
class CurrentPolicy:
    """The one place that holds the policy in force; `value` is replaced whole, so a reader keeps a consistent view."""

    value: PolicySet
    changed: set[Callable[[], None]] = field(default_factory=set)

    def publish(self, policy: PolicySet) -> None:
        """Put a new policy in force and tell whoever asked to know."""
        self.value = policy
        for tell in tuple(self.changed):
            tell()
