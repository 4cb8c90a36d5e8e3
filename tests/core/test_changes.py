"""What a change does to what a limit has counted: refused, told, or nobody's news (B7)."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.core.policy_builders import SYSTEM, budget, namespaces, quota, tenant
from tollkeeper.problems import Problem
from tollkeeper.references import Resources
from tollkeeper.resources import AnyResource
from tollkeeper.validation import check

FAMILY = (
    tenant("mine", names=("home",), plan="free"),
    tenant("below", "mine", plan="free"),
    tenant("other", names=("elsewhere",), plan="paid"),
)
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SPACES = namespaces("home", "elsewhere", SYSTEM)


def changed(former: AnyResource, new: AnyResource) -> tuple[Problem, ...]:
    return check(new, Resources.of(FAMILY).having(former), SPACES, NOW)


def selecting(*plans: str) -> AnyResource:
    """A budget for every tenant with one of these plans."""
    wanted = {"matchExpressions": [{"key": "plan", "operator": "In", "values": list(plans)}]}
    return budget("plan", SYSTEM, of=None, tenantSelector=wanted)


CHANGES: list[tuple[str, AnyResource, AnyResource, str]] = [
    (
        "a budget",
        budget(allocation=5, unit="Tokens", minimumBalance=0),
        budget(),
        "TokenBudget home/monthly: spec.unit: its account counts Tokens",
    ),
    (
        "a limit of a quota",
        quota(),
        quota(unit="Requests"),
        "TokenQuota home/daily: spec.limits[0].unit: its account counts Tokens",
    ),
    (
        "the period of a budget",
        budget(period={"every": "Month"}),
        budget(period={"every": "Week"}),
        "TokenBudget home/monthly: spec.period: its balance and its grants stand in the period that they began in",
    ),
    (
        "the zone of a budget's period",
        budget(period={"every": "Month"}),
        budget(period={"every": "Month", "timeZone": "Europe/Madrid"}),
        "TokenBudget home/monthly: spec.period: its balance and its grants stand in the period that they began in",
    ),
    (
        "a period that is taken away",
        budget(),
        budget(period=None),
        "TokenBudget home/monthly: spec.period: its balance and its grants stand in the period that they began in",
    ),
    (
        "the window of a quota's limit",
        quota(),
        quota(window={"every": "Week"}),
        "TokenQuota home/daily: spec.limits[0].window: what was used stands in the window that counts now",
    ),
    (
        "the anchor of a quota's window",
        quota(window={"duration": "36h", "anchor": "2026-11-01T00:00:00Z"}),
        quota(window={"duration": "36h", "anchor": "2026-11-01T12:00:00Z"}),
        "TokenQuota home/daily: spec.limits[0].window: what was used stands in the window that counts now",
    ),
    (
        "the key of a budget",
        budget(),
        budget(per=["User"]),
        "TokenBudget home/monthly: spec.per: what was used stands in accounts kept for all callers together, and others",
    ),
    (
        "the key of a quota's limit",
        quota(per=["User", "Model"]),
        quota(per=["User"]),
        "TokenQuota home/daily: spec.limits[0].per: what was used stands in accounts kept per User, Model, and others",
    ),
    (
        "the order of a key, in which accounts are kept",
        quota(per=["User", "Model"]),
        quota(per=["Model", "User"]),
        "TokenQuota home/daily: spec.limits[0].per: what was used stands in accounts kept per User, Model, and others",
    ),
    (
        "one account that becomes one for each tenant",
        budget("plan", SYSTEM, of="mine"),
        selecting("free"),
        "TokenBudget tollkeeper-system/plan: spec.tenantSelector: what was used stands in one account, and others",
    ),
    (
        "an account for each tenant that becomes one",
        selecting("free"),
        budget("plan", SYSTEM, of="mine"),
        "TokenBudget tollkeeper-system/plan: spec.tenantRef: what was used stands in one account for each selected",
    ),
]


@pytest.mark.parametrize(("former", "new", "begin"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_a_change_after_which_other_accounts_would_count_is_refused(
    former: AnyResource, new: AnyResource, begin: str
) -> None:
    """B7: accounts of another unit, window or key would forget what was spent."""
    (problem,) = changed(former, new)
    assert problem.refuses
    assert str(problem).startswith(begin)
    assert "; keep " in str(problem), "a refusal says what to do"


TOLD: list[tuple[str, AnyResource, AnyResource, str]] = [
    (
        "another tenant",
        budget(),
        budget(of="below"),
        "spec.tenantRef.name: what mine used stays counted, and below goes on in the same account;"
        " to begin anew, create another TokenBudget, which counts anew",
    ),
    (
        "another match of a budget",
        budget(),
        budget(match={"models": ["gpt-5*"]}),
        "spec.match: what the former match counted stays counted, and what it left out is not made up for;"
        " to begin anew, create another budget",
    ),
    (
        "another match of a limit",
        quota(match={"models": ["gpt-5*"]}),
        quota(match={"models": ["gpt-5*", "gpt-6*"]}),
        "spec.limits[0].match: what the former match counted stays counted, and what it left out is not made up for;"
        " to begin anew, give the limit another name, which counts anew",
    ),
    (
        "other weights",
        quota(unit="WeightedTokens", weights={"output": "4"}),
        quota(unit="WeightedTokens", weights={"output": "5"}),
        "spec.limits[0].weights: what was used stays counted by the former weights; from now on the new ones count;"
        " to begin anew, give the limit another name, which counts anew",
    ),
    (
        "another selection of tenants",
        selecting("free"),
        selecting("paid"),
        "spec.tenantSelector: it limits below, mine no longer, and it limits other from now on, with nothing used unless"
        " it was selected before; to begin anew, create another TokenBudget, which counts anew",
    ),
]


@pytest.mark.parametrize(("former", "new", "words"), [row[1:] for row in TOLD], ids=[row[0] for row in TOLD])
def test_a_change_after_which_the_same_account_goes_on_is_admitted_and_told(
    former: AnyResource, new: AnyResource, words: str
) -> None:
    """B7: nothing is forgotten, and whoever changes it is told what stays."""
    (problem,) = changed(former, new)
    assert not problem.refuses
    assert problem.says == words
    assert len(words) <= 256, "the API server's clients see longer warnings cut"


LIMITED: dict[str, Any] = {"per": ["User"], "match": {"models": ["gpt-5*", "o4"]}, "unit": "WeightedTokens"}
UNREMARKABLE: list[tuple[str, AnyResource, AnyResource]] = [
    ("the zone that is meant anyway", budget(), budget(period={"every": "Month", "timeZone": "UTC"})),
    ("a limit of another name", quota(), quota(name="other", amount=5, window={"every": "Week"}, per=["User"])),
    ("amounts and thresholds", budget(), budget(allocation="99.00", thresholds=[10])),
    ("enforcement", quota(), quota(enforcement="Soft")),
    ("globs in another order", quota(**LIMITED), quota(**{**LIMITED, "match": {"models": ["o4", "gpt-5*"]}})),
    ("a weight that says what holds anyway", quota(**LIMITED), quota(**LIMITED, weights={"input": "1.0"})),
    ("a selector in other words", selecting("free"), selecting("free", "none")),
    ("nothing", selecting("free"), selecting("free")),
]


@pytest.mark.parametrize(("former", "new"), [row[1:] for row in UNREMARKABLE], ids=[row[0] for row in UNREMARKABLE])
def test_a_change_that_moves_no_account_is_nobodys_news(former: AnyResource, new: AnyResource) -> None:
    assert changed(former, new) == ()


def test_a_selection_of_very_many_names_three_of_them_and_says_how_many_more() -> None:
    crowd = [tenant(f"t{number}", plan="paid") for number in range(9)]
    everything = Resources.of((*FAMILY, *crowd)).having(selecting("free"))
    (problem,) = check(selecting("free", "paid"), everything, SPACES, NOW)
    assert problem.reason.startswith("it limits other, t0, t1 and 7 more from now on")
