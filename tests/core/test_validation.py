"""Cross-object rules: what refuses a new object, and what only warns."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.core.policy_builders import SYSTEM, book, budget, grant, namespaces, quota, ref, tenant
from tollkeeper.references import Resources
from tollkeeper.resources import AnyResource
from tollkeeper.validation import check, check_removal

FAMILY = (
    tenant("top", names=("roof",)),
    tenant("mine", "top", names=("home",)),
    tenant("other", names=("elsewhere",)),
    budget(),
)
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SPACES = namespaces("roof", "roof2", "home", "elsewhere", SYSTEM)


def said(new: AnyResource, *others: AnyResource, refuses: bool = True) -> list[str]:
    problems = check(new, Resources.of((*FAMILY, *others)), SPACES, NOW)
    return [str(problem) for problem in problems if problem.refuses is refuses]


SOUND: list[tuple[str, AnyResource]] = [
    ("a tenant below another", tenant("child", "mine")),
    ("the same tenant again", tenant("mine", "top", names=("home",))),
    ("a budget for its namespace's tenant", budget("weekly")),
    ("a quota for its namespace's tenant", quota()),
    ("a grant to a budget in its unit", grant()),
    ("any binding from the system namespace", budget("org", SYSTEM, of="other")),
]


@pytest.mark.parametrize("new", [row[1] for row in SOUND], ids=[row[0] for row in SOUND])
def test_nothing_is_wrong_with(new: AnyResource) -> None:
    assert check(new, Resources.of(FAMILY), SPACES, NOW) == ()


REFUSED: list[tuple[str, AnyResource, str]] = [
    (
        "a circle",
        tenant("top", "mine", names=("roof",)),
        "Tenant top: spec.parentRef.name: the tenants mine → top → mine",
    ),
    (
        "a parent that is missing",
        tenant("child", "gone"),
        "Tenant child: spec.parentRef.name: there is no Tenant gone;",
    ),
    ("a namespace of another", tenant("thief", names=("home",)), "Tenant thief: spec.namespaces.names: it names the"),
    ("a tenant that is not its own", budget("theirs", of="other"), "TokenBudget home/theirs: spec.tenantRef.name: the"),
    (
        "a tenant that is missing",
        quota(of="gone"),
        "TokenQuota home/daily: spec.tenantRef.name: there is no Tenant gone;",
    ),
    (
        "a selector in a tenant's namespace",
        quota(of=None),
        "TokenQuota home/daily: spec.tenantSelector: only objects in",
    ),
    ("a grant in another unit", grant("2M"), "TokenGrant home/gift: spec.amount: '2M' is not an amount of USD"),
]


@pytest.mark.parametrize(("new", "begin"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_it_refuses(new: AnyResource, begin: str) -> None:
    (refusal,) = said(new)
    assert refusal.startswith(begin)
    assert "; " in refusal, "a refusal says what to do"


def test_a_grant_whose_budget_is_missing_is_admitted_with_a_warning() -> None:
    early = grant(to="later")
    assert said(early) == []
    assert "the grant waits" in said(early, refuses=False)[0]


def lapsing(at: str) -> AnyResource:
    return grant(expiresAt=at)


def test_a_grant_that_has_lapsed_already_is_admitted_with_a_warning() -> None:
    for at in ("2026-11-22T12:00:00Z", "2025-11-30T00:00:00+01:00"):
        assert said(lapsing(at)) == []
        (warning,) = said(lapsing(at), refuses=False)
        assert warning.startswith(
            "TokenGrant home/gift: spec.expiresAt: 2025-" if "2025" in at else "TokenGrant home/gift:"
        )
        assert "has passed already, so nothing of the grant can be spent; create another grant with a later" in warning
    assert check(lapsing("2026-11-22T12:00:01Z"), Resources.of(FAMILY), SPACES, NOW) == ()


def test_a_grant_that_lapsed_since_it_was_applied_may_be_applied_again_in_silence() -> None:
    old = lapsing("2025-11-30T00:00:00Z")
    assert check(old, Resources.of((*FAMILY, old)), SPACES, NOW) == ()


PRICE = {"provider": "openai", "model": "gpt-5*", "perMillion": {"input": "1", "output": "2"}}
JULY = "2026-07-01T00:00:00Z"


@pytest.mark.parametrize(
    ("first", "second", "since"),
    [
        ({}, {}, "without effectiveFrom"),
        ({"effectiveFrom": JULY}, {"effectiveFrom": "2026-07-01T02:00:00+02:00"}, f"from {JULY}"),
    ],
)
def test_two_prices_of_a_model_from_one_time_are_refused(first: Any, second: Any, since: str) -> None:
    (refusal,) = said(book(models=[{**PRICE, **first}, {**PRICE, "model": "gpt-4"}, {**PRICE, **second}]))
    assert refusal == (
        f"PriceBook prices: spec.models[2]: openai gpt-5* {since} has a price already, at spec.models[0];"
        " remove one of the two, or give them different times in effectiveFrom"
    )


def test_a_price_that_another_book_has_already_is_refused_and_the_other_book_named() -> None:
    former = book("former", models=[{**PRICE, "model": "gpt-4"}, PRICE])
    (refusal,) = said(book(models=[PRICE]), former)
    assert (
        "openai gpt-5* without effectiveFrom has a price already, at spec.models[1] of the PriceBook former" in refusal
    )


def test_prices_of_a_model_from_different_times_are_one_history() -> None:
    history = book(models=[PRICE, {**PRICE, "effectiveFrom": JULY}, {**PRICE, "provider": "azure"}])
    assert check(history, Resources.of(FAMILY), SPACES, NOW) == ()


def test_what_a_change_breaks_in_others_is_a_warning() -> None:
    moved = tenant("mine", "other", names=("roof2",))
    assert said(moved) == []
    (warning,) = said(moved, refuses=False)
    assert warning.startswith("TokenBudget home/monthly: spec.tenantRef.name: no tenant owns the namespace home")


def test_a_namespace_that_does_not_exist_is_a_warning() -> None:
    new = tenant("typing", "top", names=("hoem", "a", "b", "c"))
    assert said(new) == []
    assert said(new, refuses=False) == [
        "Tenant typing: spec.namespaces.names: there is no namespace hoem, a, b and 1 more; "
        "see that the name is right; the tenant owns a namespace as soon as it exists"
    ]


def test_a_level_above_that_of_the_parent_is_a_warning_to_either() -> None:
    """W2: department, team and project of a request are its tenant's ancestors by level."""
    says = (
        "Tenant child: spec.level: it is the level Organization, and the tenant mine above it is the lower level Team; "
        "correct the level of one of them, or parentRef; the limits of both hold in any case"
    )
    assert said(tenant("child", "mine", level="Organization"), refuses=False) == [says]
    child = tenant("child", "mine", level="Team")
    (problem,) = said(tenant("mine", "top", names=("home",), level="Project"), child, refuses=False)
    assert problem.startswith("Tenant child: spec.level: it is the level Team, and the tenant mine above it is")


def test_what_was_odd_before_is_told_once() -> None:
    odd = tenant("child", "mine", names=("gone",), level="Organization")
    again = tenant("child", "mine", names=("gone",), level="Organization", displayName="A child")
    assert said(again, odd, refuses=False) == []


def test_a_change_is_not_blamed_for_what_was_wrong_before() -> None:
    orphan = tenant("orphan", "gone")
    renamed = tenant("orphan", "gone", displayName="Orphan")
    assert said(renamed, orphan) == []
    assert said(renamed, orphan, refuses=False) == [
        "Tenant orphan: spec.parentRef.name: there is no Tenant gone; create the Tenant gone, or name another parent"
    ]
    assert said(tenant("orphan", "away"), orphan) != []


def test_removing_a_tenant_tells_whom_it_leaves_behind() -> None:
    told = [str(problem) for problem in check_removal(ref("Tenant", "mine"), Resources.of(FAMILY), SPACES)]
    assert [line.split(";")[0] for line in told] == [
        "TokenBudget home/monthly: spec.tenantRef.name: there is no Tenant mine"
    ]
