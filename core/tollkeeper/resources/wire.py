"""The leaf types of the wire: texts, amounts and times, each checked by one pattern on both sides.

Every type here carries its check, its words and its structural schema together, so that the API server and this process
take and refuse the same values, and say the same of them. The schema states the pattern as a CEL rule with the words: a
plain `pattern` would show its regular expression to whoever wrote the value. Patterns stay inside what RE2 and Python's
`re` read alike: no classes such as `\\d` or `\\s`, no lookaround. Lengths are counted in characters on both sides; they
bound what the rules may cost, for which the API server has a budget.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, PlainSerializer, StrictStr
from pydantic_core import CoreSchema, core_schema

from tollkeeper.amounts import LARGEST_STATED_COUNT, LARGEST_STATED_MONEY, format_money
from tollkeeper.errors import InvalidValue, shown
from tollkeeper.windows import format_time

NONZERO = "[1-9]"
"""What a text is searched for that states more than zero, whatever its notation."""


def cel_matches(pattern: str, of: str = "self") -> str:
    """The CEL expression that a text matches a pattern whole."""
    return f"{of}.matches(r'{_whole(pattern)}')"


def _whole(pattern: str) -> str:
    # Every character of a rule's pattern counts in what the API server thinks the rule costs.
    return f"^({pattern})$" if "|" in pattern else f"^{pattern}$"


def _worded(cel: str, says: str) -> dict[str, Any]:
    """A rule on a value itself, as its schema states it."""
    return {"x-kubernetes-validations": [{"rule": cel, "message": f"must be {says}"}]}


def _too_long(value: str, longest: int, says: str) -> str:
    return f"{value[:40]!r}… has {len(value)} characters: shorten it to {longest}; it must be {says}"


@dataclass(frozen=True, slots=True)
class Text:
    """A string of at most `longest` characters that `pattern` matches whole; `says` tells what to write instead.

    `nonzero`: a digit from 1 to 9 must be in it. `looks_numeric`: without quotes, YAML makes a number of it; the schema
    lets whole numbers through to the rule, which has the words.
    """

    pattern: str
    longest: int
    says: str
    nonzero: bool = False
    looks_numeric: bool = False

    def check(self, value: Any) -> str:
        """The value itself. Raises `InvalidValue` with what to write."""
        if not isinstance(value, str):
            quotes = "" if self.looks_numeric else "text in quotes: it must be "
            raise InvalidValue(f"{shown(value)} is not {quotes}{self.says}")
        if len(value) > self.longest:
            raise InvalidValue(_too_long(value, self.longest, self.says))
        if re.fullmatch(self.pattern, value) is None or (self.nonzero and re.search(NONZERO, value) is None):
            raise InvalidValue(f"{shown(value)} is not {self.says}")
        return value

    @property
    def cel(self) -> str:
        """The same check of a string `self`."""
        return cel_matches(self.pattern) + (f" && self.matches('{NONZERO}')" if self.nonzero else "")

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        if self.looks_numeric:
            rule = _worded(f"type(self) == string && {self.cel}", self.says)
            return {"x-kubernetes-int-or-string": True, "maxLength": self.longest, **rule}
        rule = _worded(self.cel, self.says)
        return {"type": "string", "pattern": _whole(self.pattern), "maxLength": self.longest, **rule}


@dataclass(frozen=True, slots=True)
class IntOrText:
    """A whole number of `[lowest, highest]`, or a string that `text` takes (`x-kubernetes-int-or-string`)."""

    text: Text
    lowest: int
    highest: int = LARGEST_STATED_COUNT

    def check(self, value: Any) -> int | str:
        """The value itself, an integer where it is one. Raises `InvalidValue` with what to write."""
        if isinstance(value, str):
            return self.text.check(value)
        if isinstance(value, bool) or not isinstance(value, int) or not self.lowest <= value <= self.highest:
            raise InvalidValue(f"{shown(value)} is not {self.text.says}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        cel = f"type(self) == int ? self >= {self.lowest} && self <= {self.highest} : {self.text.cel}"
        rule = _worded(cel, self.text.says)
        return {"x-kubernetes-int-or-string": True, "maxLength": self.text.longest, **rule}


@dataclass(frozen=True, slots=True)
class AnyAmount:
    """An integer, or a string of at most `longest` characters: the unit decides the rest, by a rule of the object."""

    longest: int
    says: str

    def check(self, value: Any) -> int | str:
        """The value itself. Raises `InvalidValue` with what to write."""
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise InvalidValue(f"{shown(value)} is not {self.says}")
        if isinstance(value, str) and len(value) > self.longest:
            raise InvalidValue(_too_long(value, self.longest, self.says))
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"x-kubernetes-int-or-string": True, "maxLength": self.longest}


@dataclass(frozen=True, slots=True)
class WholeNumber:
    """A 64-bit integer of `[lowest, highest]`."""

    lowest: int
    highest: int

    def check(self, value: Any) -> int:
        """The integer. Raises `InvalidValue` with what to write."""
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # JSON knows one kind of number: the API server reads 50.0 as 50
        if isinstance(value, bool) or not isinstance(value, int) or not self.lowest <= value <= self.highest:
            raise InvalidValue(f"{shown(value)} is not a whole number between {self.lowest} and {self.highest}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "integer", "format": "int64", "minimum": self.lowest, "maximum": self.highest}


@dataclass(frozen=True, slots=True)
class MapBy:
    """A list in which no two items share the values of `keys` (K7: `listType: map`); attribute and wire names agree."""

    keys: tuple[str, ...]

    def check(self, items: tuple[Any, ...]) -> tuple[Any, ...]:
        """The items. Raises `InvalidValue` that names the key that comes twice."""
        _no_two(items, lambda item: ", ".join(str(getattr(item, key)) for key in self.keys))
        return items

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        keys: Mapping[str, Any] = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(self.keys)}
        return {**handler(schema), **keys}


@dataclass(frozen=True, slots=True)
class AsSet:
    """A list of values, none of them twice (`listType: set`)."""

    def check(self, items: tuple[Any, ...]) -> tuple[Any, ...]:
        """The items. Raises `InvalidValue` that names the value that comes twice."""
        _no_two(items, str)
        return items

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "x-kubernetes-list-type": "set"}


def _no_two(items: tuple[Any, ...], name: Any) -> None:
    seen: set[str] = set()
    for item in items:
        if (key := name(item)) in seen:
            raise InvalidValue(f"{key!r} comes twice: leave one of them out")
        seen.add(key)


_DAY_OF_YEAR = (
    r"[12][0-9]{3}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
    r"|([12][0-9](0[48]|[2468][048]|[13579][26])|(12|16|20|24|28)00)-02-29"
)
TIME = (
    rf"({_DAY_OF_YEAR})T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{{1,6}})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
)
"""An instant as RFC 3339 writes it, of a day that exists, in steps of a microsecond or more."""

_RFC3339 = Text(
    TIME,
    longest=40,
    says='a time: write RFC 3339 with an offset, such as "2026-12-01T00:00:00Z"',
)


def _read_time(value: Any) -> datetime:
    if isinstance(value, datetime) and value.tzinfo is not None:
        # An unquoted time, as YAML reads it: it has to be one that could be written as text.
        value = value.isoformat()
    return datetime.fromisoformat(_RFC3339.check(value)).astimezone(UTC)


@dataclass(frozen=True, slots=True)
class _TimeSchema:
    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**_RFC3339.__get_pydantic_json_schema__(schema, handler), "format": "date-time"}


Time = Annotated[
    datetime, BeforeValidator(_read_time), PlainSerializer(format_time, when_used="json-unless-none"), _TimeSchema()
]
"""An instant: RFC 3339 on the wire, an aware datetime in UTC here. The calendar stands in the pattern, leap years too:
CEL has no way to ask whether a day exists without failing."""

MONEY = r"(0|[1-9][0-9]{0,8})(\.[0-9]{1,9})?"
"""Dollars from 0 to 999999999.999999999."""

_PLAIN = r"(0|[1-9][0-9]{0,14})"
_SUFFIXED = (
    r"(0|[1-9][0-9]{0,11})(\.[0-9]{1,3}0{0,6})?k"
    r"|(0|[1-9][0-9]{0,8})(\.[0-9]{1,6}0{0,3})?M"
    r"|(0|[1-9][0-9]{0,5})(\.[0-9]{1,9})?G"
)
QUANTITY = rf"{_PLAIN}(\.0{{1,9}})?|{_SUFFIXED}"
"""A whole count, plain or with k, M or G as powers of ten (M4)."""

_LONGEST_AMOUNT = 32
AT_MOST_MONEY = f"at most {format_money(LARGEST_STATED_MONEY)}"
AT_MOST_COUNT = f"at most {LARGEST_STATED_COUNT}"
_QUOTED = "a quoted decimal string"
_TAKES_QUANTITY = f'a whole number, or one with k, M or G such as "2M", {AT_MOST_COUNT} (Ki and Mi are not taken)'
_EITHER_WAY = f'money as {_QUOTED} such as "25.50", {AT_MOST_MONEY}, tokens as {_TAKES_QUANTITY}'

Money = Annotated[
    str,
    Text(
        MONEY,
        _LONGEST_AMOUNT,
        f'money, 0 or above and {AT_MOST_MONEY}: write {_QUOTED} with at most 9 decimals, such as "1.25"',
        looks_numeric=True,
    ),
]
"""Dollars from 0 to 999999999.999999999, never a number: YAML's `0.10` would be a float."""

