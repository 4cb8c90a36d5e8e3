"""Gates: whether new metered workloads may start in a namespace, and what the refused are told (K3, B3, B5, F4).

- A gate is closed while an account that gates the namespace is Insufficient: of the tenant that owns it or of one
  above, for limits that block workloads, and for the keys of this tenant and namespace alone (B5).
- A namespace that no tenant owns has a closed gate: nobody could be charged for what runs in it.
- Names and resets are told of every limit; amounts only of the namespace's own tenant (F4).
- Of several limits the one that lasts longest comes first (F4).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from tollkeeper.accounts import Account, Phase
from tollkeeper.amounts import format_amount
from tollkeeper.errors import MOST_NAMED, listed
from tollkeeper.limits import Dimension, Limit, Target
from tollkeeper.policy import BoundAccount, PolicySet
from tollkeeper.resources.workloadgate import ClosingLimit
from tollkeeper.usage import Caller
from tollkeeper.windows import format_column_time

OPEN_MESSAGE = "open: new metered workloads may start"
MESSAGE_LIMIT = 2048
"""The API server repeats a message of at most 5 KiB, on one line."""


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """What a gate says. `limits` closed it, the one that lasts longest first; `warnings` are told although it is open."""

    open: bool
    message: str
    limits: tuple[ClosingLimit, ...] = ()
    warnings: tuple[str, ...] = ()


def accounts_gating(policy: PolicySet, namespace: str, now: datetime) -> tuple[BoundAccount, ...]:
    """The accounts that a namespace's gate depends on at an instant; none where no tenant owns it."""
    tenant = policy.owners.get(namespace)
    if tenant is None:
        return ()
    target = Target(Caller(tenant, namespace=namespace), provider="", model="")
    found: dict[str, BoundAccount] = {}
    for limit, bound in policy.limits_of(tenant):
        if not limit.blocks_workloads or not _takes_namespace(limit, namespace):
            continue
        key = limit.key_of(target, bound)
        if key is not None:
            account, window = limit.account_at(key, now)
            found[account.text] = BoundAccount(limit, account, window)
    return tuple(found.values())


def verdict(policy: PolicySet, namespace: str, accounts: Mapping[str, Account], now: datetime) -> GateVerdict:
    """Whether the gate of a namespace is open. `accounts` are the states by identity (`AccountId.text`) of
    `accounts_gating`; one that is not there is new and holds its allocation."""
    tenant = policy.owners.get(namespace)
    if tenant is None:
        return GateVerdict(open=False, message=without_tenant(namespace))
    standing = [_standing(bound, accounts, tenant) for bound in accounts_gating(policy, namespace, now)]
    closing = sorted((one for one in standing if one.phase is Phase.INSUFFICIENT), key=_lasts, reverse=True)
    if closing:
        return GateVerdict(False, _closed(closing), tuple(one.listed() for one in closing[:64]))
    low = [one for one in standing if one.phase is Phase.LOW]
    return GateVerdict(True, OPEN_MESSAGE, warnings=tuple(_low(one) for one in low))


def without_tenant(namespace: str) -> str:
    """What the metered workloads of a namespace without a tenant are told."""
    return (
        f"no tenant owns the namespace {namespace}, so its AI use cannot be charged to anybody; "
        f"ask an administrator to add it to spec.namespaces of a Tenant"
    )


def being_prepared(namespace: str) -> str:
    """What the metered workloads of a namespace are told that has an owner and no gate yet."""
    return f"the gate of the namespace {namespace} is being prepared; try again in a few seconds"


def _takes_namespace(limit: Limit, namespace: str) -> bool:
    """Whether a limit counts the namespace at all; what else it matches on was judged when it was compiled (K3)."""
    only = type(limit.match)(tuple(pair for pair in limit.match.globs if pair[0] is Dimension.NAMESPACE))
    return only.takes(Target(Caller("", namespace=namespace), provider="", model=""))


@dataclass(frozen=True, slots=True)
class _Standing:
    """How one account stands, as the namespace's tenant may know it."""

    limit: Limit
    account: Account
    resets: datetime | None
    is_own: bool

    @property
    def phase(self) -> Phase:
        return self.account.phase(self.limit)

    @property
    def reset_text(self) -> str:
        zone = self.limit.calendar.zone
        return f"{format_column_time(self.resets, zone)} {zone}" if self.resets else ""

    def amount(self, value: int) -> str:
        return format_amount(value, self.limit.unit) if self.is_own else ""

    def listed(self) -> ClosingLimit:
        ref = self.limit.ref
        return ClosingLimit(
            kind=ref.kind,
            namespace=ref.namespace,
            name=f"{ref.name}/{ref.limit}" if ref.limit else ref.name,
            balance=self.amount(self.account.balance),
            minimum=self.amount(self.limit.minimum),
            resets=self.reset_text,
        )


def _standing(bound: BoundAccount, accounts: Mapping[str, Account], tenant: str) -> _Standing:
    limit, name = bound.limit, bound.account.text
    fresh = Account(name, bound.window.start, bound.window.end, allocation=limit.allocation)
    own = bound.account.key[:1] == (tenant,) if limit.each_tenant else tenant in limit.tenants
    return _Standing(limit, accounts.get(name, fresh), bound.window.end, own)


def _lasts(one: _Standing) -> tuple[bool, float]:
    return one.resets is None, one.resets.timestamp() if one.resets else 0.0


def _closed(closing: list[_Standing]) -> str:
    first, others = closing[0], closing[1:]
    amounts = ""
    if first.is_own:
        unit = first.limit.unit.words
        balance, minimum = first.amount(first.account.balance), first.amount(first.limit.minimum)
        amounts = f": balance {balance} {unit}, minimum {minimum}"
    reset = f", resets {first.reset_text}" if first.resets else ", never resets"
    also = f"; also used up: {_names(others)}" if others else ""
    state = "has nothing in it" if first.is_own and first.account.is_empty else "is used up"
    message = f"{first.limit.ref} {state}{amounts}{reset}{also}; {_remedy(first)}"
    return message if len(message) <= MESSAGE_LIMIT else message[: MESSAGE_LIMIT - 1] + "…"


def _names(others: list[_Standing]) -> str:
    named = [f"{one.limit.ref}{f' until {one.reset_text}' if one.resets else ''}" for one in others[:MOST_NAMED]]
    return listed(named, len(others))


def _remedy(one: _Standing) -> str:
    ref = one.limit.ref
    wait = f", or wait until {one.reset_text}" if one.resets else ""
    if ref.kind == "TokenBudget":
        return f"ask whoever may grant in {ref.namespace} for a TokenGrant to {ref.name}{wait}"
    return f"ask whoever keeps {ref.namespace} to raise the limit{wait}"


def _low(one: _Standing) -> str:
    balance = f": balance {one.amount(one.account.balance)} {one.limit.unit.words}" if one.is_own else ""
    return f"{one.limit.ref} runs low{balance}; when it is used up, new metered workloads are refused"
