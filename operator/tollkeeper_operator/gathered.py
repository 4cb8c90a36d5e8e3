"""Everything known of the cluster at one moment, as values: resources, namespaces, keys, and the policy they make."""

import base64
import binascii
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tollkeeper.compile import compile_policy
from tollkeeper.errors import InvalidValue
from tollkeeper.keys import KEY_FIELD, ApiKey
from tollkeeper.limits import Limit
from tollkeeper.policy import PolicySet, TenantNode
from tollkeeper.prices import PriceList
from tollkeeper.problems import ObjectRef, Problem, Severity
from tollkeeper.references import Resources, read, ref_of
from tollkeeper.resources import AnyResource
from tollkeeper.resources.capture import Bodies
from tollkeeper.tenants import Namespace, TenantTree, governed
from tollkeeper_kube.kinds import NAMESPACE, OUR_KINDS, SECRET, WORKLOAD_GATE
from tollkeeper_operator.feed import Feed, Raw
from tollkeeper_operator.feed import ref_of as feed_ref

POLICY_KINDS = tuple(kind.name for kind in OUR_KINDS if kind is not WORKLOAD_GATE)
"""The kinds that policy is made of; gates are its result."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """One consistent view. `governed` are the namespaces that have a gate (K1), `beneath` has each tenant with its
    descendants: those that a limit bound to it binds."""

    policy: PolicySet
    tree: TenantTree
    resources: Mapping[ObjectRef, AnyResource]
    problems: Mapping[ObjectRef, tuple[Problem, ...]]
    governed: frozenset[str]
    beneath: Mapping[str, tuple[TenantNode, ...]]

    def bound_by(self, limit: Limit) -> tuple[TenantNode, ...]:
        """The tenants whose requests a limit counts, each once."""
        nodes = {node.name: node for tenant in limit.tenants for node in self.beneath.get(tenant, ())}
        return tuple(nodes.values())


def gather(feed: Feed, base: PriceList, version: int, *, keeps_bodies: bool = True) -> Gathered:
    """Read all objects and compile them. An object that cannot be read has a problem and stops no other.

    `keeps_bodies`: whether there is a key to encrypt bodies with; where there is none, tenants that want them kept are told.
    """
    resources, unreadable = read(_without_status(raw) for kind in POLICY_KINDS for raw in feed.of_kind(kind))
    namespaces = {raw["metadata"]["name"]: _namespace(raw) for raw in feed.of_kind(NAMESPACE.name)}
    keys, damaged = _keys(feed.of_kind(SECRET.name))
    compiled = compile_policy(resources, namespaces, keys, base, version)
    return Gathered(
        policy=compiled.policy,
        tree=compiled.tree,
        resources=_by_ref(resources),
        problems=_by_object((*unreadable, *damaged, *compiled.problems, *(() if keeps_bodies else _unkept(resources)))),
        governed=governed(compiled.tree, namespaces),
        beneath=_beneath(compiled.policy.tenants.values()),
    )


def _unkept(resources: Resources) -> Iterator[Problem]:
    reason = "there is no key to encrypt bodies with, so none are kept"
    remedy = "whoever runs Tollkeeper names one with capture.keys in its settings"
    for tenant in resources.tenants:
        if tenant.spec.capture.bodies is not Bodies.NEVER:
            yield Problem(ref_of(tenant), "spec.capture.bodies", "NoCaptureKey", reason, remedy, Severity.WARN)


def _beneath(tenants: Iterable[TenantNode]) -> dict[str, tuple[TenantNode, ...]]:
    beneath: dict[str, list[TenantNode]] = defaultdict(list)
    for node in tenants:
        for above in node.chain:
            beneath[above].append(node)
    return {name: tuple(nodes) for name, nodes in beneath.items()}


def _by_ref(resources: Resources) -> dict[ObjectRef, AnyResource]:
    return {ref_of(resource): resource for resource in resources.all()}


def _by_object(problems: Iterable[Problem]) -> dict[ObjectRef, tuple[Problem, ...]]:
    by_object: dict[ObjectRef, list[Problem]] = defaultdict(list)
    for problem in problems:
        by_object[problem.ref].append(problem)
    return {ref: tuple(found) for ref, found in by_object.items()}


def _without_status(raw: Raw) -> dict[str, Any]:
    """What people wrote: a status is ours, and must never keep an object from being read."""
    return {name: value for name, value in raw.items() if name != "status"}


def _namespace(raw: Raw) -> Namespace:
    metadata = raw["metadata"]
    return Namespace(metadata.get("labels") or {}, metadata.get("annotations") or {})


def _keys(secrets: Iterable[Raw]) -> tuple[tuple[ApiKey, ...], tuple[Problem, ...]]:
    keys: list[ApiKey] = []
    damaged: list[Problem] = []
    for raw in secrets:
        try:
            keys.append(key_of(raw))
        except InvalidValue as error:
            remedy = "revoke the key and create another"
            damaged.append(Problem(feed_ref(SECRET.name, raw), f"data.{KEY_FIELD}", "Damaged", str(error), remedy))
    return tuple(keys), tuple(damaged)


def key_of(secret: Raw) -> ApiKey:
    """The API key of a Secret. Raises `InvalidValue` that names the Secret."""
    metadata = secret["metadata"]
    where = f"Secret {metadata.get('namespace')}/{metadata['name']}"
    try:
        text = base64.b64decode((secret.get("data") or {})[KEY_FIELD], validate=True)
    except (KeyError, binascii.Error) as cause:
        raise InvalidValue(f"{where} has no {KEY_FIELD} that can be read") from cause
    try:
        return ApiKey.from_json(text)
    except InvalidValue as damaged:
        raise InvalidValue(f"{where}: {damaged}") from damaged
