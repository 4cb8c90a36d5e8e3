"""Amounts whose unit stands in another field: the rule that they are written in it, and how two of them compare.

Both sides compare exactly: the API server by CEL's `quantity`, this process by `Decimal`.
"""

from decimal import Decimal
from typing import Any

from tollkeeper.amounts import Unit, parse_amount
from tollkeeper.errors import InvalidValue
from tollkeeper.resources.meta import Rule

_POWERS = {"k": 10**3, "M": 10**6, "G": 10**9}


def stated_number(value: int | str) -> Decimal:
    """The number that an amount's text states, whatever its unit: how the API server compares two of them."""
    if isinstance(value, int):
        return Decimal(value)
    factor = _POWERS.get(value[-1:], 1)
    return Decimal(value.rstrip("kMG")) * factor


def _fits(value: int | str | None, unit: Unit) -> bool:
    if value is None:
        return True
    try:
        return abs(parse_amount(value, unit)) < 10**18
    except InvalidValue:
        return False


def unit_rule(wire: str, read: str) -> Rule:
    """The amount at a path, such as `rollover.maximum`, is written in the budget's own unit."""

    def value_of(spec: Any) -> Any:
        for name in read.split("."):
            spec = None if spec is None else getattr(spec, name)
        return spec

    parent = wire.rpartition(".")[0]
    absent = f"!has(self.{wire})" if not parent else f"!has(self.{parent})"
    money = f"self.{wire}.matches('^-?[0-9]{{1,9}}([.][0-9]{{1,9}})?$')"
    tokens = f"!self.{wire}.matches('[.][0-9]*[1-9][0-9]*$')"
    whole_dollars = f"(self.{wire} <= 999999999 && self.{wire} >= -999999999)"
    return Rule(
        says='is not in the unit of the budget: with USD write "25.00", with Tokens a whole number such as 2M',
        cel=f"{absent} || (type(self.{wire}) == int ? self.unit == 'Tokens' || {whole_dollars}"
        f" : (self.unit == 'USD' ? {money} : {tokens}))",
        holds=lambda spec: _fits(value_of(spec), spec.amount_unit),
        path=wire,
    )
