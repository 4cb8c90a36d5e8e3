"""Amounts: whole tokens and whole nano-dollars, never floats, never mixed (rules M1, M4 and M5 of the semantics).

An `Amount` carries its unit, so adding tokens to money is an error where it is written, not a wrong balance later.
The hot path and the ledger keep plain integers beside one unit; they become `Amount`s again at the edges.
"""

import re
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, localcontext
from enum import StrEnum
from typing import NewType

from tollkeeper.errors import InvalidValue, shown

Tokens = NewType("Tokens", int)
NanoDollars = NewType("NanoDollars", int)

NANODOLLARS_PER_DOLLAR = 10**9
LARGEST = 2**63 - 1
"""The largest amount of either unit: what a 64-bit column holds."""
LARGEST_STATED_MONEY = NanoDollars(10**18 - 1)
"""The most money that a resource may state: 999999999.999999999 dollars. What several of them put into one account
(allocation, rollover, grants, loans, less the minimum) has to fit a column too, so each stays well below `LARGEST`."""
LARGEST_STATED_COUNT = Tokens(10**15 - 1)
"""The most tokens or requests that a resource may state."""

_CAPITAL = re.compile("[A-Z]")
_MONEY = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]{1,9})?")
_QUANTITY = re.compile(r"(0|[1-9][0-9]*)(?:\.([0-9]+))?([kMG])?")
_MOST_DIGITS = len(str(LARGEST))
_POWER = {None: 0, "k": 3, "M": 6, "G": 9}


class TooLarge(InvalidValue):
    """An amount that is written as one, and is more than may be."""


class Unit(StrEnum):
    """What a limit counts. Everything but USD is a whole number of tokens or requests."""

    USD = "USD"
    TOKENS = "Tokens"
    INPUT_TOKENS = "InputTokens"
    OUTPUT_TOKENS = "OutputTokens"
    WEIGHTED_TOKENS = "WeightedTokens"
    REQUESTS = "Requests"

    @property
    def is_money(self) -> bool:
        """Whether amounts of this unit are nano-dollars."""
        return self is Unit.USD

    @property
    def words(self) -> str:
        """How a sentence calls what an amount is of: `USD`, `input tokens`."""
        return self.value if self.is_money else _CAPITAL.sub(r" \g<0>", self.value).strip().lower()


@dataclass(frozen=True, slots=True, order=False)
class Amount:
    """A whole number of one unit. Arithmetic and order between different units raise `TypeError`."""

    value: int
    unit: Unit

    def _same(self, other: "Amount") -> int:
        if self.unit is not other.unit:
            raise TypeError(f"{self.unit} and {other.unit} cannot be combined")
        return other.value

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.value + self._same(other), self.unit)

    def __sub__(self, other: "Amount") -> "Amount":
        return Amount(self.value - self._same(other), self.unit)

    def __neg__(self) -> "Amount":
        return Amount(-self.value, self.unit)

    def __lt__(self, other: "Amount") -> bool:
        return self.value < self._same(other)

    def __le__(self, other: "Amount") -> bool:
        return self.value <= self._same(other)

    def __str__(self) -> str:
        return format_amount(self.value, self.unit)


def parse_money(text: object) -> NanoDollars:
    """Nano-dollars of a decimal string with at most 9 decimals, such as "-0.12". Raises `InvalidValue`, of numbers too."""
    if not isinstance(text, str) or not _MONEY.fullmatch(text):
        raise InvalidValue(
            f'{shown(text)} is not an amount of money: write a quoted decimal string with at most 9 decimals, such as "25.00"'
        )
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    whole, _, fraction = digits.partition(".")
    value = sign * (_number(whole, text, Unit.USD) * NANODOLLARS_PER_DOLLAR + int(fraction.ljust(9, "0")))
    return NanoDollars(_within(value, text, Unit.USD))


def parse_quantity(value: int | str) -> Tokens:
    """A whole count: an integer, or a string with k, M or G as powers of ten (M4). Raises `InvalidValue`."""
    if isinstance(value, bool) or (isinstance(value, int) and value < 0):
        raise InvalidValue(f"{shown(value)} is not a quantity: write a whole number that is not negative")
    if isinstance(value, int):
        return Tokens(_within(value, value, Unit.TOKENS))
    match = _QUANTITY.fullmatch(value)
    if match is None:
        raise InvalidValue(
            f"{shown(value)} is not a quantity: "
            'write a whole number, or one with k, M or G, such as "2M" (Ki and Mi are not taken)'
        )
    whole, fraction, suffix = match.groups()
    fraction = (fraction or "").rstrip("0")
    power = _POWER[suffix]
    if len(fraction) > power:
        raise InvalidValue(f"{shown(value)} is not a whole number")
    number = _number(whole + fraction, value, Unit.TOKENS)
    return Tokens(_within(number * 10 ** (power - len(fraction)), value, Unit.TOKENS))


def largest_stated(unit: Unit) -> int:
    """The most that a resource may state of a unit."""
    return LARGEST_STATED_MONEY if unit.is_money else LARGEST_STATED_COUNT


def parse_stated(value: int | str, unit: Unit) -> int:
    """`parse_amount` of what a resource states. Raises `TooLarge` beyond `largest_stated`, else `InvalidValue`."""
    return _within(parse_amount(value, unit), value, unit, largest_stated(unit))


def _number(digits: str, written: object, unit: Unit) -> int:
    """The number of these digits, which have no needless zero in front. Raises `TooLarge` where no amount has so many."""
    if len(digits) > _MOST_DIGITS:
        raise _too_large(written, unit, LARGEST)
    return int(digits)


def _within(value: int, written: object, unit: Unit, largest: int = LARGEST) -> int:
    if abs(value) > largest:
        raise _too_large(written, unit, largest)
    return value


def _too_large(written: object, unit: Unit, largest: int) -> TooLarge:
    counted = "dollars" if unit.is_money else "requests" if unit is Unit.REQUESTS else "tokens"
    text = f"{written[:40]}…" if isinstance(written, str) and len(written) > 40 else shown(written)
    return TooLarge(
        f"{text} is too large: the largest amount is {format_amount(largest, unit)} {counted}; write at most that"
    )


def parse_amount(value: int | str, unit: Unit) -> int:
    """The integer inside `value` for a unit: nano-dollars for USD, whole counts else. Raises `InvalidValue`.

    Money is a string, since YAML makes a float of 25.50 without quotes; the number 0 is 0 in every unit.
    """
    if unit.is_money:
        return parse_money("0" if value == 0 and not isinstance(value, bool) else value)
    if isinstance(value, str) and value.startswith("-"):
        return -parse_quantity(value[1:])
    return -parse_quantity(-value) if isinstance(value, int) and value < 0 else parse_quantity(value)


def format_money(nanodollars: int) -> str:
    """Decimal dollars with 2 to 9 decimals; nothing is rounded away (M1)."""
    sign = "-" if nanodollars < 0 else ""
    whole, nano = divmod(abs(nanodollars), NANODOLLARS_PER_DOLLAR)
    return f"{sign}{whole}.{f'{nano:09d}'.rstrip('0').ljust(2, '0')}"


def format_amount(value: int, unit: Unit) -> str:
    """As status shows it: decimal dollars for money, digits for the rest."""
    return format_money(value) if unit.is_money else str(value)


def round_half_up(value: Decimal) -> int:
    """The nearest integer, halves away from zero (M2: a request's cost is rounded once)."""
    with localcontext(prec=60):
        return int(value.to_integral_value(rounding=ROUND_HALF_UP))
