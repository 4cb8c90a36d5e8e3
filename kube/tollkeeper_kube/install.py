"""Installing what Tollkeeper needs in a cluster: its kinds, its namespace, its policies."""

import asyncio
from collections.abc import Iterable

from tollkeeper_kube.errors import ApiUnreachable, MissingKind, NotFound, Rejected
from tollkeeper_kube.kinds import CRD, PART_OF, SYSTEM_NAMESPACE, Kind, Object
from tollkeeper_kube.kube import Kube

ESTABLISHED_SECONDS = 30.0
_POLL_SECONDS = 0.05


async def install(kube: Kube, crds: Iterable[Object], policies: Iterable[Object] = ()) -> None:
    """Apply the CRDs and wait until their kinds are served; then the system namespace; then everything in `policies`.

    `policies` may hold any of our kinds (admission policies, bindings, webhook configurations), applied in order.
    Raises `KubeError`s; what was applied before stays, and applying again is harmless.
    """
    definitions = tuple(crds)
    await asyncio.gather(*(kube.apply(definition) for definition in definitions))
    await asyncio.gather(*(_served(kube, definition) for definition in definitions))
    await ensure_system_namespace(kube)
    for policy in policies:
        await kube.apply(policy)


async def ensure_system_namespace(kube: Kube) -> None:
    """Make sure that `tollkeeper-system` exists."""
    await kube.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM_NAMESPACE, "labels": PART_OF}}
    )


async def _served(kube: Kube, definition: Object) -> None:
    name = definition["metadata"]["name"]
    try:
        async with asyncio.timeout(ESTABLISHED_SECONDS):
            # Polled: what is waited for happens in another process.
            while not await _is_established(kube, name) or not await _is_listed(kube, definition):  # noqa: ASYNC110
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError as late:
        raise ApiUnreachable(
            f"CustomResourceDefinition {name} is not served after {ESTABLISHED_SECONDS:.0f} s: "
            f"see `kubectl describe crd {name}`"
        ) from late


async def _is_established(kube: Kube, name: str) -> bool:
    conditions = {
        condition["type"]: condition
        for condition in (await kube.get(CRD, name)).get("status", {}).get("conditions") or ()
    }
    accepted = conditions.get("NamesAccepted", {})
    if accepted.get("status") == "False":
        raise Rejected(f"CustomResourceDefinition {name}: {accepted.get('message')}; remove what has that name")
    return bool(conditions.get("Established", {}).get("status") == "True")


async def _is_listed(kube: Kube, definition: Object) -> bool:
    """Established is said a moment before the server answers for the kind."""
    spec = definition["spec"]
    served = next(version["name"] for version in spec["versions"] if version["served"])
    names = spec["names"]
    kind = Kind(spec["group"], served, names["kind"], names["plural"], namespaced=spec["scope"] == "Namespaced")
    try:
        await kube.call("GET", kind.path(), what=f"listing {kind.plural}", kind=kind, query={"limit": "1"})
    except (MissingKind, NotFound):
        return False
    return True
