"""Amounts: what is written is what is counted, to the nano-dollar and the token."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.amounts import (
    LARGEST,
    Amount,
    TooLarge,
    Unit,
    format_amount,
    format_money,
    parse_amount,
    parse_money,
    parse_quantity,
    parse_stated,
    round_half_up,
)
from tollkeeper.errors import InvalidValue

nanodollars = st.integers(-LARGEST, LARGEST)
counts = st.integers(0, LARGEST)


@given(nanodollars)
def test_money_that_is_shown_is_read_back_exactly(amount: int) -> None:
    assert parse_money(format_money(amount)) == amount


@given(nanodollars)
def test_money_is_shown_with_two_to_nine_decimals_and_no_needless_zero(amount: int) -> None:
    """M1: nothing is rounded away."""
    decimals = format_money(amount).partition(".")[2]
    assert 2 <= len(decimals) <= 9
    assert len(decimals) == 2 or not decimals.endswith("0")


@given(nanodollars)
def test_money_is_read_as_the_decimal_that_it_is(amount: int) -> None:
    text = str(Decimal(amount).scaleb(-9))
    if "E" not in text:
        assert parse_money(text) == amount


@given(counts)
def test_a_count_is_the_same_as_a_number_and_as_text(count: int) -> None:
    assert parse_quantity(count) == parse_quantity(str(count)) == count


@given(st.integers(0, 10**6), st.sampled_from([("k", 10**3), ("M", 10**6), ("G", 10**9)]), st.integers(0, 3))
def test_suffixes_are_powers_of_ten(whole: int, suffix: tuple[str, int], decimals: int) -> None:
    """M4."""
    letter, power = suffix
    text = f"{Decimal(whole).scaleb(-decimals):f}{letter}"
    assert parse_quantity(text) == whole * power // 10**decimals


@pytest.mark.parametrize(
    "text", ["2Mi", "2Ki", "1.5", "0.0005k", "-1", "1e3", "", "M", "01", "1 M", "1M\n", "٣", ".5k", "1_000"]
)
def test_what_is_not_a_whole_count_is_refused(text: str) -> None:
    """M4: `Ki` and `Mi` too."""
    with pytest.raises(InvalidValue):
        parse_quantity(text)


@pytest.mark.parametrize(
    "text", ["", "1.", ".5", "1,00", "1e3", "$1", "0.0000000001", "00.1", "+1", "1\n", "--1", "NaN"]
)
def test_what_is_not_money_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="is not an amount of money"):
        parse_money(text)


@pytest.mark.parametrize("value", [True, False, -1])
def test_booleans_and_negative_counts_are_refused(value: int) -> None:
    with pytest.raises(InvalidValue, match="is not a quantity"):
        parse_quantity(value)


def test_amounts_beyond_64_bits_are_refused() -> None:
    with pytest.raises(InvalidValue, match="too large"):
        parse_quantity(LARGEST + 1)
    with pytest.raises(InvalidValue, match=r"too large: the largest amount is 9223372036\.854775807 dollars"):
        parse_money("9223372036.854775808")


def test_the_largest_amount_of_all_is_read() -> None:
    assert parse_money("9223372036.854775807") == LARGEST
    assert parse_quantity("9223372036854775807") == LARGEST


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        ("1000000000", Unit.USD, "the largest amount is 999999999.999999999 dollars; write at most that"),
        ("-1000000000", Unit.USD, "the largest amount is 999999999.999999999 dollars; write at most that"),
        ("1000000G", Unit.TOKENS, "the largest amount is 999999999999999 tokens; write at most that"),
        (10**15, Unit.REQUESTS, "the largest amount is 999999999999999 requests; write at most that"),
    ],
)
def test_what_is_more_than_a_resource_may_state_is_told_with_the_most(value: int | str, unit: Unit, words: str) -> None:
    with pytest.raises(TooLarge, match=words):
        parse_stated(value, unit)


@given(nanodollars, nanodollars)
def test_amounts_of_one_unit_add_subtract_and_compare_like_integers(one: int, other: int) -> None:
    left, right = Amount(one, Unit.USD), Amount(other, Unit.USD)
    assert (left + right).value == one + other
    assert (left - right).value == one - other
    assert (-left).value == -one
    assert (left < right) == (one < other)
    assert (left <= right) == (one <= other)


def test_amounts_of_different_units_never_meet() -> None:
    money, tokens = Amount(1, Unit.USD), Amount(1, Unit.TOKENS)
    with pytest.raises(TypeError, match="cannot be combined"):
        _ = money + tokens
    with pytest.raises(TypeError, match="cannot be combined"):
        _ = money < tokens
    assert money != tokens


@given(st.integers(-(10**15), 10**15), st.sampled_from(list(Unit)))
def test_an_amount_of_any_unit_is_read_back_from_what_is_shown(value: int, unit: Unit) -> None:
    assert parse_amount(format_amount(value, unit), unit) == value
    assert str(Amount(value, unit)) == format_amount(value, unit)


@pytest.mark.parametrize("value", [25, -1, True, False])
def test_a_number_is_no_money_but_for_nothing(value: int) -> None:
    assert parse_amount(0, Unit.USD) == 0
    with pytest.raises(InvalidValue, match=f"{value} is not an amount of money: write a quoted decimal string"):
        parse_amount(value, Unit.USD)


def test_tokens_may_be_negative() -> None:
    assert parse_amount(-25, Unit.TOKENS) == parse_amount("-25", Unit.TOKENS) == -25
    assert parse_amount("-1.5k", Unit.TOKENS) == -1500


@pytest.mark.parametrize(("value", "rounded"), [("0.5", 1), ("1.5", 2), ("2.4999999999", 2), ("-0.5", -1), ("0", 0)])
def test_a_cost_is_rounded_once_and_half_up(value: str, rounded: int) -> None:
    """M2."""
    assert round_half_up(Decimal(value)) == rounded


def test_rounding_is_exact_far_beyond_a_doubles_precision() -> None:
    assert round_half_up(Decimal(LARGEST) + Decimal("0.5")) == LARGEST + 1


UNSHOWABLE = 16**6000
"""A number that Python writes no decimal digits of."""


@pytest.mark.parametrize("unit", [Unit.USD, Unit.TOKENS])
@pytest.mark.parametrize("text", ["9" * 5000, "-" + "9" * 5000])
def test_more_digits_than_python_reads_are_too_large(unit: Unit, text: str) -> None:
    with pytest.raises(TooLarge, match=r"^-?9{39,40}… is too large: the largest amount is"):
        parse_amount(text, unit)


@pytest.mark.parametrize("unit", [Unit.USD, Unit.TOKENS])
@pytest.mark.parametrize(
    "value",
    ["9" * 5000 + "x", "1." + "9" * 5000 + "k", UNSHOWABLE, -UNSHOWABLE],
    ids=["text", "decimals", "above", "below"],
)
def test_however_long_a_value_is_the_message_about_it_is_short(unit: Unit, value: int | str) -> None:
    with pytest.raises(InvalidValue) as refused:
        parse_amount(value, unit)
    assert len(str(refused.value)) < 250


def test_a_sentence_calls_a_unit_by_words() -> None:
    assert [unit.words for unit in Unit] == [
        "USD", "tokens", "input tokens", "output tokens", "weighted tokens", "requests",
    ]  # fmt: skip
