"""A provider's usage as a file states it, read into rows. Pure: bytes in, rows out.

The text is UTF-8, or UTF-16 with its mark at the beginning (what Excel calls Unicode text); the cells of a table are
separated by commas, or by tabs where the header has tabs and no comma.
"""

import codecs
import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from difflib import get_close_matches
from typing import Any

import orjson

from tollkeeper.amounts import LARGEST, TooLarge, parse_money
from tollkeeper.errors import InvalidValue, shown
from tollkeeper.usage import BUCKETS, Buckets

COLUMNS = ("id", "date", "model", "cost", *BUCKETS)
"""The columns of a provider's file; `id` or `date` stands in every row, `model` and `cost` (dollars) too."""

_WANTED = f"a file has model and cost, id or date, and where it likes {', '.join(BUCKETS)}"
_SAVE_AS = "save it as UTF-8 with commas (in Excel: CSV UTF-8)"
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_MOST_DIGITS = len(str(LARGEST))
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True, slots=True)
class ProviderRow:
    """One row of a provider's usage. `cost` in nano-dollars."""

    place: str
    id: str | None
    day: date | None
    model: str
    cost: int
    buckets: Buckets


def read_rows(content: bytes, *, as_json: bool) -> tuple[ProviderRow, ...]:
    """The rows of a table with a header, or of a JSON list of objects, in `COLUMNS`.

    Raises `InvalidValue` that names the row and the column: an encoding that is none of ours, columns that are unknown or
    missing, no id and no date, an id that comes twice, costs and tokens that are negative, not whole or too large.
    """
    text = _text(content)
    if not text.strip():
        raise InvalidValue(f"the file is empty: {_WANTED}")
    raws = _json_rows(text) if as_json else _table_rows(text)
    rows = tuple(_row(place, raw) for place, raw in raws)
    seen: dict[str, str] = {}
    for row in rows:
        if row.id is not None and row.id in seen:
            raise InvalidValue(f"{row.place}: the id {row.id!r} stands in {seen[row.id]} too; a request has one row")
        if row.id is not None:
            seen[row.id] = row.place
    if not rows:
        raise InvalidValue("the file has no rows: there is nothing to compare")
    return rows


def _text(content: bytes) -> str:
    name, codec = ("UTF-16", "utf-16") if content.startswith(_UTF16) else ("UTF-8", "utf-8-sig")
    try:
        text = content.decode(codec)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidValue(f"line {line}: it is not text in {name}: {_SAVE_AS}") from error
    if "\0" in text:
        raise InvalidValue(f"it has zero bytes, as UTF-16 without its mark and other than texts do: {_SAVE_AS}")
    return text


