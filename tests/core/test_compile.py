"""From resources to policy: what binds whom, what closes gates, and what an object at fault contributes."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.policy_builders import NOW, SYSTEM, book, budget, codes, grant, namespaces, quota, tenant
from tollkeeper.amounts import Unit
from tollkeeper.compile import Compiled, compile_policy
from tollkeeper.keys import ApiKey
from tollkeeper.limits import LimitRef
from tollkeeper.prices import PriceList
from tollkeeper.references import Resources, read
from tollkeeper.resources import AnyResource
from tollkeeper.usage import Buckets
from tollkeeper.windows import Calendar, Every

FAMILY = (
    tenant("top", names=("roof",)),
    tenant("mine", "top", names=("home",), plan="free"),
    tenant("below", "mine", names=("cellar",), plan="free"),
    tenant("other", names=("elsewhere",)),
)
SPACES = namespaces("roof", "home", "cellar", "elsewhere", "nobodys", SYSTEM)


def compiled(*resources: AnyResource, keys: tuple[ApiKey, ...] = ()) -> Compiled:
    return compile_policy(Resources.of((*FAMILY, *resources)), SPACES, keys, PriceList(), 7)


def test_a_budget_becomes_one_limit_in_nano_dollars() -> None:
    """R3."""
    made = budget(
        allocation="250.00",
        period={"every": "Month", "timeZone": "Europe/Madrid"},
        rollover={"maximum": "50.00"},
        minimumBalance="-1.5",
        lowBalanceThreshold="20",
        per=["User"],
        match={"models": ["gpt-5*"]},
        enforcement="Soft",
        thresholds=[50],
    )
    result = compiled(made)
    (limit,) = result.policy.limits
    assert result.problems == ()
    assert result.policy.version == 7
    assert limit.ref == LimitRef("TokenBudget", "home", "monthly")
    assert limit.tenants == {"mine"}
    assert limit.calendar == Calendar.every(Every.MONTH, "Europe/Madrid")
    assert (limit.unit, limit.allocation, limit.minimum) == (Unit.USD, 250 * 10**9, -1_500_000_000)
    assert (limit.low_threshold, limit.rollover, limit.thresholds) == (20 * 10**9, 50 * 10**9, (50,))
    assert not limit.is_hard


def test_each_limit_of_a_quota_becomes_a_limit() -> None:
    """R2."""
    weights: dict[str, Any] = {"unit": "WeightedTokens", "weights": {"cache_read": "0.1"}}
    made = quota(amount="2M", window={"duration": "36h", "anchor": "2026-11-01T00:00:00Z"}, **weights)
    (limit,) = compiled(made).policy.limits
    assert limit.ref == LimitRef("TokenQuota", "home", "daily", "all")
    assert limit.allocation == 2_000_000
    assert limit.calendar.duration == timedelta(hours=36)
    assert limit.weights == {"cache_read": Decimal("0.1")}


BINDINGS: list[tuple[str, AnyResource, set[str]]] = [
    ("the tenant that owns the namespace", budget(), {"mine"}),
    ("a tenant below it", budget(of="below"), {"below"}),
    ("any tenant from the system namespace", budget(of="other", namespace=SYSTEM), {"other"}),
    ("all with a label from the system namespace", quota(of=None, namespace=SYSTEM), {"mine", "below"}),
]


@pytest.mark.parametrize(("made", "bound"), [row[1:] for row in BINDINGS], ids=[row[0] for row in BINDINGS])
def test_it_may_bind(made: AnyResource, bound: set[str]) -> None:
    result = compiled(made)
    assert [limit.tenants for limit in result.policy.limits] == [bound]
    assert result.problems == ()


REFUSED: list[tuple[str, AnyResource, str]] = [
    ("the tenant above", budget(of="top"), "TenantNotOwned"),
    ("a tenant beside", budget(of="other"), "TenantNotOwned"),
    ("a tenant that does not exist", budget(of="nobody"), "TenantNotFound"),
    ("a tenant that does not exist from the system namespace", budget(of="nobody", namespace=SYSTEM), "TenantNotFound"),
    ("its tenant from a namespace that nobody owns", budget(namespace="nobodys"), "NamespaceNotOwned"),
    ("all with a label from a namespace of a tenant", quota(of=None), "SelectorNotPermitted"),
]


@pytest.mark.parametrize(("made", "code"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_it_may_not_bind(made: AnyResource, code: str) -> None:
    result = compiled(made, quota("sound"))
    assert [limit.ref.name for limit in result.policy.limits] == ["sound"]
    assert codes(result.problems) == {(made.name, code)}


def test_a_selector_gives_each_tenant_an_account_of_its_own() -> None:
    """R5."""
    (limit,) = compiled(quota(of=None, namespace=SYSTEM)).policy.limits
    assert limit.each_tenant


HARD_DAY: dict[str, Any] = {"window": {"every": "Day"}}
CLOSING: list[tuple[str, AnyResource, bool]] = [
    ("a hard budget", budget(), True),
    ("a soft budget", budget(enforcement="Soft"), False),
    ("a budget per namespace", budget(per=["Namespace"]), True),
    ("a budget per user", budget(per=["User"]), False),
    ("a budget for some models", budget(match={"models": ["gpt-5*"]}), False),
    ("a budget for all models", budget(match={"models": ["gpt-5*", "*"]}), True),
    ("a budget for some namespaces", budget(match={"namespaces": ["ho*"]}), True),
    ("a quota for a day", quota(**HARD_DAY), True),
    ("a quota for an hour", quota(window={"every": "Hour"}), False),
    ("a quota for an hour that says so", quota(window={"every": "Hour"}, blockWorkloads=True), True),
    ("a quota for a day that says not", quota(**HARD_DAY, blockWorkloads=False), False),
    ("a quota for some models", quota(**HARD_DAY, match={"models": ["gpt-5*"]}), False),
    ("a quota for some models that says so", quota(match={"models": ["gpt-5*"]}, blockWorkloads=True), True),
    ("a quota per user that says so", quota(per=["User"], blockWorkloads=True), False),
]


@pytest.mark.parametrize(("made", "closes"), [row[1:] for row in CLOSING], ids=[row[0] for row in CLOSING])
def test_whether_it_closes_gates(made: AnyResource, closes: bool) -> None:
    (limit,) = compiled(made).policy.limits
    assert limit.blocks_workloads is closes


def test_a_limit_that_cannot_block_workloads_as_told_says_so() -> None:
    (problem,) = compiled(quota(per=["User"], blockWorkloads=True)).problems
    assert problem.says == (
        "spec.limits[0].blockWorkloads: a gate looks at tenant and namespace alone, and the limit all counts per User; "
        "remove it, or count per Tenant or Namespace"
    )
    assert not problem.refuses


def test_a_grant_without_its_budget_waits_and_one_in_another_unit_never_fits() -> None:
    """B8."""
    waiting, wrong = grant(to="later", name="waiting"), grant("2M", name="wrong")
    result = compiled(budget(), waiting, wrong, grant("5.00", name="right"))
    assert {(problem.ref.name, problem.code, problem.refuses) for problem in result.problems} == {
        ("waiting", "BudgetNotFound", False),
        ("wrong", "WrongUnit", True),
    }


def test_a_grant_of_more_than_a_resource_may_state_says_how_much_that_is() -> None:
    (problem,) = compiled(budget(), grant("1000000000.00"), grant("999999999.999999999", name="greatest")).problems
    assert problem.says == (
        "spec.amount: '1000000000.00' is too large: the largest amount is 999999999.999999999; "
        "write at most that, or grant it in parts"
    )
    assert problem.refuses


def price(amount: str, **more: Any) -> dict[str, Any]:
    return {"provider": "openai", "model": "gpt-x", "perMillion": {"input": amount, "output": amount}, **more}


def cost_of_a_million(result: Compiled, model: str = "gpt-x") -> int | None:
    found = result.policy.prices.find("openai", model, NOW)
    return found.cost(Buckets(input=10**6)) if found else None


def test_price_books_stand_over_the_base() -> None:
    result = compiled(book(models=[price("2")]))
    assert cost_of_a_million(result) == 2 * 10**9
    assert cost_of_a_million(result, "gpt-y") is None


def test_a_fallback_prices_what_nobody_names_and_the_first_book_by_name_has_it() -> None:
    """M6: `unknownModels: Fallback`."""
    cheap = {"perMillion": {"input": "1", "output": "1"}}
    dear = {"perMillion": {"input": "9", "output": "9"}}
    first = book("a", models=[price("2")], unknownModels="Fallback", fallback=cheap)
    second = book("b", unknownModels="Fallback", fallback=dear)
    result = compiled(second, first)
    assert cost_of_a_million(result, "gpt-y") == 10**9
    assert codes(result.problems) == {("b", "FallbackTwice")}


def test_keys_without_a_tenant_and_revoked_ones_are_not_in_force() -> None:
    good = ApiKey("k1", "f1", "mine")
    lost, revoked = (
        replace(good, id="k2", fingerprint="f2", tenant="gone"),
        replace(good, fingerprint="f3", revoked=NOW),
    )
    result = compiled(keys=(good, lost, revoked))
    assert result.policy.keys == {"f1": good}
    assert [str(problem) for problem in result.problems] == [
        "ApiKey k2: tenant: there is no Tenant gone: the key is refused; "
        "create the Tenant gone, or revoke the key with `tollkeeper keys revoke k2`"
    ]


UNBUILT: list[tuple[AnyResource, str, bool]] = [
    (budget(onExhausted={"workloads": "ScaleToZero"}), "spec.onExhausted.workloads", True),
    (tenant("one", members=[{"kind": "User", "name": "ada", "role": "Admin"}]), "spec.members", False),
    (book(tools=[{"name": "search", "perCall": "0.01"}]), "spec.tools", True),
]


@pytest.mark.parametrize(("made", "path", "refuses"), UNBUILT, ids=[row[1] for row in UNBUILT])
def test_what_is_not_built_is_said(made: AnyResource, path: str, refuses: bool) -> None:
    (problem,) = compiled(made).problems
    assert (problem.path, problem.code, problem.refuses) == (path, "NotAvailable", refuses)
    assert "not available in this version" in problem.reason


def test_an_object_that_cannot_be_read_is_left_out_and_told() -> None:
    sound = {"apiVersion": "tollkeeper.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": "ok"}}
    resources, problems = read([{**sound, "spec": {"level": "Team"}}, {**sound, "spec": {"level": "Tribe"}}])
    assert [one.name for one in resources.tenants] == ["ok"]
    assert [(problem.ref.name, problem.path, problem.code) for problem in problems] == [("ok", "spec.level", "Invalid")]


@given(
    st.lists(
        st.builds(
            budget,
            name=st.sampled_from(["one", "two", "three"]),
            namespace=st.sampled_from([*SPACES, "absent"]),
            of=st.sampled_from(["top", "mine", "below", "other", "nobody"]),
        ),
        unique_by=lambda made: (made.namespace, made.name),
    )
)
def test_a_namespaces_object_binds_its_owner_and_those_below_alone(budgets: list[AnyResource]) -> None:
    result = compiled(*budgets)
    bound = {(limit.ref.namespace, limit.ref.name) for limit in result.policy.limits}
    for limit in result.policy.limits:
        (name,) = limit.tenants
        owner = SYSTEM if limit.ref.namespace == SYSTEM else result.policy.owners[limit.ref.namespace]
        assert owner == SYSTEM or owner in result.policy.tenants[name].chain
    refused = {(problem.ref.namespace, problem.ref.name) for problem in result.problems if problem.refuses}
    assert bound | refused == {(made.namespace, made.name) for made in budgets}
    assert not bound & refused
