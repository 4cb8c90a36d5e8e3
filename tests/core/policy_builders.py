"""Resources as their YAML says them, in one line each."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tollkeeper.problems import ObjectRef, Problem
from tollkeeper.resources import PriceBook, Tenant, TokenBudget, TokenGrant, TokenQuota, parse
from tollkeeper.tenants import Namespace

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SYSTEM = "tollkeeper-system"


def made(kind: str, name: str, spec: Mapping[str, Any], namespace: str = "", **metadata: Any) -> Any:
    about = {"name": name, **({"namespace": namespace} if namespace else {}), **metadata}
    return parse({"apiVersion": "tollkeeper.dev/v1alpha1", "kind": kind, "metadata": about, "spec": dict(spec)})


def tenant(
    name: str,
    parent: str | None = None,
    names: tuple[str, ...] = (),
    team: str | None = None,
    created: str | None = None,
    **spec: Any,
) -> Tenant:
    """A tenant; `team` selects the namespaces with that label, `created` is the hour of a day."""
    above = {"parentRef": {"name": parent}} if parent else {}
    owned: dict[str, Any] = {"names": list(names)} if names else {}
    if team is not None:
        owned["selector"] = {"matchLabels": {"team": team}}
    stamp = {"creationTimestamp": f"2026-11-01T{created}:00:00Z"} if created else {}
    labels = {"labels": {"plan": spec.pop("plan")}} if "plan" in spec else {}
    whole = {"level": "Team", **above, **({"namespaces": owned} if owned else {}), **spec}
    metadata: dict[str, Any] = {**stamp, **labels}
    result: Tenant = made("Tenant", name, whole, **metadata)
    return result


def budget(name: str = "monthly", namespace: str = "home", of: str | None = "mine", **spec: Any) -> TokenBudget:
    """A budget of 10 dollars a month."""
    bound = {"tenantRef": {"name": of}} if of else {}
    whole = {"allocation": "10.00", "period": {"every": "Month"}, **bound, **spec}
    result: TokenBudget = made("TokenBudget", name, whole, namespace)
    return result


def quota(name: str = "daily", namespace: str = "home", of: str | None = "mine", **limit: Any) -> TokenQuota:
    """A quota with one limit of 1000 tokens a day."""
    bound = {"tenantRef": {"name": of}} if of else {"tenantSelector": {"matchLabels": {"plan": "free"}}}
    whole = {"name": "all", "amount": 1000, "window": {"every": "Day"}, **limit}
    result: TokenQuota = made("TokenQuota", name, {**bound, "limits": [whole]}, namespace)
    return result


def grant(
    amount: str | int = "5.00", to: str = "monthly", namespace: str = "home", name: str = "gift", **spec: Any
) -> TokenGrant:
    whole = {"budgetRef": {"name": to}, "amount": amount, **spec}
    result: TokenGrant = made("TokenGrant", name, whole, namespace)
    return result


def book(name: str = "prices", **spec: Any) -> PriceBook:
    result: PriceBook = made("PriceBook", name, spec)
    return result


def namespaces(*names: str, **teams: str) -> dict[str, Namespace]:
    """Namespaces without labels, and by keyword those with a label `team`."""
    plain = {name: Namespace() for name in names}
    return plain | {name: Namespace({"team": team}) for name, team in teams.items()}


def codes(problems: tuple[Problem, ...]) -> set[tuple[str, str]]:
    """Which objects have which problems."""
    return {(problem.ref.name, problem.code) for problem in problems}


def ref(kind: str, name: str, namespace: str = "") -> ObjectRef:
    return ObjectRef(kind, namespace, name)