def _table_rows(text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    header = text.lstrip().partition("\n")[0]
    delimiter = "\t" if "\t" in header and "," not in header else ","
    reader = csv.DictReader(io.StringIO(text), strict=True, delimiter=delimiter)
    try:
        _check_header(reader.fieldnames or ())
        for raw in reader:
            place = f"line {reader.line_num}"
            if None in raw or None in raw.values():
                raise InvalidValue(f"{place}: it has more or fewer cells than the header")
            yield place, {name: value for name, value in raw.items() if value != ""}
    except csv.Error as error:
        raise InvalidValue(f"line {reader.line_num}: it is not CSV: {error}") from error


def _check_header(names: Sequence[str]) -> None:
    place = "line 1"
    if len(names) == 1 and ";" in names[0]:
        raise InvalidValue(f"{place}: the cells are separated by semicolons: {_SAVE_AS}")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InvalidValue(f"{place}: the column {twice!r} stands there twice: leave one of them out")
    _check_names(place, names)
    missing = [name for name in ("model", "cost") if name not in names]
    if not {"id", "date"} & set(names):
        missing.append("id or date")
    if missing:
        raise InvalidValue(
            f"{place}: there is no column {', none '.join(missing)}; the file has {', '.join(names)}; {_WANTED}"
        )


def _check_names(place: str, names: Iterable[str]) -> None:
    names = tuple(names)
    unknown = [name for name in names if name not in COLUMNS]
    if not unknown:
        return
    told = ", ".join(f"{name!r}{_nearest(name)}" for name in unknown)
    are = "is not a column" if len(unknown) == 1 else "are not columns"
    raise InvalidValue(f"{place}: {told} {are}; the file has {', '.join(names)}; {_WANTED}")


def _nearest(name: str) -> str:
    """The column that may be meant, in words; empty where none is near."""
    words = re.split(r"[^a-z0-9]+", name.casefold())
    near = [column for column in COLUMNS if column in words] or get_close_matches("_".join(words), COLUMNS, 1, 0.5)
    return f" (did you mean {near[0]}?)" if near else ""


class _Pairs(tuple[tuple[str, Any], ...]):
    """An object of JSON as it is written: a name may stand in it twice."""

    __slots__ = ()


def _json_rows(text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        orjson.loads(text)  # stricter, and in better words, than what follows
        raws = json.loads(text, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        raise InvalidValue(f"it is not JSON: {error}") from error
    if not isinstance(raws, list) or not all(isinstance(raw, _Pairs) for raw in raws):
        raise InvalidValue("it is not a JSON list of objects")
    for number, raw in enumerate(raws, start=1):
        place = f"row {number}"
        names = [name for name, _ in raw]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise InvalidValue(f"{place}: {twice!r} stands there twice: leave one of them out")
        _check_names(place, names)
        yield place, dict(raw)


def _row(place: str, raw: Mapping[str, Any]) -> ProviderRow:
    model, cost = raw.get("model"), _cost(place, raw.get("cost"))
    if not isinstance(model, str) or not model.strip():
        says = "there is none" if model in (None, "") else f"{shown(model)} is no model"
        raise InvalidValue(
            f"{place}, model: {says}; write its name as requests do, or leave the row out if it is a sum"
        )
    if not raw.get("id") and not raw.get("date"):
        raise InvalidValue(f"{place}: it has neither an id nor a date")
    try:
        counts = {name: _count(name, raw[name]) for name in BUCKETS if name in raw}
        day = _day(raw["date"]) if raw.get("date") else None
    except InvalidValue as error:
        raise InvalidValue(f"{place}: {error}") from error
    return ProviderRow(place, str(raw["id"]) if raw.get("id") else None, day, model, cost, Buckets(**counts))


def _cost(place: str, text: object) -> int:
    if not isinstance(text, str) or not text:
        says = f"{shown(text)} is not a text" if text else "it is missing"
        raise InvalidValue(f'{place}, cost: {says}; a cost is dollars such as "0.0125"')
    try:
        cost = parse_money(text)
    except TooLarge as error:
        raise InvalidValue(f"{place}, cost: {error}") from error
    except InvalidValue as error:
        raise InvalidValue(
            f"{place}, cost: {shown(text)} is not an amount of money: write dollars with at most 9 decimals, such as 0.0125"
        ) from error
    if cost < 0:
        raise InvalidValue(f"{place}, cost: {text} is negative")
    return cost


def _count(name: str, value: object) -> int:
    number = value
    if isinstance(value, str) and value.isascii() and value.isdigit():
        digits = value.lstrip("0")
        number = int(digits or "0") if len(digits) <= _MOST_DIGITS else LARGEST + 1
    if type(number) is not int or number < 0:
        raise InvalidValue(f"{name}={shown(value)} is not a count of tokens: write a whole number that is not negative")
    if number > LARGEST:
        raise InvalidValue(f"{name}={shown(value)} is too large: write at most {LARGEST} tokens")
    return number


def _day(text: object) -> date:
    try:
        if isinstance(text, str) and _DAY.fullmatch(text):
            return date.fromisoformat(text)
        time = datetime.fromisoformat(str(text))
        day = time.astimezone(UTC).date() if time.tzinfo else None
    except (ValueError, OverflowError) as error:
        raise InvalidValue(f"date {shown(text)} is not a day: write 2026-11-21") from error
    if day is None:
        raise InvalidValue(f"date {shown(text)} has no time zone: write the day alone, or an offset")
    return day
