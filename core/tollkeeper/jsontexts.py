"""The texts of a JSON document, each with its place in it: read so that a document that is cut off, or none, still tells them.

Only what stands between quotes is decoded, so escapes such as `\\u0040` hide nothing, and everything else of the document
can stay as it is, byte for byte. A word without quotes (a number, or whatever a document that is not JSON has) is a text too.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from tollkeeper.detectors import names_secret
from tollkeeper.patterns import check_time

_NUMBER: Final = r"(?:-?(?:0|[1-9][0-9]{0,10})(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?|true|false|null)"
"""What has no quotes and cannot be anything but a small or broken number, or one of three words."""

_NUMBERS: Final = rf"(?:{_NUMBER}\s*+,\s*+){{2,}}+"
_BARE: Final = r'[^\s"{}\[\],:]++'
_TOKEN: Final = re.compile(rf'"[^"\\]*+(?:\\.?[^"\\]*+)*+("?)|[{{}}\[\],:]|({_NUMBERS})|{_BARE}', re.DOTALL)
"""Many numbers of a list are one token. What was taken is never given back, or a text of escapes would take memory for each."""

_ONE_NUMBER: Final = re.compile(_NUMBER)
_ONE_BARE: Final = re.compile(rf"{_BARE}|,")
TOKENS_AT_ONCE: Final = 4096
"""Read before somebody looks whether the time is over."""

_DOCUMENT: Final = re.compile(r'\A\s*+[{\["]|[{\[]\s*+["{\[]')
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

LOGPROBS: Final = "logprobs"
"""What is under this key says an answer again, token by token."""

PROPERTIES: Final = "properties"
"""What is under this key describes fields, by their names, in a JSON schema."""

SAMPLES: Final = frozenset({"default", "const", "enum", "example", "examples"})
"""Where a JSON schema says values themselves."""

WORDS: Final = frozenset({"null", "true", "false"})

MOST_OPEN: Final = 512
"""Of so many objects and lists, one in the other, it is known what they are; what is deeper counts as in the last one."""

DEEPEST: Final = 64
"""Of so many keys a path is made at most, the last ones."""


@dataclass(slots=True)
class Place:
    """An object or a list: under this key of what is above, or in that place of a list. `start` is where it begins.

    `goes_on`: it is in what other documents go on with. `is_secret`: everything in it is one. `describes_secret`: it is what a
    JSON schema says of a property that is a secret, so samples in it are.
    """

    above: "Place | None"
    key: str | int
    start: int
    is_list: bool = False
    count: int = 0
    is_secret: bool = False
    describes_secret: bool = False
    goes_on: bool = field(init=False)
    _path: tuple[str | int, ...] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.goes_on = self.key == GOES_ON or (self.above is not None and self.above.goes_on)

    @property
    def path(self) -> tuple[str | int, ...]:
        """From the top. To be asked when the document was read to its end: a part may say late which one it is."""
        if self._path is None:
            keys: list[str | int] = []
            place: Place | None = self
            while place is not None and place.above is not None and len(keys) < DEEPEST:
                keys.append(place.key)
                place = place.above
            self._path = tuple(reversed(keys))
        return self._path


@dataclass(frozen=True, slots=True)
class JsonText:
    """A text at `[start, end)`, quotes included where it has some; `closed`: the second one too.

    It stands under `key` of the object, or in that place of the list, `above` it; a key stands under none: ``""``.
    """

    start: int
    end: int
    value: str
    above: Place
    key: str | int
    quoted: bool
    closed: bool
    is_secret: bool
    """Whether the whole of it is one, by the names of what it stands in."""

    @property
    def inner(self) -> tuple[int, int]:
        """Where it stands without its quotes."""
        return (self.start + 1, self.end - self.closed) if self.quoted else (self.start, self.end)

    @property
    def goes_on(self) -> bool:
        """Whether it is a piece that other documents go on with."""
        return self.quoted and (self.above.goes_on or self.key == GOES_ON)

    @property
    def path(self) -> tuple[str | int, ...]:
        """From the top, as of a place."""
        return (*self.above.path, self.key)


@dataclass(slots=True)
class Document:
    """The texts of a document in their order, and from where to where the objects and lists are that are named `logprobs`."""

    texts: list[JsonText] = field(default_factory=list)
    logprobs: list[tuple[int, int]] = field(default_factory=list)


def document_start(text: str) -> int | None:
    """Where in a text a document of JSON may begin: at once, or behind words, as in "Result: {…"."""
    match = _DOCUMENT.search(text)
    return None if match is None else match.start()


def is_document(text: str) -> bool:
    """Whether a text is a document of JSON from its beginning to its end."""
    try:
        return document_start(text) == 0 and json.loads(text, strict=False) is not None
    except (ValueError, RecursionError):
        return False


def read_document(text: str, start: int = 0, end: int | None = None, *, numbers: bool = True) -> Document:
    """The texts between two places of a text. Raises `TookTooLong` in a block of `within`.

    Without `numbers` those are left out that are no secret of a kind known by name: fewer than 12 digits, or broken ones.
    """
    reader = _Reader(start, numbers=numbers)
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
    """Takes one token after the other; `_at` is the object or list that is open, `_open` of so many are."""

    def __init__(self, start: int, *, numbers: bool) -> None:
        self.document = Document()
        self._numbers = numbers
        self._at = Place(None, "", start, is_list=True)
        self._open = 0
        self._key: str | None = None
        self._expects_key = False

    def take(self, match: re.Match[str]) -> None:
        match match[0][0]:
            case '"':
                self._quoted(match)
            case ",":
                self._next()
            case ":":
                self._expects_key = False
            case "{" | "[" as opening:
                self._enter(opening, match.start())
            case "}" | "]":
                self._close(match.end())
            case _ if match[2]:
                self._many_numbers(match)
            case _:
                self._bare(match)

    def finish(self, end: int) -> None:
        """What was not closed goes to the end."""
        while self._open:
            self._close(end)

    @property
    def _next_key(self) -> str | int:
        return self._at.count if self._at.is_list or self._key is None else self._key

    def _enter(self, opening: str, start: int) -> None:
        self._open += 1
        if self._open <= MOST_OPEN:
            key = self._next_key
            is_secret = self._is_secret(key)
            describes = is_secret and opening == "{" and self._at.key == PROPERTIES and not self._at.is_secret
            self._at = Place(self._at, key, start, opening == "[", 0, is_secret and not describes, describes)
        self._key, self._expects_key = None, opening == "{"

    def _close(self, end: int) -> None:
        if self._at.above is None:
            return
        if self._open <= MOST_OPEN:
            if self._at.key == LOGPROBS:
                self.document.logprobs.append((self._at.start, end))
            self._at = self._at.above
        self._open -= 1
        self._key, self._expects_key = None, False

    def _next(self) -> None:
        self._at.count += self._at.is_list
        self._key, self._expects_key = None, not self._at.is_list

    def _quoted(self, match: re.Match[str]) -> None:
        start, end = match.span()
        closed = bool(match[1])
        value = _decoded(match[0][1 : -1 if closed else None])
        key: str | int = "" if self._expects_key else self._next_key
        is_secret = value != "" and not self._expects_key and self._is_secret(key)
        if self._expects_key:
            self._key = value
        self.document.texts.append(JsonText(start, end, value, self._at, key, True, closed, is_secret))

    def _many_numbers(self, match: re.Match[str]) -> None:
        if self._at.is_list and not self._numbers and not self._at.is_secret:
            self._at.count += match[2].count(",")
            return
        for one in _ONE_BARE.finditer(match.string, *match.span()):
            if one[0] == ",":
                self._next()
            else:
                self._bare(one)

    def _bare(self, match: re.Match[str]) -> None:
        above = self._at.above
        if self._key == INDEX and above is not None and above.is_list:
            self._at.key = match[0]
        key = self._next_key
        is_secret = match[0] not in WORDS and self._is_secret(key)
        if self._numbers or is_secret or _ONE_NUMBER.fullmatch(match[0]) is None:
            start, end = match.span()
            self.document.texts.append(JsonText(start, end, match[0], self._at, key, False, True, is_secret))

    def _is_secret(self, key: str | int) -> bool:
        if self._at.is_secret:
            return True
        return isinstance(key, str) and (names_secret(key) or (self._at.describes_secret and key in SAMPLES))


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
