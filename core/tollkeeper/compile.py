"""From resources to policy: all of them at one moment become one `PolicySet`, and what is wrong becomes problems.

- An object with a problem contributes nothing that it is not entitled to; everything else stands. Compiling never fails.
- A quota or budget may bind the tenant that owns its namespace and those below; from `tollkeeper-system`, and only from
  there, any tenant and all tenants with a label (W3, I8).
- A limit closes gates (`Limit.blocks_workloads`) only if it counts every request of a namespace: Hard, counted per
  tenant and namespace at most (B5, K3), and matching on nothing but namespaces. One that counts some requests alone
  says nothing about a workload as a whole; a quota may say otherwise with `blockWorkloads` (K3).
- A grant to a missing budget waits (B8); one in another unit than its budget can never be booked.
- Keys of tenants that do not exist, and revoked ones, are not in force: a caller without limits would be free.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tollkeeper.amounts import TooLarge, format_amount, largest_stated
from tollkeeper.errors import InvalidValue
from tollkeeper.keys import ApiKey
from tollkeeper.lenders import with_lenders
from tollkeeper.limits import Dimension, Enforcement, Limit, LimitRef, Match
from tollkeeper.policy import PolicySet
from tollkeeper.prices import PriceList
from tollkeeper.pricing import book_prices
from tollkeeper.problems import ObjectRef, Problem, Severity
from tollkeeper.references import Resources, ref_of
from tollkeeper.resources import SYSTEM_NAMESPACE, TokenBudget, TokenGrant, TokenQuota
from tollkeeper.resources.tokenquota import QuotaLimit
from tollkeeper.tenants import Namespace, TenantTree, resolve
from tollkeeper.unbuilt import unbuilt

GATED_BY = frozenset({Dimension.TENANT, Dimension.NAMESPACE})
"""What a limit may be counted per and still close gates (B5)."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """The policy in force, the tree it stands on, and what is wrong with objects."""

    policy: PolicySet
    tree: TenantTree
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Binding:
    """Whom a quota or budget binds, or why it binds nobody."""

    tenants: frozenset[str]
    each: bool = False
    problems: tuple[Problem, ...] = ()


def compile_policy(
    resources: Resources,
    namespaces: Mapping[str, Namespace],
    keys: Iterable[ApiKey],
    base: PriceList,
    version: int,
) -> Compiled:
    """The policy that these resources state. Pure; raises nothing."""
    tree = resolve(resources.tenants, namespaces)
    limits: list[Limit] = []
    problems: list[Problem] = [*tree.problems]
    binders: tuple[TokenQuota | TokenBudget, ...] = (*resources.quotas, *resources.budgets)
    for owner in binders:
        binding = bind(owner, tree)
        problems += binding.problems
        if not any(problem.refuses for problem in binding.problems):
            limits += limits_of(owner, binding)
        problems += _toothless(owner)
    for grant in resources.grants:
        problems += grant_problems(grant, resources)
    lent, lender_problems = with_lenders(limits, tree.nodes)
    problems += lender_problems
    prices, price_problems = book_prices(resources.price_books, base)
    problems += price_problems
    problems += [problem for resource in resources.all() for problem in unbuilt(resource)]
    in_force = tuple(key for key in keys if key.revoked is None)
    problems += [_key_without_tenant(key) for key in in_force if key.tenant not in tree.nodes]
    policy = PolicySet(
        version=version,
        tenants=tree.nodes,
        limits=tuple(sorted(lent, key=lambda limit: limit.ref)),
        prices=prices,
        owners=tree.owners,
        keys={key.fingerprint: key for key in in_force if key.tenant in tree.nodes},
    )
    return Compiled(policy, tree, tuple(sorted(problems)))


def bind(owner: TokenQuota | TokenBudget, tree: TenantTree) -> Binding:
    """Whom an object's limits bind by rule W3."""
    spec, ref = owner.spec, ref_of(owner)
    from_system = owner.namespace == SYSTEM_NAMESPACE
    if spec.tenant_selector is not None:
        if not from_system:
            return _nobody(_selector_outside(ref))
        selected = frozenset(name for name, node in tree.nodes.items() if spec.tenant_selector.takes(node.labels))
        return Binding(selected, each=True)
    name = spec.tenant_ref.name if spec.tenant_ref else ""
    if name not in tree.nodes:
        return _nobody(_tenant_missing(ref, name))
    if from_system:
        return Binding(frozenset({name}))
    owning = tree.owners.get(owner.namespace)
    if owning is None:
        return _nobody(_namespace_unowned(ref, name))
    if not tree.is_within(name, owning):
        return _nobody(_not_entitled(ref, name, owning))
    return Binding(frozenset({name}))


def limits_of(owner: TokenQuota | TokenBudget, binding: Binding) -> Iterator[Limit]:
    """The limits that an object states, bound."""
    if isinstance(owner, TokenQuota):
        for limit in owner.spec.limits:
            yield _quota_limit(owner, limit, binding)
    else:
        yield _budget_limit(owner, binding)


def _quota_limit(quota: TokenQuota, limit: QuotaLimit, binding: Binding) -> Limit:
    match = limit.match.compiled()
    return Limit(
        ref=LimitRef("TokenQuota", quota.namespace, quota.name, limit.name),
        tenants=binding.tenants,
        unit=limit.counted_unit,
        calendar=limit.window.calendar(),
        allocation=limit.count,
        per=limit.per,
        match=match,
        enforcement=limit.enforcement,
        when_stale=limit.when_stale,
        anonymous=limit.anonymous,
        thresholds=limit.thresholds,
        weights=limit.weight_by_bucket,
        blocks_workloads=_blocks(limit),
        each_tenant=binding.each,
    )


