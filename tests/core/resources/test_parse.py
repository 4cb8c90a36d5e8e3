"""Objects become frozen values once, or are refused with path, reason and remedy."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from tollkeeper.amounts import Unit
from tollkeeper.errors import InvalidValue
from tollkeeper.limits import Dimension, Target
from tollkeeper.resources import (
    API_VERSION,
    InvalidResource,
    PriceBook,
    Tenant,
    TokenBudget,
    TokenGrant,
    TokenQuota,
    WorkloadGate,
    parse,
)
from tollkeeper.resources.meta import Expression, LabelSelector, Operator
from tollkeeper.resources.tokenbudget import TokenBudgetStatus
from tollkeeper.usage import Caller
from tollkeeper.windows import Calendar, Every

TENANT_REF = {"tenantRef": {"name": "research"}}
MONTH = {"every": "Month", "timeZone": "Europe/Madrid"}


def read(kind: str, spec: Mapping[str, Any], name: str = "monthly") -> Any:
    metadata = {"name": name, "namespace": "research"}
    return parse({"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec})


def tenant(**spec: Any) -> Tenant:
    value: Tenant = read("Tenant", {"level": "Team", **spec}, name="research")
    return value


def budget(**spec: Any) -> TokenBudget:
    value: TokenBudget = read("TokenBudget", {**TENANT_REF, **spec})
    return value


def quota(**limit: Any) -> TokenQuota:
    full = {"name": "daily", "amount": "2M", "window": {"every": "Day"}, **limit}
    value: TokenQuota = read("TokenQuota", {**TENANT_REF, "limits": [full]})
    return value


def grant(**spec: Any) -> TokenGrant:
    value: TokenGrant = read("TokenGrant", {"budgetRef": {"name": "monthly"}, "amount": "25.00", **spec})
    return value


def book(**spec: Any) -> PriceBook:
    value: PriceBook = read("PriceBook", spec)
    return value


def faults_of(read_it: Any, **spec: Any) -> dict[str, str]:
    with pytest.raises(InvalidResource) as refusal:
        read_it(**spec)
    return {fault.path: fault.says for fault in refusal.value.faults}


def test_a_budget_reads_with_the_defaults_of_its_unit() -> None:
    spec = budget().spec
    assert (spec.amount_unit, spec.allocation_amount, spec.low_balance_amount) == (Unit.USD, 0, 0)
    assert spec.minimum_amount == -120_000_000
    assert spec.thresholds == (50, 80, 95, 100)
    assert (spec.enforcement, spec.when_stale, spec.anonymous) == ("Hard", "FailClosed", "Share")
    assert budget(unit="Tokens").spec.minimum_amount == 0


def test_a_budgets_amounts_are_read_in_its_unit() -> None:
    money = budget(
        allocation="250.00",
        minimumBalance="0",
        period=MONTH,
        rollover={"maximum": "50.00"},
        borrowing={"limit": "20.00"},
        lending={"limit": "100.5"},
    ).spec
    assert money.allocation_amount == 250 * 10**9
    assert money.rollover_amount == 50 * 10**9
    assert money.borrowing_amount == 20 * 10**9
    assert money.lending_amount == 100_500_000_000
    tokens = budget(unit="Tokens", allocation="1.5M", minimumBalance=-500, lowBalanceThreshold="2k").spec
    assert (tokens.allocation_amount, tokens.minimum_amount, tokens.low_balance_amount) == (1_500_000, -500, 2000)


def test_a_budget_without_a_period_is_prepaid_and_one_with_follows_its_clock() -> None:
    """B6."""
    assert budget().spec.calendar() == Calendar.FOREVER
    assert budget(period=MONTH).spec.calendar() == Calendar.every(Every.MONTH, "Europe/Madrid")


def test_a_custom_window_counts_from_its_anchor() -> None:
    spec = budget(period={"duration": "36h", "anchor": "2026-11-01T01:00:00+01:00"}).spec
    assert spec.calendar() == Calendar.custom(timedelta(hours=36), datetime(2026, 11, 1, tzinfo=UTC))


def test_a_minimum_above_zero_is_refused() -> None:
    """B1."""
    assert "must be money, 0 or below" in faults_of(budget, minimumBalance="0.01")["spec.minimumBalance"]
    assert "0 or below" in faults_of(budget, unit="Tokens", minimumBalance=1)["spec.minimumBalance"]


def test_a_low_balance_threshold_below_the_minimum_is_refused() -> None:
    """B1."""
    assert "spec.lowBalanceThreshold" in faults_of(budget, lowBalanceThreshold="-0.120000001")
    assert budget(lowBalanceThreshold="-0.12").spec.low_balance_amount == -120_000_000


@pytest.mark.parametrize(
    "spec",
    [
        {"allocation": "2M"},
        {"unit": "Tokens", "allocation": "2.5"},
        {"rollover": {"maximum": "1k"}, "period": MONTH},
        {"allocation": 10**9},
    ],
)
def test_an_amount_in_another_unit_is_refused(spec: dict[str, Any]) -> None:
    assert any(f"unit is {spec.get('unit', 'USD')}" in says for says in faults_of(budget, **spec).values())


def test_rollover_without_a_period_is_refused() -> None:
    assert "spec.rollover" in faults_of(budget, rollover={"maximum": "1"})


def test_a_budget_binds_one_tenant_or_a_selector_never_both_or_none() -> None:
    assert "spec" in faults_of(budget, tenantSelector={})
    assert "spec" in faults_of(budget, tenantRef=None)
    assert budget(
        tenantRef=None, tenantSelector={"matchLabels": {"tollkeeper.dev/plan": "freemium"}}
    ).spec.tenant_selector


@pytest.mark.parametrize(
    ("window", "path"),
    [
        ({}, "spec.limits[0].window"),
        ({"every": "Day", "duration": "1h"}, "spec.limits[0].window"),
        ({"duration": "1h"}, "spec.limits[0].window"),
        ({"duration": "1h", "anchor": "2026-01-01T00:00:00Z", "timeZone": "UTC"}, "spec.limits[0].window.timeZone"),
        ({"every": "Day", "timeZone": "Mars/Olympus"}, "spec.limits[0].window.timeZone"),
        ({"duration": "0h", "anchor": "2026-01-01T00:00:00Z"}, "spec.limits[0].window.duration"),
        ({"duration": "1h", "anchor": "2026-01-01"}, "spec.limits[0].window.anchor"),
        ({"every": "Year"}, "spec.limits[0].window.every"),
    ],
)
def test_a_window_is_either_a_span_of_the_calendar_or_a_length_with_an_anchor(window: Any, path: str) -> None:
    assert path in faults_of(quota, window=window)


def test_a_quota_counts_whole_tokens() -> None:
    limit = quota(amount="1.5k").spec.limits[0]
    assert (limit.count, limit.counted_unit, limit.thresholds) == (1500, Unit.TOKENS, (50, 80, 95))
    assert "spec.limits[0].amount" in faults_of(quota, amount="2Mi")
    assert "spec.limits[0].amount" in faults_of(quota, amount=-1)
    assert "spec.limits[0].amount" in faults_of(quota, amount=1.5)


def test_weights_belong_to_weighted_tokens_alone() -> None:
    """M5."""
    weights = {"cache_read": "0.1", "output": "4"}
    limit = quota(unit="WeightedTokens", weights=weights).spec.limits[0]
    assert limit.weight_by_bucket == {"cache_read": Decimal("0.1"), "output": Decimal(4)}
    assert "spec.limits[0].weights" in faults_of(quota, weights=weights)
    assert (
        "did you mean cache_read?" in faults_of(quota, weights={"cacheRead": "1"})["spec.limits[0].weights.cacheRead"]
    )


@pytest.mark.parametrize(
    ("limit", "blocks"),
    [
        ({"window": {"every": "Day"}}, True),
        ({"window": {"every": "Month"}, "per": ["Tenant", "Namespace"]}, True),
        ({"window": {"duration": "24h", "anchor": "2026-01-01T00:00:00Z"}}, True),
        ({"window": {"every": "Hour"}}, False),
        ({"window": {"duration": "23h", "anchor": "2026-01-01T00:00:00Z"}}, False),
        ({"per": ["User"]}, False),
        ({"enforcement": "Soft"}, False),
        ({"window": {"every": "Hour"}, "blockWorkloads": True}, True),
        ({"blockWorkloads": False}, False),
    ],
)
def test_a_quota_closes_gates_by_rule_k3(limit: dict[str, Any], blocks: bool) -> None:
    assert quota(**limit).spec.limits[0].blocks_workloads is blocks


def test_a_limit_that_does_not_block_cannot_close_gates() -> None:
    assert "spec.limits[0].blockWorkloads" in faults_of(quota, blockWorkloads=True, enforcement="Shadow")


def test_two_limits_of_one_name_are_refused() -> None:
    limit = {"name": "daily", "amount": 1, "window": {"every": "Day"}}
    with pytest.raises(InvalidResource, match=r"spec.limits: 'daily' comes twice"):
        read("TokenQuota", {**TENANT_REF, "limits": [limit, limit]})


@pytest.mark.parametrize("thresholds", [[0], [1001], [50, 50], [50.5], ["50"], [True]])
def test_thresholds_are_whole_percentages_none_of_them_twice(thresholds: Any) -> None:
    assert any(path.startswith("spec.thresholds") for path in faults_of(budget, thresholds=thresholds))


def test_a_match_takes_what_each_of_its_lists_has_a_glob_for() -> None:
    match = budget(match={"models": ["gpt-5*"], "users": ["ana"]}).spec.match.compiled()
    assert dict(match.globs) == {Dimension.MODEL: ("gpt-5*",), Dimension.USER: ("ana",)}
    assert match.takes(Target(Caller("research", user="ana"), "openai", "gpt-5-mini"))
    assert not match.takes(Target(Caller("research", user="ben"), "openai", "gpt-5-mini"))


def test_a_grant_is_positive_and_written_in_its_budgets_unit() -> None:
    """B8."""
    assert grant().spec.amount_in(Unit.USD) == 25 * 10**9
    assert grant(amount="2M").spec.amount_in(Unit.TOKENS) == 2_000_000
    with pytest.raises(InvalidValue, match=r"spec\.amount: .*the budget's unit is USD"):
        grant(amount="2M").spec.amount_in(Unit.USD)
    with pytest.raises(
        InvalidValue, match=r"spec\.amount: 25 is not an amount of money: write a quoted decimal string"
    ):
        grant(amount=25).spec.amount_in(Unit.USD)
    for amount in ("0", "0.00", 0, -1, "-1"):
        assert "spec.amount" in faults_of(grant, amount=amount)


def test_a_grant_that_never_counts_is_refused() -> None:
    times = {"effectiveFrom": "2026-12-01T00:00:00Z", "expiresAt": "2026-12-01T01:00:00+01:00"}
    assert "spec.expiresAt" in faults_of(grant, **times)


def test_a_tenant_is_not_its_own_parent() -> None:
    assert "spec.parentRef.name" in faults_of(tenant, parentRef={"name": "research"})
    assert tenant(parentRef={"name": "acme"}).spec.parent_ref is not None


def test_a_tenants_name_is_one_part_of_a_path() -> None:
    with pytest.raises(InvalidResource, match="no dots"):
        read("Tenant", {"level": "Team"}, name="a.b")


def test_a_tenant_cannot_take_every_namespace_by_an_empty_selector() -> None:
    assert "spec.namespaces.selector" in faults_of(tenant, namespaces={"selector": {}})


def test_members_are_known_by_kind_and_name() -> None:
    ana = {"kind": "User", "name": "ana", "role": "Owner"}
    assert "spec.members" in faults_of(tenant, members=[ana, {**ana, "role": "Viewer"}])
    assert len(tenant(members=[ana, {**ana, "kind": "Group"}]).spec.members) == 2
    assert "spec.members[0].name" in faults_of(tenant, members=[{**ana, "kind": "ServiceAccount"}])


def test_fallback_prices_and_their_use_come_together() -> None:
    prices = {"perMillion": {"input": "5", "output": "20"}}
    assert book(unknownModels="Fallback", fallback=prices).spec.fallback is not None
    assert "spec.fallback" in faults_of(book, unknownModels="Fallback")
    assert "spec.fallback" in faults_of(book, fallback=prices)


def test_prices_are_exact_decimals_by_bucket() -> None:
    per_million = {"input": "1.25", "output": "10", "cacheRead": "0.125", "cacheWrite": "1.25"}
    price = book(models=[{"provider": "openai", "model": "gpt-5*", "perMillion": per_million}]).spec.models[0]
    assert price.per_million.by_bucket() == {
        "input": Decimal("1.25"),
        "output": Decimal(10),
        "cache_read": Decimal("0.125"),
        "cache_write_5m": Decimal("1.25"),
    }
    assert price.dollars_per_request == 0


def test_a_gate_has_one_name_and_no_spec() -> None:
    raw = {
        "apiVersion": API_VERSION,
        "kind": "WorkloadGate",
        "metadata": {"name": "tollkeeper", "namespace": "research"},
    }
    gate = parse(raw)
    assert isinstance(gate, WorkloadGate)
    assert gate.status.open is None
    with pytest.raises(InvalidResource, match="named tollkeeper"):
        parse({**raw, "metadata": {"name": "other"}})
    with pytest.raises(InvalidResource, match="spec: is unknown here"):
        parse({**raw, "spec": {}})


def test_a_refusal_is_one_line_that_names_object_path_reason_and_remedy() -> None:
    with pytest.raises(InvalidResource) as refusal:
        budget(allocation=250.5, enforcment="Hard", match={"models": "gpt-5"}, period={"every": "Day", "timeZone": 1})
    text = str(refusal.value)
    assert text.startswith(
        "TokenBudget research/monthly: spec.allocation: 250.5 is not an amount: write money as a quoted"
    )
    assert "spec.enforcment: is unknown here: did you mean enforcement?" in text
    assert "spec.match.models:" in text
    assert "spec.period.timeZone:" in text
    assert "\n" not in text


def test_names_of_this_code_are_not_names_of_the_wire() -> None:
    assert "did you mean minimumBalance?" in faults_of(budget, minimum_balance="0")["spec.minimum_balance"]


def test_an_unknown_kind_or_version_is_refused() -> None:
    with pytest.raises(InvalidResource, match="'TokenBudgets' is not one of Tenant, TokenQuota"):
        read("TokenBudgets", {})
    with pytest.raises(InvalidResource, match=f"apiVersion: 'v1' is not known: write {API_VERSION}"):
        parse({"apiVersion": "v1", "kind": "Tenant", "metadata": {"name": "x"}, "spec": {"level": "Team"}})


def test_a_null_is_a_field_left_out() -> None:
    assert budget(minimumBalance=None, match=None, enforcement=None) == budget()


def test_an_unknown_field_of_a_later_versions_status_is_left_aside() -> None:
    raw = budget().to_wire() | {"status": {"phase": "Low", "mood": "calm"}}
    value = parse(raw)
    assert isinstance(value, TokenBudget)
    assert value.status.phase == "Low"


def test_what_is_read_is_written_back() -> None:
    value = budget(allocation="250.00", period={"duration": "1h", "anchor": "2026-11-01T01:00:00+01:00"})
    again = parse(value.to_wire())
    assert again == value
    assert value.to_wire()["spec"]["period"]["anchor"] == "2026-11-01T00:00:00Z"


def test_a_status_is_written_under_the_wires_names() -> None:
    status = TokenBudgetStatus(rolled_over="5.00", as_of=datetime(2026, 11, 21, tzinfo=UTC))
    wire = status.to_wire()
    assert (wire["rolledOver"], wire["asOf"]) == ("5.00", "2026-11-21T00:00:00Z")


def test_values_are_frozen() -> None:
    with pytest.raises(ValidationError):
        budget().spec.unit = "Tokens"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("expression", "labels", "taken"),
    [
        ({"operator": "In", "values": ("a", "b")}, {"team": "a"}, True),
        ({"operator": "In", "values": ("a", "b")}, {}, False),
        ({"operator": "NotIn", "values": ("a",)}, {"team": "a"}, False),
        ({"operator": "NotIn", "values": ("a",)}, {}, True),
        ({"operator": "Exists"}, {"team": ""}, True),
        ({"operator": "Exists"}, {}, False),
        ({"operator": "DoesNotExist"}, {}, True),
        ({"operator": "DoesNotExist"}, {"team": "a"}, False),
    ],
)
def test_selectors_take_labels_as_kubernetes_does(expression: Any, labels: dict[str, str], taken: bool) -> None:
    operator = Operator(expression["operator"])
    selector = LabelSelector(
        match_expressions=(Expression(key="team", operator=operator, values=expression.get("values", ())),)
    )
    assert selector.takes(labels) is taken
    assert LabelSelector().takes(labels)
    assert LabelSelector(match_labels={"plan": "free"}).takes({**labels, "plan": "free"})
    assert not LabelSelector(match_labels={"plan": "free"}).takes(labels)
