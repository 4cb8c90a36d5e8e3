"""The tree of tenants, and who owns which namespace (R1).

- A tenant's chain is itself, then its ancestors up to the top. Its limits are those of every tenant in its chain.
- Where the way up is broken, the chain ends there, the tenant keeps its place with the limits it can reach, and it has
  a problem: `ParentNotFound`, or `TenantCycle` (each tenant of a cycle then stands at the top by itself).
- A chain of more than 8 has the problem `TooDeep`; all its limits hold nevertheless.
- A namespace has one owner. Claimed twice, a tenant that names it comes before one that selects it by label (a label
  can be set by whoever may change the namespace), then the tenant created first, then the first by name. Each side has
  the problem `NamespaceOwnedTwice`, so neither can overlook it.
- The result depends on the tenants and namespaces alone, never on their order.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain as concatenated

from tollkeeper.policy import Assistant, TenantNode
from tollkeeper.problems import ObjectRef, Problem
from tollkeeper.resources import Tenant

MAX_DEPTH = 8
METERED_LABEL = "tollkeeper.dev/metered"
OPT_OUT_ANNOTATION = "tollkeeper.dev/allow-opt-out"

_LAST = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Namespace:
    """What we look at of a namespace."""

    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_metered(self) -> bool:
        """Whether all its pods are metered, unless they may opt out (K4)."""
        return self.labels.get(METERED_LABEL) == "true"

    @property
    def allows_opt_out(self) -> bool:
        """Whether its pods may opt out of metering (K4)."""
        return self.annotations.get(OPT_OUT_ANNOTATION) == "true"


@dataclass(frozen=True, slots=True)
class TenantTree:
    """Every tenant in its place, the owner of each namespace that has one, and what is wrong."""

    nodes: Mapping[str, TenantNode]
    owners: Mapping[str, str]
    problems: tuple[Problem, ...]

    def is_within(self, tenant: str, top: str) -> bool:
        """Whether `tenant` is `top` or stands below it."""
        node = self.nodes.get(tenant)
        return node is not None and top in node.chain


def tenant_ref(name: str) -> ObjectRef:
    """How problems name a tenant."""
    return ObjectRef("Tenant", "", name)


def resolve(tenants: Iterable[Tenant], namespaces: Mapping[str, Namespace]) -> TenantTree:
    """The tree of these tenants over the namespaces that exist."""
    by_name = {tenant.name: tenant for tenant in sorted(tenants, key=lambda tenant: tenant.name)}
    ways = {name: _way_up(name, by_name) for name in by_name}
    claims = _claims(by_name, namespaces)
    owners = {name: claimants[0].tenant for name, claimants in claims.items() if name in namespaces}
    nodes = {
        name: _node(by_name[name], way.chain, frozenset(ns for ns, owner in owners.items() if owner == name))
        for name, way in ways.items()
    }
    upward = (way.problem for way in ways.values() if way.problem)
    return TenantTree(nodes, owners, tuple(sorted(concatenated(upward, _double_claims(claims)))))


def governed(tree: TenantTree, namespaces: Mapping[str, Namespace]) -> frozenset[str]:
    """The namespaces that have a gate: owned by a tenant, or labelled as metered (K1)."""
    return frozenset(name for name, namespace in namespaces.items() if name in tree.owners or namespace.is_metered)


@dataclass(frozen=True, slots=True)
class _Way:
    """The way from a tenant up, as far as it goes, and why it goes no further."""

    chain: tuple[str, ...]
    problem: Problem | None = None


def _way_up(name: str, by_name: Mapping[str, Tenant]) -> _Way:
    chain = [name]
    while (above := by_name[chain[-1]].spec.parent_ref) is not None:
        if above.name in chain:
            return _cut_at_cycle(name, tuple(chain), above.name)
        if above.name not in by_name:
            return _Way(tuple(chain), _orphan(name, chain[-1], above.name))
        chain.append(above.name)
    return _Way(tuple(chain), _too_deep(name, tuple(chain)) if len(chain) > MAX_DEPTH else None)


def _cut_at_cycle(name: str, chain: tuple[str, ...], again: str) -> _Way:
    first = chain.index(again)
    circle = chain[first:]
    # Told the same to all of them, wherever one began to look: from the first by name, round and back to it.
    turn = circle.index(min(circle))
    shown = " → ".join((*circle[turn:], *circle[:turn], min(circle)))
    inside = f"the tenants {shown} are each above the other"
    reason = inside if first == 0 else f"the tenant {again} above it stands in a circle: {inside}"
    remedy = "take parentRef off one of them, or name another parent there"
    problem = Problem(tenant_ref(name), "spec.parentRef.name", "TenantCycle", reason, remedy)
    return _Way((name,) if first == 0 else chain[: first + 1], problem)


def _orphan(name: str, child: str, missing: str) -> Problem:
    whose = "" if child == name else f"the tenant {child} above it names the parent {missing}: "
    remedy = f"create the Tenant {missing}, or name another parent"
    reason = f"{whose}there is no Tenant {missing}"
    return Problem(tenant_ref(name), "spec.parentRef.name", "ParentNotFound", reason, remedy)


def _too_deep(name: str, chain: tuple[str, ...]) -> Problem:
    reason = f"it stands {len(chain)} levels deep ({'/'.join(reversed(chain))}), and {MAX_DEPTH} are the most"
    return Problem(tenant_ref(name), "spec.parentRef.name", "TooDeep", reason, "name a parent further up")


def _node(tenant: Tenant, chain: tuple[str, ...], namespaces: frozenset[str]) -> TenantNode:
    spec = tenant.spec
    return TenantNode(
        name=tenant.name,
        path="/".join(reversed(chain)),
        chain=chain,
        level=spec.level.value,
        namespaces=namespaces,
        labels=tenant.metadata.labels,
        output_limit=spec.output_limit.value,
        unmetered=spec.unmetered.value,
        assistants=tuple(Assistant(one.name, one.models, one.active) for one in spec.assistants),
        capture=spec.capture.compiled(),
    )


@dataclass(frozen=True, slots=True, order=True)
class _Claim:
    """A tenant's claim to a namespace; the smallest wins."""

    by_label: bool
    created: datetime
    tenant: str

    @property
    def path(self) -> str:
        return "spec.namespaces.selector" if self.by_label else "spec.namespaces.names"


