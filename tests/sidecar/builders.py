"""Builders of policies, limits and records for the tests of this room."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from tollkeeper.amounts import Unit
from tollkeeper.keys import ApiKey, fingerprint
from tollkeeper.limits import Limit, LimitRef
from tollkeeper.policy import Assistant, PolicySet, TenantNode
from tollkeeper.prices import PriceEntry, PriceList
from tollkeeper.usage import Buckets, Caller, Charge, Outcome, UsageRecord
from tollkeeper.windows import Calendar, Every

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
MODEL = "gpt-5"
SECRET = "tk_0123456789ab_secret"
PROVIDER_KEY = "sk-provider"

PRICES = PriceList().with_books(
    [
        PriceEntry(
            "openai",
            MODEL,
            {"input": Decimal("1.25"), "cache_read": Decimal("0.125"), "output": Decimal(10)},
            context_window=400_000,
            version="2026-11",
        )
    ]
)


def limit(name: str = "monthly", allocation: int = 10**9, unit: Unit = Unit.USD, **changes: Any) -> Limit:
    """A hard monthly limit of tenant `research`: a budget for money, a quota for anything else."""
    ref = (
        LimitRef("TokenBudget", "research", name)
        if unit.is_money
        else LimitRef("TokenQuota", "research", "quota", name)
    )
    defaults: dict[str, Any] = {
        "ref": ref,
        "tenants": frozenset({"research"}),
        "unit": unit,
        "calendar": Calendar.every(Every.MONTH),
        "allocation": allocation,
    }
    return Limit(**(defaults | changes))


def key(secret: str = SECRET, **changes: Any) -> ApiKey:
    """A key in force of tenant `research`."""
    defaults: dict[str, Any] = {"id": secret.split("_")[1], "fingerprint": fingerprint(secret), "tenant": "research"}
    return ApiKey(**(defaults | changes))


def policy(*limits: Limit, keys: Sequence[ApiKey] = (), prices: PriceList = PRICES, **research: Any) -> PolicySet:
    """Tenant `research` under `acme`, with these limits and keys; `research` changes its node."""
    acme = TenantNode("acme", "acme", ("acme",), "Organization", frozenset(), {})
    node = TenantNode(
        "research",
        "acme/research",
        ("research", "acme"),
        "Department",
        frozenset({"research"}),
        {},
        assistants=(Assistant("summariser", ("gpt-5*",), active=True), Assistant("old", ("*",), active=False)),
    )
    in_force = keys or (key(),)
    return PolicySet(
        1,
        {"acme": acme, "research": replace(node, **research)},
        limits,
        prices,
        keys={one.fingerprint: one for one in in_force},
    )


def account_of(one: Limit, *values: str, now: datetime = NOW) -> str:
    """The identity of a limit's account."""
    return one.account_at(values, now)[0].text


def record(request: str = "request-1", holder: str = "holder-1", *charges: Charge, **changes: Any) -> UsageRecord:
    """A settled request."""
    values: dict[str, Any] = {
        "id": request,
        "upstream_id": "chatcmpl-1",
        "holder": holder,
        "caller": Caller("research", user="alice"),
        "provider": "openai",
        "model": MODEL,
        "tool": None,
        "buckets": Buckets(input=100, output=10),
        "cost": 225_000,
        "price": "PriceBook/default/openai/gpt-5@2026-11",
        "admitted_at": NOW,
        "finished_at": NOW,
        "status": 200,
        "outcome": Outcome.OK,
        "streamed": False,
        "estimated": False,
        "charges": charges,
    }
    return UsageRecord(**(values | changes))
