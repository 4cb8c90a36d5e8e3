"""What is permitted in a tenant and is most often a mistake: told to whoever writes it, never refused.

A namespace may come after its tenant, and levels are names that no limit depends on. So nothing of this keeps a tenant
from being in force, and no condition says it for good.
"""

from collections.abc import Iterable, Iterator, Mapping

from tollkeeper.errors import MOST_NAMED, listed
from tollkeeper.problems import Problem, Severity
from tollkeeper.resources import Tenant
from tollkeeper.resources.tenant import Level
from tollkeeper.tenants import Namespace, tenant_ref

_DEPTH = {level: depth for depth, level in enumerate(Level)}


def oddities(tenants: Iterable[Tenant], namespaces: Mapping[str, Namespace]) -> tuple[Problem, ...]:
    """What is odd about these tenants, each as a warning. `namespaces` are all that exist."""
    by_name = {tenant.name: tenant for tenant in tenants}
    return tuple(one for tenant in by_name.values() for one in _odd(tenant, by_name, namespaces))


def _odd(tenant: Tenant, by_name: Mapping[str, Tenant], namespaces: Mapping[str, Namespace]) -> Iterator[Problem]:
    spec = tenant.spec
    above = by_name.get(spec.parent_ref.name) if spec.parent_ref else None
    if above is not None and _DEPTH[spec.level] < _DEPTH[above.spec.level]:
        reason = (
            f"it is the level {spec.level}, and the tenant {above.name} above it is the lower level {above.spec.level}"
        )
        remedy = "correct the level of one of them, or parentRef; the limits of both hold in any case"
        yield _warned(tenant, "spec.level", "OddLevel", reason, remedy)
    kept = spec.capture.compiled()
    if kept is not None and not kept.redaction:
        reason = "bodies are kept as they are, with whatever secrets and personal data stand in them"
        remedy = "leave builtIn out, so that the usual kinds are redacted, if that is not meant"
        yield _warned(tenant, "spec.capture.redact", "NothingRedacted", reason, remedy)
    missing = [name for name in spec.namespaces.names if name not in namespaces]
    if missing:
        reason = f"there is no namespace {listed(missing[:MOST_NAMED], len(missing))}"
        remedy = "see that the name is right; the tenant owns a namespace as soon as it exists"
        yield _warned(tenant, "spec.namespaces.names", "NamespaceNotFound", reason, remedy)


def _warned(tenant: Tenant, path: str, code: str, reason: str, remedy: str) -> Problem:
    return Problem(tenant_ref(tenant.name), path, code, reason, remedy, Severity.WARN)
