"""Gates: when they close, what they say, and which accounts they look at."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.policy_builders import NOW, SYSTEM, budget, namespaces, quota, tenant
from tollkeeper.accounts import Account, Phase
from tollkeeper.compile import compile_policy
from tollkeeper.gates import GateVerdict, accounts_gating, verdict
from tollkeeper.policy import BoundAccount, PolicySet
from tollkeeper.prices import PriceList
from tollkeeper.references import Resources
from tollkeeper.resources import AnyResource

CENT = 10**7
FAMILY = (tenant("top", names=("roof",)), tenant("mine", "top", names=("home", "annex"), plan="free"))
SPACES = namespaces("roof", "home", "annex", "nobodys", SYSTEM)


def policy(*resources: AnyResource) -> PolicySet:
    return compile_policy(Resources.of((*FAMILY, *resources)), SPACES, (), PriceList(), 1).policy


def state(bound: BoundAccount, **changes: Any) -> Account:
    fresh = Account(bound.account.text, bound.window.start, bound.window.end, allocation=bound.limit.allocation)
    return replace(fresh, **changes)


def spent(in_force: PolicySet, namespace: str = "home", **by_object: int) -> GateVerdict:
    """The verdict when accounts of objects have spent so much, everything else nothing."""
    states = {
        bound.account.text: state(bound, spent=by_object.get(bound.account.ref.name, 0))
        for bound in accounts_gating(in_force, namespace, NOW)
    }
    return verdict(in_force, namespace, states, NOW)


def test_a_gate_is_open_while_there_is_room() -> None:
    assert spent(policy(budget(), quota())) == GateVerdict(True, "open: new metered workloads may start")


def test_a_spent_budget_closes_the_gate_and_says_how_it_opens() -> None:
    made = policy(budget(period={"every": "Month", "timeZone": "Europe/Madrid"}))
    closed = spent(made, monthly=1012 * CENT)
    assert not closed.open
    assert closed.message == (
        "TokenBudget home/monthly is used up: balance -0.12 USD, minimum -0.12, resets 2026-12-01 00:00 Europe/Madrid; "
        "ask whoever may grant in home for a TokenGrant to monthly, or wait until 2026-12-01 00:00 Europe/Madrid"
    )
    (listed,) = closed.limits
    assert listed.to_wire() == {
        "kind": "TokenBudget",
        "namespace": "home",
        "name": "monthly",
        "balance": "-0.12",
        "minimum": "-0.12",
        "resets": "2026-12-01 00:00 Europe/Madrid",
    }


def test_a_spent_quota_names_its_limit_and_its_reset() -> None:
    closed = spent(policy(quota()), daily=1000)
    assert closed.message == (
        "TokenQuota home/daily limit all is used up: balance 0 tokens, minimum 0, resets 2026-11-22 00:00 UTC; "
        "ask whoever keeps home to raise the limit, or wait until 2026-11-22 00:00 UTC"
    )
    assert closed.limits[0].name == "daily/all"


def test_a_prepaid_budget_never_resets() -> None:
    prepaid = budget(period=None, allocation=0)
    closed = spent(policy(prepaid), monthly=12 * CENT)
    assert "never resets; ask whoever may grant in home for a TokenGrant to monthly" in closed.message
    assert "wait" not in closed.message
    assert closed.limits[0].resets == ""


def test_a_budget_without_a_grant_is_not_called_used_up() -> None:
    closed = spent(policy(budget(period=None, allocation=0, minimumBalance="0")), monthly=0)
    assert closed.message == (
        "TokenBudget home/monthly has nothing in it: balance 0.00 USD, minimum 0.00, never resets; "
        "ask whoever may grant in home for a TokenGrant to monthly"
    )


def test_the_limits_above_close_the_gate_too_without_their_amounts() -> None:
    closed = spent(policy(budget("org", "roof", of="top")), org=20 * 10**9)
    assert closed.message.startswith("TokenBudget roof/org is used up, resets 2026-12-01 00:00 UTC; ask")
    assert "10" not in closed.message.replace("2026-12-01", "")
    (listed,) = closed.limits
    assert (listed.balance, listed.minimum, listed.resets) == ("", "", "2026-12-01 00:00 UTC")


def test_the_same_limit_shows_its_amounts_in_its_own_namespace() -> None:
    assert "balance -10.00 USD" in spent(policy(budget("org", "roof", of="top")), "roof", org=20 * 10**9).message


def test_of_several_the_one_that_lasts_longest_comes_first() -> None:
    made = policy(quota(), budget(), budget("prepaid", period=None, allocation="1.00"))
    closed = spent(made, daily=1000, monthly=11 * 10**9, prepaid=2 * 10**9)
    assert [listed.name for listed in closed.limits] == ["prepaid", "monthly", "daily/all"]
    assert closed.message.startswith("TokenBudget home/prepaid is used up")
    assert "also used up: TokenBudget home/monthly until 2026-12-01 00:00 UTC, TokenQuota home/daily" in closed.message


def test_an_account_that_nobody_opened_holds_its_allocation() -> None:
    made = policy(budget())
    assert verdict(made, "home", {}, NOW).open
    assert not verdict(policy(budget(allocation=0, minimumBalance="0")), "home", {}, NOW).open


def test_holds_do_not_close_a_gate() -> None:
    """B2."""
    made = policy(budget())
    (bound,) = accounts_gating(made, "home", NOW)
    assert verdict(made, "home", {bound.account.text: state(bound, held=10 * 10**9)}, NOW).open


def test_a_namespace_without_a_tenant_is_closed_and_says_why() -> None:
    closed = verdict(policy(), "nobodys", {}, NOW)
    assert not closed.open
    assert closed.message == (
        "no tenant owns the namespace nobodys, so its AI use cannot be charged to anybody; "
        "ask an administrator to add it to spec.namespaces of a Tenant"
    )
    assert accounts_gating(policy(), "nobodys", NOW) == ()


def test_a_low_balance_leaves_the_gate_open_and_warns() -> None:
    """B4."""
    made = policy(budget(lowBalanceThreshold="5.00"))
    warned = spent(made, monthly=6 * 10**9)
    assert warned.open
    assert warned.warnings == (
        "TokenBudget home/monthly runs low: balance 4.00 USD; when it is used up, new metered workloads are refused",
    )


def test_a_gate_looks_at_the_keys_of_its_tenant_and_namespace_alone() -> None:
    """B5."""
    made = policy(
        budget("each", per=["Namespace"]),
        budget("users", per=["User"]),
        budget("plan", SYSTEM, of=None, tenantSelector={"matchLabels": {"plan": "free"}}),
        budget("annexed", match={"namespaces": ["ann*"]}),
        quota("minutes", window={"every": "Minute"}),
    )
    keys = {bound.account.ref.name: bound.account.key for bound in accounts_gating(made, "home", NOW)}
    assert keys == {"each": ("home",), "plan": ("mine",)}
    assert {bound.account.ref.name for bound in accounts_gating(made, "annex", NOW)} == {"each", "plan", "annexed"}


def test_one_namespaces_spent_key_leaves_the_others_open() -> None:
    made = policy(budget("each", per=["Namespace"]))
    (home,) = accounts_gating(made, "home", NOW)
    states = {home.account.text: state(home, spent=20 * 10**9)}
    assert not verdict(made, "home", states, NOW).open
    assert verdict(made, "annex", states, NOW).open


def test_a_message_stays_one_line_of_bounded_length() -> None:
    made = policy(*(budget(f"budget-{number}-{'x' * 200}") for number in range(40)))
    states = {bound.account.text: state(bound, spent=20 * 10**9) for bound in accounts_gating(made, "home", NOW)}
    closed = verdict(made, "home", states, NOW)
    assert len(closed.message) <= 2048
    assert "\n" not in closed.message
    assert "and 36 more" in closed.message


@given(st.lists(st.integers(0, 1200), min_size=3, max_size=3), st.sampled_from(["home", "roof", "annex"]))
def test_a_gate_is_open_exactly_while_no_account_it_looks_at_is_insufficient(cents: list[int], namespace: str) -> None:
    made = policy(budget("a"), budget("b", "roof", of="top"), budget("c", enforcement="Soft"))
    amounts = dict(zip("abc", cents, strict=True))
    states = {
        bound.account.text: state(bound, spent=amounts[bound.account.ref.name] * CENT)
        for bound in accounts_gating(made, namespace, NOW)
    }
    insufficient = [
        bound
        for bound in accounts_gating(made, namespace, NOW)
        if states[bound.account.text].phase(bound.limit) is Phase.INSUFFICIENT
    ]
    result = verdict(made, namespace, states, NOW)
    assert result.open is not bool(insufficient)
    assert len(result.limits) == len(insufficient)


@pytest.mark.parametrize("namespace", ["home", "annex"])
def test_amounts_of_tenants_above_are_never_told(namespace: str) -> None:
    made = policy(budget("org", "roof", of="top", allocation="777.77"), budget(allocation=0))
    closed = spent(made, namespace, org=10**15, monthly=10**9)
    assert "777" not in str(closed)
    assert "999222" not in str(closed)