def _claims(tenants: Mapping[str, Tenant], namespaces: Mapping[str, Namespace]) -> dict[str, list[_Claim]]:
    """By namespace, the claims to it, the strongest first. Names may be claimed before the namespace exists."""
    claims: dict[str, list[_Claim]] = {}
    for name, tenant in tenants.items():
        wanted, created = tenant.spec.namespaces, tenant.metadata.creation_timestamp or _LAST
        for namespace in wanted.names:
            claims.setdefault(namespace, []).append(_Claim(False, created, name))
        if wanted.selector is None:
            continue
        selected = (ns for ns, known in namespaces.items() if wanted.selector.takes(known.labels))
        for namespace in selected:
            if namespace not in wanted.names:
                claims.setdefault(namespace, []).append(_Claim(True, created, name))
    return {namespace: sorted(claimants) for namespace, claimants in claims.items()}


def _double_claims(claims: Mapping[str, list[_Claim]]) -> Iterable[Problem]:
    for namespace, (owner, *others) in claims.items():
        for other in others:
            yield _double(namespace, owner, other.tenant, "keeps it")
            yield _double(namespace, other, owner.tenant, f"does not get it: {owner.tenant} owns it")


def _double(namespace: str, claim: _Claim, other: str, outcome: str) -> Problem:
    how = "selects" if claim.by_label else "names"
    reason = f"it {how} the namespace {namespace}, which the tenant {other} claims too, and {outcome}"
    remedy = "leave the namespace to one of them"
    return Problem(tenant_ref(claim.tenant), claim.path, "NamespaceOwnedTwice", reason, remedy)
