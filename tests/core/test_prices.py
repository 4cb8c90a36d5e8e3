"""Prices: exact to the nano-dollar, equal to the list's own arithmetic, never below a bound."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any

import pytest
from genai_prices.data import providers
from genai_prices.types import Usage
from hypothesis import given, settings
from hypothesis import strategies as st

from tollkeeper.amounts import LARGEST
from tollkeeper.errors import InvalidValue
from tollkeeper.price_data import bundled_quote
from tollkeeper.prices import Price, PriceEntry, PriceList, Tier, ToolPrice
from tollkeeper.usage import BUCKETS, Buckets

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
MODELS = [(provider, model) for provider in providers for model in provider.models]

counts = st.one_of(st.just(0), st.integers(0, 50), st.integers(0, 400_000))
buckets_of = st.builds(Buckets, **dict.fromkeys(BUCKETS, counts))
instants = st.integers(0, 4 * 366 * 24 * 60).map(
    lambda minutes: datetime(2023, 6, 1, tzinfo=UTC) + timedelta(minutes=minutes)
)
dollars = st.decimals(0, 10_000, places=7, allow_nan=False)
TIERS = st.lists(st.tuples(st.integers(0, 300_000), st.dictionaries(st.sampled_from(BUCKETS), dollars)), max_size=3)


def priced(**per_million: str) -> Price:
    return Price("p", "m", "test", "1", {key: Decimal(value) for key, value in per_million.items()})


def entry(model: str, price: str, since: datetime | None = None, provider: str = "openai") -> PriceEntry:
    return PriceEntry(provider, model, {"input": Decimal(price)}, effective_from=since)


def input_price(prices: PriceList, model: str, at: datetime = NOW) -> Decimal | None:
    found = prices.find("openai", model, at)
    return found.per_million["input"] if found else None


def as_the_list_counts(buckets: Buckets) -> Usage:
    """The same tokens in the list's nested units; what two kinds share is said to be nothing."""
    values: dict[str, int] = {
        "input_tokens": buckets.input_tokens,
        "output_tokens": buckets.output_tokens,
        "cache_read_tokens": buckets.cache_read,
        "cache_write_tokens": buckets.cache_write_5m + buckets.cache_write_1h,
        "cache_write_5m_tokens": buckets.cache_write_5m,
        "cache_write_1h_tokens": buckets.cache_write_1h,
        "input_audio_tokens": buckets.audio_input,
        "output_audio_tokens": buckets.audio_output,
        "input_image_tokens": buckets.image,
        "output_reasoning_tokens": buckets.reasoning,
    }
    shared = dict.fromkeys(("cache_audio_read_tokens", "cache_image_read_tokens", "output_audio_reasoning_tokens"), 0)
    return Usage(**values, **shared)


@settings(max_examples=500)
@given(st.sampled_from(MODELS), buckets_of, instants)
def test_our_cost_is_the_lists_own_cost_rounded_half_up(known: Any, buckets: Buckets, at: datetime) -> None:
    provider, model = known
    reference = model.id
    price = PriceList.bundled().find(provider.id, reference, at)
    if price is None:
        return
    found = provider.find_model(reference, all_providers=providers)
    with localcontext(prec=60):
        theirs = found.get_prices(at).calc_price(as_the_list_counts(buckets))["total_price"] * 10**9
        assert price.cost(buckets) == int(theirs.to_integral_value(rounding=ROUND_HALF_UP))


def test_only_models_that_are_not_billed_by_tokens_alone_are_unpriced() -> None:
    for provider, model in MODELS:
        found = provider.find_model(model.id, all_providers=providers)
        units = {unit for unit, value in vars(found.get_prices(NOW)).items() if value is not None} if found else set()
        priced_by = {unit for unit in units if unit.endswith("_mtok")}
        others = {unit for unit in units - priced_by if not unit.endswith(("_searches_kcount", "requests_kcount"))}
        expected = bool(priced_by or "requests_kcount" in units) and not others
        assert (bundled_quote(provider.id, model.id, NOW).price is not None) == expected, model.id


