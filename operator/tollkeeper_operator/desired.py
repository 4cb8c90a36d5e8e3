"""What each object's status should be: the pure statuses of the core, fed with what the operator holds."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tollkeeper import notices
from tollkeeper.accounts import Account
from tollkeeper.counted import Counted
from tollkeeper.forecast import Forecast, NotEnoughHistory
from tollkeeper.limit_statuses import budget_status, quota_status
from tollkeeper.limits import Dimension, Limit, LimitRef, Target
from tollkeeper.notices import Notice
from tollkeeper.policy import PolicySet
from tollkeeper.problems import ObjectRef
from tollkeeper.resources import AnyResource, PriceBook, Tenant, TokenBudget, TokenGrant, TokenQuota
from tollkeeper.statuses import (
    Fault,
    Freshness,
    Subject,
    faulty_status,
    grant_status,
    price_book_status,
    tenant_status,
    waiting_grant_status,
)
from tollkeeper.unpriced import NOTHING_UNPRICED, Unpriced
from tollkeeper.usage import Caller
from tollkeeper_operator.balances import Balances
from tollkeeper_operator.feed import Raw
from tollkeeper_operator.gathered import Gathered
from tollkeeper_operator.grant_desk import Standing

Status = Mapping[str, Any]

LASTING = timedelta(hours=23)
"""Windows shorter than a day (of 23 hours, where clocks change) say nothing about a tenant as a whole."""

NOTICES: Mapping[str, Callable[[Status, Status], Iterable[Notice]]] = {
    "TokenBudget": notices.budget_notices,
    "TokenQuota": notices.quota_notices,
    "TokenGrant": notices.grant_notices,
    "WorkloadGate": notices.gate_notices,
}


def notices_of(kind: str) -> Callable[[Status, Status], Iterable[Notice]]:
    """Which changes of a kind's status are told."""
    return NOTICES.get(kind, lambda _before, _now: ())


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What a status is made from, beside the object itself."""

    gathered: Gathered
    balances: Balances
    standing: Standing | None
    forecast: Forecast | NotEnoughHistory | None
    now: datetime
    unpriced: Unpriced = NOTHING_UNPRICED


def desired_status(ref: ObjectRef, raw: Raw, known: Knowledge) -> Status | None:
    """The status that an object should have; None while what it is made from is still being read."""
    subject = Subject.of(raw, known.gathered.problems.get(ref, ()))
    match known.gathered.resources.get(ref):
        case Tenant():
            node = known.gathered.policy.tenants[ref.name]
            binding = tenant_accounts(known.gathered.policy, known.balances, ref.name, known.now)
            return tenant_status(node, subject, binding, known.now)
        case TokenBudget() as budget:
            return _budget(budget, subject, known)
        case TokenQuota() as quota:
            return _quota(quota, subject, known)
        case TokenGrant() as grant:
            return _grant(grant, subject, known)
        case PriceBook() as book:
            return price_book_status(book, subject, known.now)
        case _:
            return faulty_status(subject, subject.fault, known.now) if subject.fault else None


def limits_of(resource: AnyResource | None) -> Mapping[str, LimitRef]:
    """Where the limits of a budget or quota are written, by their own names; nothing for any other object."""
    match resource:
        case TokenBudget() as budget:
            return {"": LimitRef("TokenBudget", budget.namespace, budget.name)}
        case TokenQuota() as quota:
            names = (limit.name for limit in quota.spec.limits)
            return {name: LimitRef("TokenQuota", quota.namespace, quota.name, name) for name in names}
        case _:
            return {}


def _budget(budget: TokenBudget, subject: Subject, known: Knowledge) -> Status | None:
    (ref,) = limits_of(budget).values()
    if known.gathered.policy.limit(ref) is None:
        return faulty_status(subject, subject.fault or _UNBOUND, known.now)
    counted, freshness = known.balances.counted(ref), known.balances.freshness(known.now)
    if counted is None:
        return _unread(subject, freshness, known.now)
    return budget_status(budget, subject, counted, known.forecast, freshness, known.now, known.unpriced)


def _quota(quota: TokenQuota, subject: Subject, known: Knowledge) -> Status | None:
    refs = limits_of(quota)
    if any(known.gathered.policy.limit(ref) is None for ref in refs.values()):
        return faulty_status(subject, subject.fault or _UNBOUND, known.now)
    counted: dict[str, Counted] = {}
    freshness = known.balances.freshness(known.now)
    for name, ref in refs.items():
        if (one := known.balances.counted(ref)) is None:
            return _unread(subject, freshness, known.now)
        counted[name] = one
    return quota_status(quota, subject, counted, freshness, known.now, known.unpriced)


def _unread(subject: Subject, freshness: Freshness, now: datetime) -> Status | None:
    """Nothing is said while accounts are being read; where they cannot be, that is said instead of numbers."""
    if freshness.stale_because is None:
        return None
    return faulty_status(subject, Fault("LedgerUnreadable", freshness.stale_because, waits=True), now)


_UNBOUND = Fault("NotInForce", "It binds no tenant", waits=True)


def _grant(grant: TokenGrant, subject: Subject, known: Knowledge) -> Status | None:
    standing = known.standing
    if standing is None:
        return None
    if standing.state is not None and standing.limit is not None:
        return grant_status(grant, subject, standing.state, standing.limit.unit, known.now)
    return waiting_grant_status(grant, subject, standing.fault, known.now) if standing.fault else None


def tenant_accounts(
    policy: PolicySet, balances: Balances, tenant: str, now: datetime
) -> Iterator[tuple[Limit, Account]]:
    """The accounts in which every request of a tenant counts, in windows of a day or longer."""
    target = Target(Caller(tenant), provider="", model="")
    for limit, bound in policy.limits_of(tenant):
        if not set(limit.per) <= {Dimension.TENANT} or (key := limit.key_of(target, bound)) is None:
            continue
        identity, window = limit.account_at(key, now)
        if window.end is not None and window.end - window.start < LASTING:
            continue
        if (account := balances.account(identity.text)) is not None:
            yield limit, account
