"""What people read: exact to the last digit, on the limit's own clock."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.amounts import LARGEST, Unit, parse_money
from tollkeeper_console import display
from tollkeeper_console.pages import Address, Pager

amounts = st.integers(-LARGEST, LARGEST)


@given(amounts)
def test_money_is_shown_to_its_last_digit(value: int) -> None:
    text = display.amount(value, Unit.USD)
    assert parse_money(text.replace(display.MINUS, "-").replace("$", "").replace(",", "")) == value


@given(amounts)
def test_counts_are_shown_in_full(value: int) -> None:
    assert int(display.amount(value, Unit.TOKENS).replace(display.MINUS, "-").replace(",", "")) == value


@pytest.mark.parametrize(
    ("value", "main", "rest"),
    [(0, "$0.00", ""), (1_234_567_890_000, "$1,234.56", "789"), (-120_000_000, "\N{MINUS SIGN}$0.12", "")],
)
def test_cents_stand_apart_from_what_makes_them_exact(value: int, main: str, rest: str) -> None:
    assert display.figure(value, Unit.USD) == (main, rest)


@given(st.integers(10**7, 10**15))
def test_an_estimate_is_whole_cents_near_the_value(value: int) -> None:
    shown = parse_money(display.rough(value, Unit.USD).replace("$", "").replace(",", ""))
    assert shown % 10**7 == 0
    assert abs(shown - value) <= 5 * 10**6 + 1


def test_times_are_on_the_limits_clock() -> None:
    when = datetime(2026, 11, 30, 23, 0, tzinfo=UTC)
    assert display.minute(when, "Europe/Madrid") == "1 Dec 2026, 00:00"
    assert display.wall(when, "Europe/Madrid") == "2026-12-01T00:00:00"
    assert display.machine(when) == "2026-11-30T23:00:00.000Z"


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (timedelta(days=9, hours=4, minutes=9), "9 d 4 h"),
        (timedelta(minutes=12), "12 min"),
        (timedelta(seconds=9), "under a minute"),
        (timedelta(0), "now"),
    ],
)
def test_a_length_is_told_in_its_largest_parts(length: timedelta, words: str) -> None:
    assert display.span(length) == words


def test_an_address_keeps_what_is_not_the_default() -> None:
    here = Address("/budgets/a/b", {"usages": "3", "account": "x/y@z"})
    assert here.to() == "/budgets/a/b?account=x%2Fy%40z&usages=3"
    assert here.to(usages=1) == "/budgets/a/b?account=x%2Fy%40z"
    assert here.to("/other", account=None) == "/other?usages=3"


@given(st.integers(0, 10_000), st.integers(1, 100))
def test_pages_cover_all_rows_once(total: int, size: int) -> None:
    pages = [Pager("usages", number, size, total, "newest") for number in range(1, -(-total // size) + 1)]
    assert [row for page in pages for row in range(page.first, page.last + 1)] == list(range(1, total + 1))
    assert all(page.pages == len(pages) for page in pages)


@pytest.mark.parametrize(("probability", "words"), [(0.0, "under 1%"), (0.42, "42%"), (1.0, "over 99%")])
def test_a_likelihood_never_claims_to_be_certain(probability: float, words: str) -> None:
    assert display.percent(probability) == words