Price = Annotated[
    str,
    Text(
        r"(0|[1-9][0-9]{0,4})(\.[0-9]{1,9})?",
        _LONGEST_AMOUNT,
        f'money, 0 or above and below 100000: write {_QUOTED} with at most 9 decimals, such as "1.25"',
        looks_numeric=True,
    ),
]
"""Dollars from 0 to 99999.999999999 for a million tokens, a request or a call: see `prices.PRICE_BOUND`."""

Quantity = Annotated[
    int | str, IntOrText(Text(QUANTITY, _LONGEST_AMOUNT, f"a count, 0 or above: write {_TAKES_QUANTITY}"), lowest=0)
]
"""A count of tokens or requests (M4)."""

UnitAmount = Annotated[int | str, AnyAmount(_LONGEST_AMOUNT, f"an amount: write {_EITHER_WAY}")]
"""Money or tokens, by a unit that stands beside it; how it is written is a rule of the object (`amountrules`)."""

PositiveAmount = Annotated[
    int | str,
    IntOrText(
        Text(
            rf"{_PLAIN}(\.[0-9]{{1,9}})?|{_SUFFIXED}",
            _LONGEST_AMOUNT,
            f"an amount above zero: write {_EITHER_WAY}",
            nonzero=True,
        ),
        lowest=1,
    ),
]
"""Money or tokens above zero, by a unit that stands in another object."""

