"""Amounts whose unit stands in another field: the rules that they are written in it, and how two of them compare.

Each unit has a rule of its own, so that the words name what to write in just that unit. The API server and this process
match the same patterns, and compare exactly: the one by CEL's `quantity`, the other by integers.
"""

import re
from collections.abc import Callable
from enum import Enum
from typing import Any

from tollkeeper.amounts import LARGEST_STATED_COUNT, LARGEST_STATED_MONEY, Unit, format_money, parse_amount
from tollkeeper.errors import InvalidValue
from tollkeeper.resources.meta import Rule
from tollkeeper.resources.wire import MONEY, QUANTITY, cel_matches

_MONEY_SAYS = (
    "must be money{bounds}: unit is USD, so write a quoted decimal string with at most 9 decimals, such as {such}"
)
_TOKENS_SAYS = (
    "must be a count of tokens{bounds}: unit is Tokens, so write a whole number, or one with k, M or G, such as {such}"
    " (Ki and Mi are not taken)"
)
_NOTHING = r"0(\.0{1,9})?"


class Sign(Enum):
    """On which side of zero an amount may lie: its bounds in words, the least and the most whole number, and examples."""

    NOT_BELOW = (", 0 or above and at most {most}", 0, LARGEST_STATED_COUNT, '"25.50"', "2M")
    NOT_ABOVE = (
        ", 0 or below and at least -{most}",
        -LARGEST_STATED_COUNT,
        0,
        '"-0.12", or "0" for a strict budget',
        "-10k, or 0 for a strict budget",
    )
    EITHER = (
        ", from -{most} to {most}",
        -LARGEST_STATED_COUNT,
        LARGEST_STATED_COUNT,
        '"25.50" or "-0.12"',
        "2M or -10k",
    )

    def __init__(self, bounds: str, least: int, most: int, money: str, tokens: str) -> None:
        self.bounds = bounds
        self.least = least
        self.most = most
        self.money = money
        self.tokens = tokens

    def says(self, words: str, most: str, such: str) -> str:
        """What to write, with the bounds of a unit whose largest amount is `most`."""
        return words.format(bounds=self.bounds.format(most=most), such=such)

    def signed(self, pattern: str, nothing: str) -> str:
        """The pattern of an amount on this side of zero, out of that of one without a sign and that of nothing."""
        match self:
            case Sign.NOT_BELOW:
                return pattern
            case Sign.NOT_ABOVE:
                return f"-({pattern})|{nothing}"
            case Sign.EITHER:
                return f"-?({pattern})"


def amount_rules(wire: str, read: str, sign: Sign = Sign.NOT_BELOW) -> tuple[Rule, Rule]:
    """The amount at a path such as `rollover.maximum` is written in the object's own unit: money quoted, tokens whole.

    A whole number without quotes is no money (25.50 would be a float), but for 0, which is the same in every unit.
    """
    value_of = _reader(read)
    parent = wire.rpartition(".")[0]
    absent = f"!has(self.{parent or wire})"
    money, tokens = sign.signed(MONEY, _NOTHING), sign.signed(QUANTITY, f"{_NOTHING}[kMG]?")

    def rule(unit: Unit, says: str, pattern: str, least: int, most: int) -> Rule:
        number = f"self.{wire} >= {least} && self.{wire} <= {most}"
        return Rule(
            says=says,
            cel=f"{absent} || self.unit != '{unit}' || (type(self.{wire}) == int ? {number}"
            f" : {cel_matches(pattern, f'self.{wire}')})",
            holds=lambda spec: spec.amount_unit is not unit or _fits(value_of(spec), pattern, least, most),
            path=wire,
        )

    return (
        rule(Unit.USD, sign.says(_MONEY_SAYS, format_money(LARGEST_STATED_MONEY), sign.money), money, 0, 0),
        rule(
            Unit.TOKENS, sign.says(_TOKENS_SAYS, str(LARGEST_STATED_COUNT), sign.tokens), tokens, sign.least, sign.most
        ),
    )


def reaches(threshold: int | str, minimum: int | str, unit: Unit) -> bool:
    """Whether a threshold is at least the minimum. True where one is no amount, or the minimum is above 0: other rules say so."""
    try:
        least = parse_amount(minimum, unit)
        return least > 0 or parse_amount(threshold, unit) >= least
    except InvalidValue:
        return True


def _reader(path: str) -> Callable[[Any], int | str | None]:
    def value_of(spec: Any) -> Any:
        for name in path.split("."):
            spec = None if spec is None else getattr(spec, name)
        return spec

    return value_of


def _fits(value: int | str | None, pattern: str, least: int, most: int) -> bool:
    if value is None:
        return True
    return least <= value <= most if isinstance(value, int) else re.fullmatch(pattern, value) is not None
