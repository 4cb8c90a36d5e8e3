"""Rules M2 to M6 and B9, each by its name: what a request counts for, and under which account."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.test_accounts import budget
from tollkeeper.amounts import Unit, parse_quantity
from tollkeeper.errors import InvalidValue
from tollkeeper.limits import NO_KEY, Anonymous, Dimension, Limit, Target
from tollkeeper.prices import PriceEntry, PriceList
from tollkeeper.usage import BUCKETS, Buckets, Caller

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
counts = st.integers(0, 10**6)
all_buckets = st.builds(Buckets, **dict.fromkeys(BUCKETS, counts))
rates = st.decimals("0.001", "200", places=3)


def target(user: str | None = None) -> Target:
    return Target(Caller("team", user=user), "openai", "gpt-5")


@given(counts, counts, rates, rates)
def test_m2_a_cost_is_exact_over_all_buckets_and_rounded_once_half_up(
    fresh: int, output: int, price_in: Decimal, price_out: Decimal
) -> None:
    entry = PriceEntry("mine", "model", {"input": price_in, "output": price_out}, version="1")
    price = PriceList().with_books([entry]).find("mine", "model", NOW)
    assert price is not None
    exact = fresh * price_in * 1000 + output * price_out * 1000  # dollars a million tokens, in nano-dollars a token
    assert price.cost(Buckets(input=fresh, output=output)) == int(exact.to_integral_value(ROUND_HALF_UP))


@given(all_buckets)
def test_m3_buckets_are_disjoint_so_every_token_counts_once_on_one_side(one: Buckets) -> None:
    assert one.total == one.input_tokens + one.output_tokens == sum(one.nonzero().values())
    assert BUCKETS == (
        "input", "cache_read", "cache_write_5m", "cache_write_1h", "output", "reasoning",
        "audio_input", "audio_output", "image",
    )  # fmt: skip


@pytest.mark.parametrize(("written", "count"), [("1.5M", 1_500_000), ("2k", 2000), ("3G", 3 * 10**9), (7, 7)])
def test_m4_quantities_are_whole_numbers_or_powers_of_ten(written: str | int, count: int) -> None:
    assert parse_quantity(written) == count


@pytest.mark.parametrize("written", ["1Ki", "2Mi", "1.5", "0.0001k", "k", "-1"])
def test_m4_what_is_not_whole_or_binary_is_refused(written: str) -> None:
    with pytest.raises(InvalidValue):
        parse_quantity(written)


def test_m5_weights_are_one_where_none_is_written() -> None:
    limit = budget(unit=Unit.WEIGHTED_TOKENS, weights={"output": Decimal("4.5"), "cache_read": Decimal("0.1")})
    assert limit.amount_of(Buckets(input=10, cache_read=10, output=2), None) == 10 + 1 + 9


def test_m6_an_unknown_model_is_unpriced_and_counts_as_tokens_and_not_as_money() -> None:
    assert PriceList().find("nobody", "no-such-model", NOW) is None
    used = Buckets(input=100, output=20)
    assert budget().amount_of(used, None) == 0
    assert budget(unit=Unit.TOKENS).amount_of(used, None) == 120


def per_user(anonymous: Anonymous) -> Limit:
    return replace(budget(), per=(Dimension.USER,), anonymous=anonymous)


def test_b9_callers_without_a_key_share_one_account_or_are_refused() -> None:
    share, refuse = per_user(Anonymous.SHARE), per_user(Anonymous.REFUSE)
    assert [share.key_of(target(user), "team") for user in ("ada", None)] == [("ada",), (NO_KEY,)]
    assert [refuse.key_of(target(user), "team") for user in ("ada", None)] == [("ada",), None]
