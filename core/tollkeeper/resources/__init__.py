"""The six custom resources, as frozen values: what YAML says, checked once (R12).

`parse` is the one way in. It takes and refuses what the API server takes and refuses by the CRDs that are generated
from the same models (`tollkeeper.crd`).

Errors: `InvalidResource` (an `InvalidValue`) holds every `FieldError` of one object.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from tollkeeper.resources.meta import API_GROUP, API_VERSION, SYSTEM_NAMESPACE, VERSION, Condition, Resource
from tollkeeper.resources.pricebook import PriceBook
from tollkeeper.resources.refusal import FieldError, InvalidResource, field_errors
from tollkeeper.resources.tenant import Tenant
from tollkeeper.resources.tokenbudget import TokenBudget
from tollkeeper.resources.tokengrant import TokenGrant
from tollkeeper.resources.tokenquota import TokenQuota
from tollkeeper.resources.workloadgate import GATE_NAME, WorkloadGate

__all__ = [
    "API_GROUP",
    "API_VERSION",
    "GATE_NAME",
    "KINDS",
    "SYSTEM_NAMESPACE",
    "VERSION",
    "AnyResource",
    "Condition",
    "FieldError",
    "InvalidResource",
    "PriceBook",
    "Resource",
    "Tenant",
    "TokenBudget",
    "TokenGrant",
    "TokenQuota",
    "WorkloadGate",
    "parse",
]

AnyResource = Tenant | TokenQuota | TokenBudget | TokenGrant | PriceBook | WorkloadGate

KINDS: Mapping[str, type[AnyResource]] = {
    "Tenant": Tenant,
    "TokenQuota": TokenQuota,
    "TokenBudget": TokenBudget,
    "TokenGrant": TokenGrant,
    "PriceBook": PriceBook,
    "WorkloadGate": WorkloadGate,
}
"""Every kind of ours, by name."""


def parse(raw: Mapping[str, Any]) -> AnyResource:
    """The resource that an object states. Raises `InvalidResource` with the path, reason and remedy of every fault."""
    kind = raw.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise InvalidResource(_title(raw), (FieldError("kind", f"{kind!r} is not one of {', '.join(KINDS)}"),))
    model = KINDS[kind]
    if raw.get("apiVersion") != API_VERSION:
        fault = FieldError("apiVersion", f"{raw.get('apiVersion')!r} is not known: write {API_VERSION}")
        raise InvalidResource(_title(raw), (fault,))
    try:
        return model.model_validate(raw, by_alias=True, by_name=False)
    except ValidationError as refusal:
        raise InvalidResource(_title(raw), field_errors(model, refusal)) from refusal


def _title(raw: Mapping[str, Any]) -> str:
    metadata = raw.get("metadata")
    named = metadata if isinstance(metadata, Mapping) else {}
    place = "/".join(str(named[key]) for key in ("namespace", "name") if named.get(key))
    return f"{raw.get('kind') or 'object'} {place or '(without a name)'}"
