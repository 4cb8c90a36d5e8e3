"""Rows of traffic: what one request brings and gets, and how to read a recorded hour of it.

The format is that of the Azure LLM inference trace 2023 (Patel et al., Splitwise, ISCA 2024): a CSV with the columns
`TIMESTAMP,ContextTokens,GeneratedTokens`, times in UTC.
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

_COLUMNS: Final = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_MOST_TOKENS: Final = 10_000_000


class TraceError(Exception):
    """A trace file that cannot be replayed; the message names file, line and remedy."""


@dataclass(frozen=True, slots=True)
class TrafficRow:
    """One request of a trace: tokens in, tokens out, and when it came (with its zone)."""

    context_tokens: int
    generated_tokens: int
    at: datetime


def read_trace(path: Path) -> list[TrafficRow]:
    """All rows of a trace file, in its order. Raises `TraceError` at the first line that is not a row."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = _rows(path, file)
    except (OSError, UnicodeDecodeError) as error:
        raise TraceError(f"trace {path}: cannot be read: {error}; name a CSV file with {','.join(_COLUMNS)}") from error
    if not rows:
        raise TraceError(f"trace {path}: has no rows; name a CSV file with {','.join(_COLUMNS)}")
    return rows


def _rows(path: Path, lines: Iterable[str]) -> list[TrafficRow]:
    reader = csv.DictReader(lines, strict=True)
    rows: list[TrafficRow] = []
    try:
        missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise TraceError(f"trace {path}: line 1: no column {missing[0]}; the header must name {','.join(_COLUMNS)}")
        rows.extend(_row(fields) for fields in reader)
    except (csv.Error, ValueError) as error:
        raise TraceError(f"trace {path}: line {reader.reader.line_num}: {error}; correct or remove the line") from error
    return rows


def _row(fields: Mapping[str | None, str | None]) -> TrafficRow:
    if None in fields:
        raise ValueError("more fields than the header names")
    at = _field(fields, "TIMESTAMP")
    try:
        time = datetime.fromisoformat(at)
    except ValueError as error:
        raise ValueError(f"TIMESTAMP {at!r} is not a time such as 2023-11-16 18:17:03.9799600") from error
    return TrafficRow(
        context_tokens=_tokens(fields, "ContextTokens"),
        generated_tokens=_tokens(fields, "GeneratedTokens"),
        at=time if time.tzinfo is not None else time.replace(tzinfo=UTC),
    )


def _tokens(fields: Mapping[str | None, str | None], name: str) -> int:
    text = _field(fields, name)
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(_MOST_TOKENS)) or int(text) > _MOST_TOKENS:
        raise ValueError(f"{name} {text!r} is not a whole number from 0 to {_MOST_TOKENS}")
    return int(text)


def _field(fields: Mapping[str | None, str | None], name: str) -> str:
    value = fields[name]
    if value is None:
        raise ValueError(f"{name} is missing")
    return value.strip()
