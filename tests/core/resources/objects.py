"""Small valid objects, as JSON, that a test changes one field of."""

import copy
from typing import Any

from tollkeeper.resources import API_VERSION, KINDS

EVERY_DAY = {"every": "Day", "timeZone": "Europe/Madrid"}
BOUND = {"tenantRef": {"name": "research"}}


def resource(kind: str, spec: Any, name: str = "monthly") -> dict[str, Any]:
    metadata = {"name": name} | ({"namespace": "default"} if KINDS[kind].definition.namespaced else {})
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": copy.deepcopy(spec)}


def budget(**changes: Any) -> dict[str, Any]:
    return resource("TokenBudget", {**BOUND, **changes})


def tokens(**changes: Any) -> dict[str, Any]:
    return budget(unit="Tokens", **changes)


def quota(**changes: Any) -> dict[str, Any]:
    limit = {"name": "daily", "amount": "2M", "window": EVERY_DAY, **changes}
    return resource("TokenQuota", {**BOUND, "limits": [limit]})


def weighted(**weights: Any) -> dict[str, Any]:
    return quota(unit="WeightedTokens", weights=weights)


def window(**fields: Any) -> dict[str, Any]:
    return quota(window=fields)


def tenant(**changes: Any) -> dict[str, Any]:
    return resource("Tenant", {"level": "Team", **changes})


def grant(**changes: Any) -> dict[str, Any]:
    return resource("TokenGrant", {"budgetRef": {"name": "monthly"}, "amount": "25.00", **changes})


def book(**changes: Any) -> dict[str, Any]:
    return resource("PriceBook", changes)


def priced(**per_million: Any) -> dict[str, Any]:
    prices = {"input": "1", "output": "1", **per_million}
    return book(models=[{"provider": "openai", "model": "gpt-5*", "perMillion": prices}])