Weight = Annotated[
    str,
    Text(
        r"(0|[1-9][0-9]{0,3})(\.[0-9]{1,6})?",
        12,
        f'a weight from 0 to 9999: write {_QUOTED} with at most 6 decimals, such as "0.1" or "4"',
        looks_numeric=True,
    ),
]
"""A factor from 0 to 9999.999999."""

_LABEL = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
Name = Annotated[
    str, Text(_LABEL, 63, "a name: write lower-case letters, digits and -, beginning and ending with a letter or digit")
]
"""A DNS-1123 label."""

ObjectName = Annotated[
    str, Text(rf"{_LABEL}(\.{_LABEL})*", 253, "an object's name: write lower-case letters, digits, - and .")
]
"""A DNS-1123 subdomain."""

_LINE = r"[^\x00-\x1f\x7f]+"
Line = Annotated[str, Text(_LINE, 253, "one line of text: leave out control characters, and the field if it is empty")]
"""Free text on one line."""

ShortLine = Annotated[
    str, Text(_LINE, 128, "one short line of text: leave out control characters, and the field if it is empty")
]
"""Free text on one line, as it fits into a table."""

Glob = Annotated[str, Text(_LINE, 253, 'a name or a glob such as "gpt-5*"')]
"""A name in which `*`, `?` and `[…]` stand for others."""

CallerName = Annotated[
    str, Text(r"[A-Za-z0-9]([A-Za-z0-9._:/-]*[A-Za-z0-9])?", 128, "a name: write letters, digits, . _ : / and -")
]
"""What a caller writes into a header."""

DurationText = Annotated[
    str,
    Text(
        r"([0-9]{1,5}d)?([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?",
        28,
        "a duration above zero: "
        "write days (at most 99999d), hours, minutes and seconds in this order, such as 30d, 36h or 1h30m",
        nonzero=True,
    ),
]
"""A length of time above zero. A window of at most some centuries begins and ends in years that can be written."""

ZoneText = Annotated[StrictStr, Field(max_length=64)]
"""An IANA time zone's name; that it is one is a rule of the object, which knows all of them."""
