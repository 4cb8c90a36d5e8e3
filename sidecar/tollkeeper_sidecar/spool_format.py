"""The lines of a spool: what was held, what was used, each with its checksum.

A line is the CRC-32 of its payload in eight hex digits, a space, and the payload as JSON. Payloads: `head` (the holder, the
boot it lived in), `hold` (a request's id and amounts by account), `void` (a request that used nothing), `used` (a settled
`UsageRecord`, as the chain will have it). A `used` or `void` ends the hold of its request. Writing a number beyond 64 bits
raises `SpoolError`.
"""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from tollkeeper.errors import InvalidValue
from tollkeeper.usage import UsageRecord
from tollkeeper_sidecar.errors import SpoolError

VERSION = 2
"""Version 1 has a settled record's id under another name."""

_READABLE = (1, VERSION)


@dataclass(slots=True)
class SpoolContent:
    """What the lines of one holder add up to, as far as they could be read.

    `open_holds` are holds without an end, by request; `damage` says what could not be read, `None` when all could.
    """

    holder: str | None = None
    boot: str | None = None
    records: dict[str, UsageRecord] = field(default_factory=dict)
    open_holds: dict[str, Mapping[str, int]] = field(default_factory=dict)
    damage: str | None = None

    def kept(self) -> dict[str, int]:
        """The sum of the open holds by account: what a holder that died may have used."""
        total: dict[str, int] = {}
        for amounts in self.open_holds.values():
            for account, amount in amounts.items():
                total[account] = total.get(account, 0) + amount
        return total


def head_line(holder: str, boot: str) -> bytes:
    """The first line of each file."""
    return _line({"k": "head", "v": VERSION, "holder": holder, "boot": boot})


def hold_line(request: str, amounts: Mapping[str, int]) -> bytes:
    """A request is about to be passed on and holds these amounts."""
    return _line({"k": "hold", "id": request, "a": dict(amounts)})


def void_line(request: str) -> bytes:
    """A request ended and used nothing."""
    return _line({"k": "void", "id": request})


def used_line(record: UsageRecord) -> bytes:
    """A request is settled."""
    try:
        return _line({"k": "used", "r": orjson.Fragment(record.text)})
    except orjson.JSONEncodeError as error:
        raise SpoolError(f"a line of the spool cannot be written: {error}") from error


def read_files(files: Iterable[tuple[str, bytes]]) -> SpoolContent:
    """The content of one holder's files, in their order. The last line of the last one may be torn; all else is damage."""
    content = SpoolContent()
    named = list(files)
    for position, (name, data) in enumerate(named):
        _read_file(content, name, data, may_be_torn=position == len(named) - 1)
    if content.holder is None and (content.records or content.open_holds):
        content.damage = content.damage or "it has no first line"
    return content


def _read_file(content: SpoolContent, name: str, data: bytes, *, may_be_torn: bool) -> None:
    lines = data.split(b"\n")
    torn = lines.pop()
    if torn and not may_be_torn:
        content.damage = content.damage or f"{name} ends in the middle of a line"
    for number, line in enumerate(lines, start=1):
        try:
            _apply(content, _payload(line))
        except (InvalidValue, KeyError, TypeError, ValueError) as error:
            content.damage = content.damage or f"{name} line {number} cannot be read ({error})"


def _payload(line: bytes) -> dict[str, Any]:
    checksum, _, payload = line.partition(b" ")
    if len(checksum) != 8 or int(checksum, 16) != zlib.crc32(payload):
        raise InvalidValue("its checksum is wrong")
    parsed: dict[str, Any] = orjson.loads(payload)
    return parsed


def _apply(content: SpoolContent, payload: dict[str, Any]) -> None:
    match payload["k"]:
        case "head":
            if payload["v"] not in _READABLE:
                raise InvalidValue(f"it was written by another version ({payload['v']})")
            content.holder, content.boot = payload["holder"], payload["boot"]
        case "hold":
            content.open_holds[payload["id"]] = {str(account): int(amount) for account, amount in payload["a"].items()}
        case "void":
            content.open_holds.pop(payload["id"], None)
        case "used":
            record = UsageRecord.from_json(payload["r"])
            content.open_holds.pop(record.id, None)
            content.records[record.id] = record
        case other:
            raise InvalidValue(f"it is of an unknown kind {other!r}")


def _line(payload: dict[str, Any]) -> bytes:
    try:
        raw = orjson.dumps(payload)
    except orjson.JSONEncodeError as error:
        raise SpoolError(f"a line of the spool cannot be written: {error}") from error
    return b"%08x %s\n" % (zlib.crc32(raw), raw)