def _blocks(limit: QuotaLimit) -> bool:
    told = limit.block_workloads is not None
    whole = told or _counts_whole_namespaces(limit.match.compiled())
    return limit.blocks_workloads and whole and set(limit.per) <= GATED_BY


def _toothless(owner: TokenQuota | TokenBudget) -> Iterator[Problem]:
    """Limits that are told to block workloads and cannot, because a gate has no user, model or the like (B5)."""
    if isinstance(owner, TokenBudget):
        return
    for number, limit in enumerate(owner.spec.limits):
        if limit.block_workloads and not set(limit.per) <= GATED_BY:
            others = ", ".join(sorted(set(limit.per) - GATED_BY))
            reason = f"a gate looks at tenant and namespace alone, and the limit {limit.name} counts per {others}"
            path, remedy = f"spec.limits[{number}].blockWorkloads", "remove it, or count per Tenant or Namespace"
            yield Problem(ref_of(owner), path, "CannotBlockWorkloads", reason, remedy, Severity.WARN)


def _budget_limit(budget: TokenBudget, binding: Binding) -> Limit:
    spec, match = budget.spec, budget.spec.match.compiled()
    hard = spec.enforcement is Enforcement.HARD
    return Limit(
        ref=LimitRef("TokenBudget", budget.namespace, budget.name),
        tenants=binding.tenants,
        unit=spec.amount_unit,
        calendar=spec.calendar(),
        allocation=spec.allocation_amount,
        minimum=spec.minimum_amount,
        low_threshold=spec.low_balance_amount,
        rollover=spec.rollover_amount,
        borrowing=spec.borrowing_amount,
        lending=spec.lending_amount,
        per=spec.per,
        match=match,
        enforcement=spec.enforcement,
        when_stale=spec.when_stale,
        anonymous=spec.anonymous,
        thresholds=spec.thresholds,
        blocks_workloads=hard and set(spec.per) <= GATED_BY and _counts_whole_namespaces(match),
        each_tenant=binding.each,
    )


def _counts_whole_namespaces(match: Match) -> bool:
    return all(dimension is Dimension.NAMESPACE or "*" in globs for dimension, globs in match.globs)


def grant_problems(grant: TokenGrant, resources: Resources) -> Iterator[Problem]:
    """What stands between a grant and its budget (B8)."""
    ref, name = ref_of(grant), grant.spec.budget_ref.name
    budget = resources.budget(grant.namespace, name)
    if budget is None:
        reason = f"there is no TokenBudget {name} in the namespace {grant.namespace}: the grant waits"
        remedy = "create the budget, or grant to another one"
        yield Problem(ref, "spec.budgetRef.name", "BudgetNotFound", reason, remedy, Severity.WARN)
        return
    try:
        grant.spec.amount_in(budget.spec.amount_unit)
    except TooLarge:
        unit = budget.spec.amount_unit
        reason = (
            f"{grant.spec.amount!r} is too large: the largest amount is {format_amount(largest_stated(unit), unit)}"
        )
        yield Problem(ref, "spec.amount", "TooLarge", reason, "write at most that, or grant it in parts")
    except InvalidValue:
        reason = f"{grant.spec.amount!r} is not an amount of {budget.spec.unit}, the unit of the TokenBudget {name}"
        example = '"25.00" with its quotes' if budget.spec.amount_unit.is_money else "2M"
        yield Problem(
            ref, "spec.amount", "WrongUnit", reason, f"create a grant in {budget.spec.unit}, such as {example}"
        )


def _nobody(problem: Problem) -> Binding:
    return Binding(frozenset(), problems=(problem,))


def _selector_outside(ref: ObjectRef) -> Problem:
    reason = f"only objects in the namespace {SYSTEM_NAMESPACE} may bind tenants by label, and this one is in {ref.namespace}"
    remedy = f"name one tenant with tenantRef, or ask an administrator to create it in {SYSTEM_NAMESPACE}"
    return Problem(ref, "spec.tenantSelector", "SelectorNotPermitted", reason, remedy)


def _tenant_missing(ref: ObjectRef, name: str) -> Problem:
    remedy = f"create the Tenant {name} first, or name another one"
    return Problem(ref, "spec.tenantRef.name", "TenantNotFound", f"there is no Tenant {name}", remedy)


def _namespace_unowned(ref: ObjectRef, name: str) -> Problem:
    reason = f"no tenant owns the namespace {ref.namespace}, so nothing in it may bind the tenant {name}"
    remedy = f"add {ref.namespace} to spec.namespaces.names of the Tenant {name} or of one above it"
    return Problem(ref, "spec.tenantRef.name", "NamespaceNotOwned", reason, remedy)


def _not_entitled(ref: ObjectRef, name: str, owning: str) -> Problem:
    reason = (
        f"the namespace {ref.namespace} belongs to the tenant {owning}, and {name} is neither that tenant nor below it"
    )
    remedy = f"name {owning} or a tenant below it, or create the object in a namespace of {name} or of one above it"
    return Problem(ref, "spec.tenantRef.name", "TenantNotOwned", reason, remedy)


def _key_without_tenant(key: ApiKey) -> Problem:
    ref, reason = ObjectRef("ApiKey", "", key.id), f"there is no Tenant {key.tenant}: the key is refused"
    remedy = f"create the Tenant {key.tenant}, or revoke the key with `tollkeeper keys revoke {key.id}`"
    return Problem(ref, "tenant", "TenantNotFound", reason, remedy)