@given(
    st.dictionaries(st.sampled_from(BUCKETS), dollars),
    TIERS,
    dollars,
    buckets_of,
    st.integers(0, 10**6),
    st.integers(0, 10**6),
)
def test_no_request_costs_more_than_its_bound(
    per_million: dict[str, Decimal],
    tiers: list[tuple[int, dict[str, Decimal]]],
    per_request: Decimal,
    buckets: Buckets,
    more_in: int,
    more_out: int,
) -> None:
    price = Price("p", "m", "test", "1", per_million, per_request, tuple(Tier(*tier) for tier in tiers))
    bound = price.bound(buckets.input_tokens + more_in, buckets.output_tokens + more_out)
    assert price.cost(buckets) <= bound


@given(buckets_of, buckets_of)
def test_without_tiers_a_cost_is_the_sum_of_its_parts_within_the_rounding(one: Buckets, other: Buckets) -> None:
    price = priced(input="1.2345678", output="9.8765432", cache_read="0.1234567")
    assert abs(price.cost(one + other) - price.cost(one) - price.cost(other)) <= 1


@pytest.mark.parametrize(
    ("tokens", "nanodollars"),
    [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)],
)
def test_a_cost_is_rounded_once_half_up(tokens: int, nanodollars: int) -> None:
    assert priced(input="0.0005").cost(Buckets(input=tokens)) == nanodollars


def test_a_cost_stays_exact_where_decimals_of_28_digits_would_not() -> None:
    price = Price("p", "m", "test", "1", {"input": Decimal("1.000000000000000001")})
    assert price.cost(Buckets(input=10**18)) == 10**21 + 1000


def test_a_bucket_without_a_price_costs_what_its_kind_costs() -> None:
    price = priced(input="1", output="10", cache_write_5m="2")
    assert price.cost(Buckets(cache_read=1)) == 1000
    assert price.cost(Buckets(cache_write_1h=1)) == 2000
    assert price.cost(Buckets(reasoning=1)) == 10_000


def test_a_long_context_is_priced_as_a_whole_and_only_beyond_its_threshold() -> None:
    price = Price("p", "m", "t", "1", {"input": Decimal(1)}, tiers=(Tier(200, {"input": Decimal(2)}),))
    assert price.cost(Buckets(input=200)) == 200_000
    assert price.cost(Buckets(input=201)) == 402_000
    assert price.bound(201, 0) == 402_000


def test_the_price_of_a_request_is_added_once() -> None:
    price = Price("p", "m", "t", "1", {"input": Decimal(1)}, Decimal("0.01"))
    assert price.cost(Buckets(input=1)) == 10_001_000
    assert price.cost(Buckets()) == price.bound(0, 0) == 10_000_000


@pytest.mark.parametrize("text", ["-1", "NaN", "Infinity", "1e-19", "100000"])
def test_what_is_not_a_price_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="which is not a price"):
        priced(input=text)


@given(st.dictionaries(st.sampled_from(BUCKETS), dollars), TIERS, dollars, buckets_of)
def test_m2_a_cost_is_computed_again_from_the_unit_prices_that_stand_beside_it(
    per_million: dict[str, Decimal], tiers: list[tuple[int, dict[str, Decimal]]], per_request: Decimal, buckets: Buckets
) -> None:
    price = Price("p", "m", "test", "1", per_million, per_request, tuple(Tier(*tier) for tier in tiers))
    units = {name: Decimal(text) for name, text in price.unit_prices(buckets).items()}
    assert set(units) == set(buckets.nonzero()) | ({"request"} if per_request else set())
    with localcontext(prec=60):
        nano = sum((units[name] * 1000 * count for name, count in buckets.nonzero().items()), Decimal(0))
        exact = nano + units.get("request", Decimal(0)) * 10**9
        assert price.cost(buckets) == int(exact.to_integral_value(ROUND_HALF_UP))


