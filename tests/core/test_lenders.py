"""Who lends to whom: the nearest ancestor's budget that lends, for the same requests, in the same unit."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.policy_builders import budget, codes, namespaces, tenant
from tollkeeper.compile import Compiled, compile_policy
from tollkeeper.lenders import covers
from tollkeeper.limits import Dimension, LimitRef, Match, Target
from tollkeeper.prices import PriceList
from tollkeeper.references import Resources
from tollkeeper.resources import AnyResource
from tollkeeper.usage import Caller

FAMILY = (
    tenant("top", names=("roof",)),
    tenant("middle", "top", names=("floor",)),
    tenant("low", "middle", names=("cellar",), plan="free"),
    tenant("stranger", names=("elsewhere",)),
)
SPACES = namespaces("roof", "floor", "cellar", "elsewhere", "tollkeeper-system")


def compiled(*resources: AnyResource) -> Compiled:
    return compile_policy(Resources.of((*FAMILY, *resources)), SPACES, (), PriceList(), 1)


def lender(name: str = "lender", namespace: str = "roof", of: str = "top", **spec: Any) -> AnyResource:
    return budget(name, namespace, of, **({"lending": {"limit": "100.00"}} | spec))


def borrower(**spec: Any) -> AnyResource:
    return budget("borrower", "cellar", "low", **({"borrowing": {"limit": "20.00"}} | spec))


def lenders_in(result: Compiled) -> dict[str, str]:
    limit = result.policy.limit(LimitRef("TokenBudget", "cellar", "borrower"))
    assert limit is not None
    return {name: f"{ref.namespace}/{ref.name}" for name, ref in limit.lenders.items()}


def test_the_nearest_tenant_above_that_lends_is_the_lender() -> None:
    """R6."""
    both = compiled(lender(), lender(namespace="floor", of="middle"), borrower())
    assert lenders_in(both) == {"low": "floor/lender"}
    assert lenders_in(compiled(lender(), budget("none", "floor", "middle"), borrower())) == {"low": "roof/lender"}


def test_of_several_budgets_of_one_tenant_the_first_by_namespace_and_name_lends() -> None:
    system = lender("zebra", "tollkeeper-system", "middle")
    several = compiled(lender("b", "floor", "middle"), lender("a", "floor", "middle"), system, borrower())
    assert lenders_in(several) == {"low": "floor/a"}


@pytest.mark.parametrize(
    "unfit",
    [
        lender(namespace="elsewhere", of="stranger"),
        lender(namespace="cellar", of="low"),
        lender(unit="Tokens", allocation=5, lending={"limit": 5}),
        lender(per=["User"]),
        lender(match={"models": ["gpt-5"]}),
        lender(period={"every": "Day"}),
        lender(lending={"limit": "0"}),
        budget("lender", "roof", "top"),
    ],
    ids=["a stranger", "itself", "another unit", "per user", "other requests", "shorter", "nothing", "no lending"],
)
def test_who_cannot_lend_is_no_lender_and_the_borrower_is_told(unfit: AnyResource) -> None:
    result = compiled(unfit, borrower())
    assert lenders_in(result) == {}
    assert ("borrower", "NoLender") in codes(result.problems)
    assert not any(problem.refuses for problem in result.problems)


def test_what_has_no_effect_is_told() -> None:
    keyed = lender(per=["User"])
    assert codes(compiled(keyed).problems) == {("lender", "CannotLend")}
    soft = borrower(enforcement="Soft")
    assert codes(compiled(lender(), soft).problems) == {("borrower", "NothingToBorrow")}
    assert compiled(lender(), borrower()).problems == ()


def test_tenants_of_a_selector_each_have_their_own_lender() -> None:
    made = budget("borrower", "tollkeeper-system", None, tenantSelector={"matchLabels": {"plan": "free"}},
                  borrowing={"limit": "5.00"})  # fmt: skip
    result = compiled(lender(namespace="floor", of="middle"), made)
    limit = result.policy.limit(LimitRef("TokenBudget", "tollkeeper-system", "borrower"))
    assert limit is not None
    assert limit.lender_for(("low",)) == LimitRef("TokenBudget", "floor", "lender")
    assert limit.lender_for(("stranger",)) is None


globs = st.lists(st.sampled_from(["*", "gpt-5*", "gpt-5", "gpt-*", "gpt-?", "g[p]t-5"]), max_size=2).map(tuple)
matches = st.lists(
    st.tuples(st.sampled_from([Dimension.MODEL, Dimension.USER]), globs), max_size=2, unique_by=lambda pair: pair[0]
).map(lambda pairs: Match(tuple(pairs)))


@given(
    matches, matches, st.sampled_from(["gpt-5", "gpt-5-mini", "gpt-4", "o3"]), st.sampled_from([None, "gpt-5", "ada"])
)
def test_a_match_that_covers_another_takes_whatever_that_one_takes(
    wide: Match, narrow: Match, model: str, user: str | None
) -> None:
    target = Target(Caller("low", user=user), "openai", model)
    if covers(wide, narrow) and narrow.takes(target):
        assert wide.takes(target)


def test_a_match_covers_itself_and_narrower_ones() -> None:
    five, all_models = (Match(((Dimension.MODEL, (glob,)),)) for glob in ("gpt-5*", "*"))
    for wide, narrow, is_covered in [(five, five, True), (all_models, five, True), (Match(), five, True), (five, Match(), False),
                                     (all_models, Match(), True)]:  # fmt: skip
        assert covers(wide, narrow) is is_covered
