"""The texts of a JSON document, each with its place in it: read so that a document that is cut off, or none, still tells them.

Only what stands between quotes is decoded, so escapes such as `\\u0040` hide nothing, and everything else of the document
can stay as it is, byte for byte. A word without quotes (a number, or whatever a document that is not JSON has) is a text too.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from tollkeeper.patterns import check_time

_TOKEN: Final = re.compile(r'"[^"\\]*(?:\\.?[^"\\]*)*("?)|[{}\[\],:]|[^\s"{}\[\],:]+', re.DOTALL)
TOKENS_AT_ONCE: Final = 4096
"""Read before somebody looks whether the time is over."""

_DOCUMENT: Final = re.compile(r'\s*[{\["]')
_ESCAPE: Final = re.compile(
    r"\\u[dD][89abAB][0-9A-Fa-f]{2}\\u[dD][c-fC-F][0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\.", re.DOTALL
)
"""What stands for one character."""

_ESCAPED: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_HALF_ESCAPE: Final = re.compile(r"\\(?:u[0-9A-Fa-f]{0,3})?\Z")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")

INDEX: Final = "index"
"""The field by which a part of a list says which one it goes on with, whatever its place in this list."""

GOES_ON: Final = "delta"
"""What is under this key is a piece of a text that other documents go on with (OpenAI, Anthropic)."""

DEEPEST: Final = 64
"""Of so many keys a path is made at most, the last ones."""


@dataclass(slots=True)
class Place:
    """Where something stands: under this key of what is above, or in that place of a list. `start` is where it begins.

    `goes_on`: it is in what other documents go on with.
    """

    above: "Place | None"
    key: str | int
    start: int
    is_list: bool = False
    count: int = 0
    goes_on: bool = field(init=False)

    def __post_init__(self) -> None:
        self.goes_on = self.key == GOES_ON or (self.above is not None and self.above.goes_on)

    @property
    def path(self) -> tuple[str | int, ...]:
        """From the top. Known when the document was read to its end: a part may say late which one it is."""
        keys: list[str | int] = []
        place: Place | None = self
        while place is not None and place.above is not None and len(keys) < DEEPEST:
            keys.append(place.key)
            place = place.above
        return tuple(reversed(keys))


@dataclass(frozen=True, slots=True)
class JsonText:
    """A text at `[start, end)`, quotes included where it has some; `closed`: the second one too."""

    start: int
    end: int
    value: str
    place: Place
    quoted: bool
    closed: bool

    @property
    def inner(self) -> tuple[int, int]:
        """Where it stands without its quotes."""
        return (self.start + 1, self.end - self.closed) if self.quoted else (self.start, self.end)


@dataclass(slots=True)
class Document:
    """All texts of a document in their order, and the objects and lists in it by where they begin and end."""

    texts: list[JsonText] = field(default_factory=list)
    holders: list[tuple[Place, int]] = field(default_factory=list)


def may_be_document(text: str) -> bool:
    """Whether a text begins as a document of JSON does."""
    return _DOCUMENT.match(text) is not None


def is_document(text: str) -> bool:
    """Whether a text is a document of JSON from its beginning to its end."""
    try:
        return may_be_document(text) and json.loads(text, strict=False) is not None
    except (ValueError, RecursionError):
        return False


def read_document(text: str, start: int = 0, end: int | None = None) -> Document:
    """The texts between two places of a text. Raises `TookTooLong` in a block of `within`."""
    reader = _Reader(start)
    end = len(text) if end is None else end
    for number, match in enumerate(_TOKEN.finditer(text, start, end)):
        if number % TOKENS_AT_ONCE == 0:
            check_time("reading JSON")
        reader.take(match)
    reader.finish(end)
    return reader.document


def spans_in_raw(raw: str, spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Where places of what stands between quotes are in it as it is written; `spans`, as it reads, come from left to right."""
    escapes = _ESCAPE.finditer(raw)
    escape = next(escapes, None)
    longer = 0

    def place(offset: int) -> int:
        nonlocal escape, longer
        while escape is not None and escape.start() - longer < offset:
            longer += escape.end() - escape.start() - 1
            escape = next(escapes, None)
        return min(offset + longer, len(raw))

    for start, end in spans:
        yield place(start), place(end)


def quoted(value: str, *, closed: bool = True) -> str:
    """A text as JSON writes it; not `closed`: without its second quote, as it stands where a document is cut off."""
    written = json.dumps(value, ensure_ascii=_SURROGATE.search(value) is not None)
    return written if closed else written[:-1]


class _Reader:
    """Takes one token after the other; `_at` is the object or list that is open."""

    def __init__(self, start: int) -> None:
        self.document = Document()
        self._at = Place(None, "", start, is_list=True)
        self._key: str | None = None
        self._expects_key = False

    def take(self, match: re.Match[str]) -> None:
        match match[0][0]:
            case "{" | "[" as opening:
                self._at = Place(self._at, self._next_key, match.start(), opening == "[")
                self._key, self._expects_key = None, opening == "{"
            case "}" | "]":
                self._close(match.end())
            case ",":
                self._at.count += self._at.is_list
                self._key, self._expects_key = None, not self._at.is_list
            case ":":
                self._expects_key = False
            case '"':
                self._quoted(match)
            case _:
                self._bare(match)

    def finish(self, end: int) -> None:
        """What was not closed goes to the end."""
        while self._at.above is not None:
            self._close(end)

    @property
    def _next_key(self) -> str | int:
        return self._at.count if self._at.is_list or self._key is None else self._key

    def _close(self, end: int) -> None:
        if self._at.above is not None:
            self.document.holders.append((self._at, end))
            self._at = self._at.above
            self._key, self._expects_key = None, False

    def _quoted(self, match: re.Match[str]) -> None:
        closed = bool(match[1])
        value = _decoded(match[0][1 : -1 if closed else None])
        place = Place(self._at, "" if self._expects_key else self._next_key, match.start())
        if self._expects_key:
            self._key = value
        self.document.texts.append(JsonText(match.start(), match.end(), value, place, quoted=True, closed=closed))

    def _bare(self, match: re.Match[str]) -> None:
        above = self._at.above
        if self._key == INDEX and above is not None and above.is_list:
            self._at.key = match[0]
        place = Place(self._at, self._next_key, match.start())
        self.document.texts.append(JsonText(match.start(), match.end(), match[0], place, quoted=False, closed=True))


def _decoded(raw: str) -> str:
    """What stands between quotes; of an escape that is none, such as `\\'`, the character itself."""
    if "\\" not in raw:
        return raw
    try:
        value: str = json.loads(f'"{raw}"', strict=False)
    except ValueError:
        return _ESCAPE.sub(_character, _HALF_ESCAPE.sub("", raw))
    return value


def _character(escape: re.Match[str]) -> str:
    written = escape[0]
    if len(written) > 2:
        value: str = json.loads(f'"{written}"')
        return value
    return _ESCAPED.get(written[1], written[1])