def test_no_price_times_the_most_tokens_of_an_answer_comes_near_what_64_bits_hold() -> None:
    dearest = {bucket: Decimal("99999.999999999") for bucket in BUCKETS}
    price = Price("p", "m", "test", "1", dearest, per_request=Decimal("99999.999999999"))
    assert price.cost(Buckets(input=2**32, output=2**32)) < LARGEST // 10
    assert price.bound(2**32, 2**32) < LARGEST // 10


def test_an_unknown_bucket_is_refused_by_name() -> None:
    with pytest.raises(InvalidValue, match="cacheRead"):
        priced(cacheRead="1")


def test_a_book_stands_above_the_bundled_list() -> None:
    """R10."""
    assert input_price(PriceList.bundled(), "gpt-4o") == Decimal("2.5")
    assert input_price(PriceList.bundled().with_books([entry("gpt-4o", "7")]), "gpt-4o") == 7


def test_an_exact_name_stands_above_a_glob_even_when_it_is_older() -> None:
    books = [entry("in-house*", "1", NOW), entry("in-house-1", "2", NOW - timedelta(days=9))]
    prices = PriceList.bundled().with_books(books)
    assert input_price(prices, "in-house-1") == 2
    assert input_price(prices, "in-house-2") == 1


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=6, unique=True), st.lists(st.integers(-60, 60), min_size=1))
def test_the_newest_entry_that_applies_wins_in_whatever_order_one_asks(since: list[int], asked: list[int]) -> None:
    books = [entry("m", str(day + 100), NOW + timedelta(days=day)) for day in since]
    prices = PriceList().with_books(books)
    for day in asked:
        expected = max((start for start in since if start <= day), default=None)
        assert input_price(prices, "m", NOW + timedelta(days=day)) == (None if expected is None else expected + 100)


@given(
    st.sampled_from([known for known in MODELS if isinstance(known[1].prices, list)]), st.lists(instants, max_size=9)
)
def test_what_is_remembered_is_what_would_be_found_anew(known: Any, asked: list[datetime]) -> None:
    provider, model = known
    prices = PriceList.bundled().with_books([])
    for at in asked:
        assert prices.find(provider.id, model.id, at) == bundled_quote(provider.id, model.id, at).price


def test_an_unknown_model_is_unpriced_unless_there_is_a_fallback() -> None:
    """M6."""
    fallback = priced(input="100")
    assert PriceList.bundled().find("openai", "no-such-model", NOW) is None
    assert PriceList.bundled().find("no-such-provider", "gpt-4o", NOW) is None
    assert PriceList.bundled().with_books([], fallback=fallback).find("openai", "no-such-model", NOW) is fallback


def test_many_invented_models_do_not_fill_the_memory() -> None:
    prices = PriceList.bundled().with_books([])
    for number in range(9000):
        prices.find("nobody", f"invented-{number}", NOW)
    assert len(prices._known) <= 4096


def test_a_context_window_comes_from_the_book_or_the_list() -> None:
    own = PriceEntry("vllm", "llama*", {"input": Decimal(1)}, context_window=8192)
    prices = PriceList.bundled().with_books([own])
    assert prices.context_window("vllm", "llama-4") == 8192
    assert prices.context_window("openai", "gpt-4o") == 128_000
    assert prices.context_window("vllm", "other") is None


def test_a_tool_is_priced_by_the_call() -> None:
    tools = [ToolPrice("draw", Decimal("0.04")), ToolPrice("draw", Decimal("0.05"), NOW)]
    prices = PriceList().with_books([], tools)
    before, after = prices.tool("draw", NOW - timedelta(days=1)), prices.tool("draw", NOW)
    assert before is not None
    assert after is not None
    assert (before.cost(3), after.cost(1)) == (120_000_000, 50_000_000)
    assert prices.tool("sing", NOW) is None


def test_a_label_names_the_price_and_its_version() -> None:
    found = PriceList.bundled().with_books([entry("gpt-4o", "7")]).find("openai", "gpt-4o", NOW)
    assert found is not None
    assert found.label == "PriceBook/default/openai/gpt-4o@1"


def test_the_large_list_is_loaded_only_when_asked_for() -> None:
    program = "import sys, tollkeeper.prices; sys.exit('genai_prices' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
