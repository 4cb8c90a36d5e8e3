"""Which requests a limit counts: globs by dimension (R9), on every level of the tree at once (R6)."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.policy_builders import budget, namespaces, tenant
from tollkeeper.compile import compile_policy
from tollkeeper.limits import Dimension, Match, Target
from tollkeeper.prices import PriceList
from tollkeeper.references import Resources
from tollkeeper.usage import Caller

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
VALUES: dict[str, str] = {
    "user": "alice",
    "feature": "search",
    "assistant": "summariser",
    "session": "s-1",
    "api_key": "k-1",
    "namespace": "home",
    "workload": "web",
}
ASKED = Target(Caller("mine", **VALUES), "openai", "gpt-5-mini")
OF_EACH = {dimension: ASKED.value_of(dimension) or "" for dimension in Dimension}


@pytest.mark.parametrize("dimension", list(Dimension))
def test_a_limit_matches_in_each_dimension_by_name_and_by_glob(dimension: Dimension) -> None:
    """R9."""
    value = OF_EACH[dimension]
    assert value
    for glob, fits in ((value, True), (value[:2] + "*", True), ("*", True), ("x" + value, False), (value[:-1], False)):
        assert Match(((dimension, (glob,)),)).takes(ASKED) is fits
        assert Match(((dimension, ("no-such-thing", glob)),)).takes(ASKED) is fits, "one glob that fits is enough"


@given(st.sets(st.sampled_from(list(Dimension))), st.sets(st.sampled_from(list(Dimension))))
def test_every_dimension_that_is_given_must_fit(fitting: set[Dimension], others: set[Dimension]) -> None:
    """R9."""
    fit, not_fit = [
        [(one, (glob or OF_EACH[one],)) for one in ones] for ones, glob in ((fitting, ""), (others, "none"))
    ]
    assert Match((*fit, *not_fit)).takes(ASKED) is not bool(others)


@pytest.mark.parametrize("dimension", [one for one in Dimension if one.name.lower() in VALUES])
def test_a_request_without_a_value_is_matched_by_no_glob_at_all(dimension: Dimension) -> None:
    """R9."""
    nobody = Target(Caller("mine"), "openai", "gpt-5-mini")
    assert not Match(((dimension, ("*",)),)).takes(nobody)


def test_a_request_counts_on_every_level_above_its_tenant_and_on_none_beside_or_below() -> None:
    """R6."""
    family = [tenant("top", names=("roof",)), tenant("mine", "top", names=("home",)), tenant("below", "mine")]
    beside = tenant("beside", "top", names=("yard",))
    limits = [
        budget("org", "roof", of="top"),
        budget("team", "home", of="mine"),
        budget("low", "home", of="below"),
        budget("alien", "yard", of="beside"),
    ]
    everything = Resources.of((*family, beside, *limits))
    compiled = compile_policy(everything, namespaces("roof", "home", "yard"), (), PriceList(), 1)
    assert compiled.problems == ()
    bound, refused = compiled.policy.accounts_for(ASKED, NOW)
    assert {one.limit.ref.name for one in bound} == {"team", "org"}
    assert refused == ()
