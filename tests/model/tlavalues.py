"""The values of TLA+ here: integers, booleans, strings, frozen sets, and functions; a record is a function of its fields' names,
as in Lamport's "Specifying Systems", chapter 16."""

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from tests.model.tlatext import UnknownTla

Value: TypeAlias = Any
State: TypeAlias = tuple[Value, ...]
Bound: TypeAlias = Mapping[str, Value]


def function(pairs: Iterable[tuple[Value, Value]]) -> Value:
    """A function, or a record, by its arguments and values."""
    return tuple(sorted(pairs))


def applied(whole: Value, argument: Value) -> Value:
    """A function's value. Raises `UnknownTla` outside of its domain."""
    for known, value in whole:
        if known == argument:
            return value
    raise UnknownTla(f"{argument!r} is not in the domain of {whole!r}")


class Naturals:
    """`Nat`, without some numbers: it has no end, so all that can be asked is what is in it."""

    def __init__(self, without: frozenset[int] = frozenset()) -> None:
        self._without = without

    def __contains__(self, value: object) -> bool:
        return type(value) is int and value >= 0 and value not in self._without

    def __sub__(self, some: frozenset[int]) -> "Naturals":
        return Naturals(self._without | some)


INFIX: dict[str, Callable[[Value, Value], Value]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "<": operator.lt, ">": operator.gt, "<=": operator.le,
    ">=": operator.ge, "=": operator.eq, "#": operator.ne, "\\": operator.sub, "\\cup": operator.or_,
    "\\in": lambda one, many: one in many, "\\notin": lambda one, many: one not in many,
    "\\subseteq": lambda some, many: all(one in many for one in some),
    "..": lambda low, high: frozenset(range(low, high + 1)),
}  # fmt: skip
"""What the operators between two values mean."""
