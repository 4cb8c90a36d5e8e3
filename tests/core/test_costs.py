"""Costs taken apart by the unit prices that stand with a usage."""

from decimal import ROUND_HALF_UP, Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.costs import cost_parts, dollars
from tollkeeper.prices import Price
from tollkeeper.usage import BUCKETS, Buckets

PRICES = st.decimals("0", "99999", places=12)


@given(
    st.dictionaries(st.sampled_from(BUCKETS), PRICES),
    PRICES,
    st.dictionaries(st.sampled_from(BUCKETS), st.integers(0, 2**32)),
)
def test_m2_the_parts_of_a_cost_add_up_to_it_when_their_sum_is_rounded_once(
    per_million: dict[str, Decimal], per_request: Decimal, counts: dict[str, int]
) -> None:
    buckets = Buckets(**counts)
    price = Price("p", "m", "test", "1", per_million, per_request)
    parts = cost_parts(buckets.nonzero(), price.unit_prices(buckets))
    with localcontext(prec=60):
        total = sum((part.cost for part in parts), Decimal(0)) * 10**9
        assert int(total.to_integral_value(ROUND_HALF_UP)) == price.cost(buckets)
    assert {part.name: part.count for part in parts if part.is_of_tokens} == buckets.nonzero()


def test_a_part_is_exact_below_a_nano_dollar() -> None:
    (part,) = cost_parts({"input": 1}, {"input": "0.0000001"})
    assert dollars(part.cost) == "0.0000000000001"


def test_a_usage_without_unit_prices_has_no_parts() -> None:
    assert cost_parts({"input": 5}, {}) == ()


@pytest.mark.parametrize(
    ("exact", "written"),
    [("0", "0.00"), ("1E+2", "100.00"), ("1.5", "1.50"), ("0.1250", "0.125"), ("1E-7", "0.0000001")],
)
def test_dollars_have_two_decimals_and_no_zeros_beyond(exact: str, written: str) -> None:
    """M1."""
    assert dollars(Decimal(exact)) == written
