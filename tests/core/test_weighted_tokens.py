"""Weighted tokens are rounded up once, over all buckets (M5)."""

from decimal import Decimal
from fractions import Fraction
from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.limits import weighted
from tollkeeper.usage import Buckets

WEIGHTS = st.decimals(0, 10, places=3)


@given(st.integers(0, 10**9), st.integers(0, 10**9), WEIGHTS, WEIGHTS)
def test_the_sum_is_rounded_up_to_a_whole_token(fresh: int, output: int, weigh_in: Decimal, weigh_out: Decimal) -> None:
    exact = fresh * Fraction(weigh_in) + output * Fraction(weigh_out)
    assert weighted(Buckets(input=fresh, output=output), {"input": weigh_in, "output": weigh_out}) == ceil(exact)
