"""Admission: what is gathered from the API server for one review, and the answer. The rules themselves are the core's.

What a review depends on is read at the moment it comes, so that an object applied just before is known, however far
behind any cache is. The gate is different: its verdict is kept fresh by the ledger, and no call is made for it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from tollkeeper.gates import GateVerdict, being_prepared, without_tenant
from tollkeeper.problems import ObjectRef
from tollkeeper.references import Resources, read, ref_of, stated
from tollkeeper.resources import (
    GATE_NAME,
    KINDS,
    AnyResource,
    InvalidResource,
    PriceBook,
    Tenant,
    TokenBudget,
    TokenGrant,
    TokenQuota,
    parse,
)
from tollkeeper.tenants import Namespace, resolve
from tollkeeper.validation import check, check_removal
from tollkeeper_kube import Kube, KubeError, Object
from tollkeeper_kube.kinds import (
    NAMESPACE,
    PRICE_BOOK,
    TENANT,
    TOKEN_BUDGET,
    TOKEN_GRANT,
    TOKEN_QUOTA,
    WORKLOAD_GATE,
    Kind,
)
from tollkeeper_webhook.reviews import ALLOWED, Answer, Review, answer_to, forbidden, invalid, unavailable

CHECK_SECONDS = 4.0
"""Less than the API server waits (`configurations.CHECK_TIMEOUT_SECONDS`), so that it hears why."""

REASON_SECONDS = 1.0

Verdicts = Callable[[str], GateVerdict | None]
"""The verdict on a namespace as the ledger stands now; None where nothing is known of it."""


@dataclass(frozen=True, slots=True)
class Admission:
    """Answers reviews. Never raises: what cannot be checked is refused with the reason."""

    kube: Kube
    verdicts: Verdicts

    async def validate(self, review: Review) -> Answer:
        """One of our own objects: its fields, and how it stands to all others (R12)."""
        if review.operation == "DELETE":
            return await self._in_time(self._removal(review))
        new = _read(review)
        return new if isinstance(new, Answer) else await self._in_time(self._checked(new, review))

    async def mutate(self, review: Review) -> Answer:
        """What comes before the API server's own checks: the form of our objects, the gate of all others."""
        if review.kind not in KINDS:
            return await self.gate(review)
        form = _read(review.named())
        return form if isinstance(form, Answer) else ALLOWED

    async def gate(self, review: Review) -> Answer:
        """A metered pod or workload: whether its namespace's gate is open (R22)."""
        verdict = self.verdicts(review.namespace)
        if verdict is None:
            return await self._without_verdict(review.namespace)
        if verdict.open:
            return Answer(allowed=True, warnings=verdict.warnings)
        return forbidden(verdict.message)

    async def _checked(self, new: AnyResource, review: Review) -> Answer:
        resources, namespaces = await self._around(new)
        if review.old_object is not None:
            former, _ = read([review.old_object])
            for one in former.all():
                resources = resources.having(one)
        return answer_to(check(new, resources, namespaces, datetime.now(UTC)), ref_of(new))

    async def _removal(self, review: Review) -> Answer:
        """A tenant goes: its author is told what that leaves without a parent or a tenant."""
        ref = ObjectRef(review.kind, review.namespace, review.name)
        resources, namespaces = await self._everything_of_tenants()
        return answer_to(check_removal(ref, resources, namespaces), ref)

    async def _around(self, new: AnyResource) -> tuple[Resources, dict[str, Namespace]]:
        """What the rules for an object of this kind look at."""
        match new:
            case Tenant():
                return await self._everything_of_tenants()
            case TokenQuota() | TokenBudget():
                tenants, grants, namespace = await asyncio.gather(
                    self.kube.list(TENANT),
                    self.kube.list(TOKEN_GRANT, new.namespace),
                    self.kube.find(NAMESPACE, new.namespace),
                )
                return read((*tenants, *grants))[0], _namespaces((namespace,) if namespace else ())
            case TokenGrant():
                return await self._listed((TOKEN_BUDGET,), new.namespace), {}
            case PriceBook():
                return await self._listed((PRICE_BOOK,)), {}
            case _:
                return Resources(), {}

    async def _everything_of_tenants(self) -> tuple[Resources, dict[str, Namespace]]:
        resources, namespaces = await asyncio.gather(
            self._listed((TENANT, TOKEN_QUOTA, TOKEN_BUDGET)), self.kube.list(NAMESPACE)
        )
        return resources, _namespaces(namespaces)

    async def _listed(self, kinds: tuple[Kind, ...], namespace: str | None = None) -> Resources:
        listed = await asyncio.gather(*(self.kube.list(kind, namespace) for kind in kinds))
        return read(item for items in listed for item in items)[0]

    async def _without_verdict(self, namespace: str) -> Answer:
        """Nothing is known here: a gate with a verdict decides by policy; else the refused are told why there is none."""
        try:
            async with asyncio.timeout(REASON_SECONDS):
                gate = await self.kube.find(WORKLOAD_GATE, GATE_NAME, namespace)
                if gate is not None and "open" in (gate.get("status") or {}):
                    return ALLOWED
                tenants, known = await asyncio.gather(self.kube.list(TENANT), self.kube.find(NAMESPACE, namespace))
        except (KubeError, TimeoutError):
            return ALLOWED  # The policies decide alike, in fewer words.
        tree = resolve(read(tenants)[0].tenants, _namespaces((known,) if known else ()))
        return forbidden(being_prepared(namespace) if namespace in tree.owners else without_tenant(namespace))

    async def _in_time(self, checking: Awaitable[Answer]) -> Answer:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                return await checking
        except TimeoutError:
            return unavailable(f"the object could not be checked within {CHECK_SECONDS:.0f} s; try again")
        except KubeError as fault:
            return unavailable(f"the object could not be checked: {fault}")


def _read(review: Review) -> AnyResource | Answer:
    """The object that is reviewed, or the answer where it cannot be read or is going."""
    raw = review.object or {}
    if (raw.get("metadata") or {}).get("deletionTimestamp"):
        return ALLOWED  # Whoever still removes a finalizer from it must not be held up.
    try:
        return parse(stated(raw))
    except InvalidResource as wrong:
        return invalid(" | ".join(str(fault) for fault in wrong.faults))


def _namespaces(objects: Iterable[Object]) -> dict[str, Namespace]:
    return {
        about["name"]: Namespace(about.get("labels") or {}, about.get("annotations") or {})
        for about in (namespace["metadata"] for namespace in objects)
    }
