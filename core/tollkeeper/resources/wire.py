"""The leaf types of the wire: texts, amounts and times, each checked by one pattern on both sides.

Every type here carries its check and its structural schema together, so that the API server and this process take and
refuse the same values. Patterns stay inside what RE2 and Python's `re` read alike: no classes such as `\\d` or `\\s`,
no lookaround. Lengths are counted in characters on both sides.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, GetCoreSchemaHandler, GetJsonSchemaHandler, PlainSerializer
from pydantic_core import CoreSchema, core_schema

from tollkeeper.errors import InvalidValue
from tollkeeper.windows import format_time

LARGEST_COUNT = 999_999_999_999_999
"""The largest count of tokens or requests that a resource may state; sums of many stay within 64 bits."""


@dataclass(frozen=True, slots=True)
class Text:
    """A string of at most `longest` characters that `pattern` matches whole; `says` tells what to write instead."""

    pattern: str
    longest: int
    says: str

    def check(self, value: str) -> str:
        """The value itself. Raises `InvalidValue` with what to write."""
        if len(value) > self.longest:
            raise InvalidValue(f"{value[:40]!r}… has {len(value)} characters: shorten it to {self.longest}")
        if re.fullmatch(self.pattern, value) is None:
            raise InvalidValue(f"{value!r} is not {self.says}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, core_schema.str_schema(strict=True))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^({self.pattern})$", "maxLength": self.longest}


@dataclass(frozen=True, slots=True)
class IntOrText:
    """A whole number of `[lowest, highest]`, or a string that `text` takes (`x-kubernetes-int-or-string`)."""

    text: Text
    lowest: int
    highest: int = LARGEST_COUNT

    def check(self, value: Any) -> int | str:
        """The value itself, an integer where it is one. Raises `InvalidValue` with what to write."""
        if isinstance(value, str):
            return self.text.check(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidValue(f"{value!r} is not {self.text.says}")
        if not self.lowest <= value <= self.highest:
            raise InvalidValue(f"{value} is not between {self.lowest} and {self.highest}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {
            "x-kubernetes-int-or-string": True,
            "pattern": f"^({self.text.pattern})$",
            "minimum": self.lowest,
            "maximum": self.highest,
            "maxLength": self.text.longest,
        }


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
            raise InvalidValue(f"{value!r} is not a whole number between {self.lowest} and {self.highest}")
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


_RFC3339 = Text(
    r"[12][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])",
    longest=40,
    says='a time: write RFC 3339 with an offset, such as "2026-12-01T00:00:00Z"',
)


def _read_time(value: Any) -> datetime:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    if not isinstance(value, str):
        raise InvalidValue(f"{value!r} is not {_RFC3339.says}")
    try:
        return datetime.fromisoformat(_RFC3339.check(value)).astimezone(UTC)
    except (ValueError, OverflowError) as cause:
        raise InvalidValue(f"{value!r} is not {_RFC3339.says}") from cause


@dataclass(frozen=True, slots=True)
class _TimeSchema:
    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        pattern = f"^({_RFC3339.pattern})$"
        return {"type": "string", "format": "date-time", "pattern": pattern, "maxLength": _RFC3339.longest}


Time = Annotated[
    datetime, BeforeValidator(_read_time), PlainSerializer(format_time, when_used="json-unless-none"), _TimeSchema()
]
"""An instant: RFC 3339 on the wire, an aware datetime in UTC here."""

_MONEY = r"(0|[1-9][0-9]{0,8})(\.[0-9]{1,9})?"
_PLAIN = r"(0|[1-9][0-9]{0,14})"
_SUFFIXED = (
    r"(0|[1-9][0-9]{0,11})(\.[0-9]{1,3}0{0,6})?k"
    r"|(0|[1-9][0-9]{0,8})(\.[0-9]{1,6}0{0,3})?M"
    r"|(0|[1-9][0-9]{0,5})(\.[0-9]{1,9})?G"
)
_QUANTITY = rf"{_PLAIN}(\.0{{1,9}})?|{_SUFFIXED}"
_EITHER = rf"{_PLAIN}(\.[0-9]{{1,9}})?|{_SUFFIXED}"
_SAYS_QUANTITY = 'a quantity: write a whole number, or one with k, M or G, such as "2M" (Ki and Mi are not taken)'
_SAYS_EITHER = 'an amount: write money as "25.00" (at most 9 decimals), tokens as 2000000 or "2M"'
_LONGEST_AMOUNT = 32

Money = Annotated[
    str,
    Text(_MONEY, _LONGEST_AMOUNT, 'an amount of money: write a decimal string with at most 9 decimals, such as "1.25"'),
]
"""Dollars from 0 to 999999999.999999999, never a number: YAML's `0.10` would be a float."""

Quantity = Annotated[int | str, IntOrText(Text(_QUANTITY, _LONGEST_AMOUNT, _SAYS_QUANTITY), lowest=0)]
"""A count of tokens or requests (M4)."""

UnitAmount = Annotated[int | str, IntOrText(Text(_EITHER, _LONGEST_AMOUNT, _SAYS_EITHER), lowest=0)]
"""Money or tokens, by a unit that stands elsewhere."""

SignedAmount = Annotated[
    int | str, IntOrText(Text(rf"-?({_EITHER})", _LONGEST_AMOUNT, _SAYS_EITHER), lowest=-LARGEST_COUNT)
]
"""Money or tokens, below zero too."""

PositiveAmount = Annotated[int | str, IntOrText(Text(_EITHER, _LONGEST_AMOUNT, _SAYS_EITHER), lowest=1)]
"""Money or tokens; that a string is above zero is a rule of the object."""

Weight = Annotated[
    str, Text(r"(0|[1-9][0-9]{0,3})(\.[0-9]{1,6})?", 12, 'a weight: write a decimal string such as "0.1" or "4"')
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
        r"([0-9]{1,6}d)?([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?",
        28,
        "a duration: write days, hours, minutes and seconds, such as 30d, 36h or 1h30m",
    ),
]
"""A length of time; that it is above zero is a rule of the object."""

ZoneText = Annotated[
    str,
    Text(r"[A-Z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*", 64, 'a time zone: write an IANA name such as "Europe/Madrid"'),
]
"""An IANA time zone's name; that it is known is a rule of the object."""
