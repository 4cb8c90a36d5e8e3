from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tollkeeper_provider import Buckets, PricesError
from tollkeeper_provider.prices import PriceTable, read_prices

NOW = datetime(2026, 11, 21, tzinfo=UTC)
TOKENS = st.integers(0, 10**9)

PRICES = """
models:
- {model: "house-*", perMillion: {input: "1", output: "2"}}
- {model: "house-large-*", perMillion: {input: "3", output: "4"}}
- {model: house-large-1, perMillion: {input: "5", output: "6"}}
- {model: house-large-1, effectiveFrom: 2026-06-01T00:00:00Z, perMillion: {input: "7", output: "8"}}
- {model: house-large-1, effectiveFrom: 2027-01-01T00:00:00Z, perMillion: {input: "9", output: "10"}}
- {model: "house-mini", provider: "open*", contextWindow: 1000, perMillion: {input: "13", output: "14"}}
- {model: "*", provider: anthropic, perMillion: {input: "11", output: "12"}}
- model: full
  perRequest: "0.000000001"
  perMillion: {input: "1", cacheRead: "0.1", cacheWrite: "1.25", cacheWrite1h: "2", output: "8", reasoning: "9",
               audioInput: "20", audioOutput: "30", image: "40"}
"""


FULL = {  # dollars a million tokens of the model `full`
    "input": "1",
    "cache_read": "0.1",
    "cache_write_5m": "1.25",
    "cache_write_1h": "2",
    "output": "8",
    "reasoning": "9",
    "audio_input": "20",
    "audio_output": "30",
    "image": "40",
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> PriceTable:
    return read_prices(_written(tmp_path_factory.mktemp("prices"), PRICES))


def _written(folder: Path, text: str) -> Path:
    path = folder / "prices.yaml"
    path.write_text(text)
    return path


@settings(deadline=None)  # the first example loads the public list
@given(TOKENS, TOKENS, TOKENS, TOKENS)
def test_the_public_lists_cost_is_exact_and_rounded_half_up_once(
    fresh: int, cached: int, output: int, reasoning: int
) -> None:
    buckets = Buckets(input=fresh, cache_read=cached, output=output, reasoning=reasoning)
    # gpt-5-nano costs 0.05, 0.005 and 0.40 dollars a million tokens: 50, 5 and 400 nano-dollars a token.
    exact = 50 * fresh + 5 * cached + 400 * (output + reasoning)

    assert PriceTable().cost_nanodollars("gpt-5-nano", buckets, NOW) == exact


def test_half_a_nanodollar_is_rounded_up(tmp_path: Path) -> None:
    table = read_prices(_written(tmp_path, 'models: [{model: m, perMillion: {input: "0.0005", output: "0.0004"}}]'))

    assert table.cost_nanodollars("m", Buckets(input=1), NOW) == 1
    assert table.cost_nanodollars("m", Buckets(output=1), NOW) == 0
    assert table.cost_nanodollars("m", Buckets(output=1, input=1), NOW) == 1
    assert table.cost_nanodollars("m", Buckets(input=3), NOW) == 2


@given(st.builds(Buckets, **dict.fromkeys(FULL, TOKENS)))
def test_each_bucket_has_its_price_and_a_request_its_own(table: PriceTable, buckets: Buckets) -> None:
    exact = sum(getattr(buckets, name) * Fraction(price) * 1000 for name, price in FULL.items()) + 1

    assert table.cost_nanodollars("full", buckets, NOW) == int(exact + Fraction(1, 2))


@pytest.mark.parametrize(
    ("model", "price"),
    [("house-small", 1), ("house-large-2", 3), ("house-large-1", 7), ("house-mini", 13)],
)
def test_the_most_exact_name_and_the_latest_price_that_holds_decide(table: PriceTable, model: str, price: int) -> None:
    assert table.cost_nanodollars(model, Buckets(input=1), NOW) == price * 1000


def test_a_bucket_without_a_price_costs_what_its_parent_costs(table: PriceTable) -> None:
    assert table.cost_nanodollars("house-x", Buckets(cache_read=1, cache_write_5m=1, audio_input=1), NOW) == 3000
    assert table.cost_nanodollars("house-x", Buckets(reasoning=1, audio_output=1), NOW) == 4000


def test_a_model_that_nobody_knows_has_no_price_rather_than_none_to_pay(table: PriceTable) -> None:
    assert table.cost_nanodollars("nonesuch", Buckets(input=1), NOW) is None


def test_a_fallback_prices_what_nobody_knows_and_nothing_else(tmp_path: Path) -> None:
    fallback = 'models: []\nfallback: {perMillion: {input: "3", output: "4"}, perRequest: "0.5"}'
    table = read_prices(_written(tmp_path, fallback))

    assert table.cost_nanodollars("nonesuch", Buckets(input=1), NOW) == 500_003_000
    assert table.cost_nanodollars("gpt-5-nano", Buckets(input=1), NOW) == 50


def test_a_whole_price_book_is_read_too(tmp_path: Path) -> None:
    book = """
    kind: PriceBook
    metadata: {name: house}
    spec:
      unknownModels: Refuse
      models: [{provider: openai, model: m, perMillion: {input: "1", output: "2"}}]
      tools: [{name: image-generate, perCall: "0.04"}]
    """
    assert read_prices(_written(tmp_path, book)).cost_nanodollars("m", Buckets(input=1), NOW) == 1000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models: [", "cannot be read"),
        ("", "the file"),
        ("[]", "the file"),
        ("modles: []", "models: Field required"),
        ('models: [{model: m, perMillion: {input: "1"}}]', "models.0.perMillion.output: Field required"),
        ('models: [{model: m, perMillion: {input: "-1", output: "1"}}]', "models.0.perMillion.input"),
        ('models: [{model: m, perMillion: {input: "NaN", output: "1"}}]', "models.0.perMillion.input"),
        ('models: [{model: m, price: 1, perMillion: {input: "1", output: "1"}}]', "models.0.price"),
    ],
)
def test_a_file_that_is_no_price_table_is_refused_with_file_and_field(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(PricesError) as raised:
        read_prices(_written(tmp_path, text))
    assert said in str(raised.value)
    assert "prices.yaml" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_price_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PricesError, match=r"none\.yaml: cannot be read"):
        read_prices(tmp_path / "none.yaml")


@pytest.mark.parametrize("model", ["gpt-audio", "gpt-realtime", "gpt-image-1", "gpt-5.6"])
def test_every_bucket_that_openai_knows_can_be_priced_from_the_public_list(model: str) -> None:
    every = Buckets(
        input=1, cache_read=1, cache_write_5m=1, output=1, reasoning=1, audio_input=1, audio_output=1, image=1
    )
    cost = PriceTable().cost_nanodollars(model, every, NOW)
    assert cost is not None
    assert cost > 0
