"""Redaction of a body: its texts are found where they stand, and only what has to go is changed. Pure.

- JSON: each text is looked at as it reads, without its escapes, and so is each key, and each number.
- A stream of server-sent events: what several events tell of one text (its `delta`s) is looked at as one text, so that what
  is cut apart between events is found. Each event keeps what is left of its piece.
- A text beneath a key that names a secret (`password`, `api_key`, …) is a secret as a whole.
- `logprobs` say the answer again, token by token, and as numbers: they go whole, where anything is redacted.
- What is neither is looked at as one text.
- A text that is a JSON document itself, such as the arguments of a tool, is looked at as such as well (`redaction`).
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tollkeeper.jsontexts import LOGPROBS, Document, JsonText, quoted, read_document
from tollkeeper.redaction import is_secret, redacted_each, redacted_pieces
from tollkeeper.redactionrules import BuiltIn, Redaction, mask

_LINE: Final = re.compile(r"[^\r\n]*(?:\r\n|\n|\r|\Z)")
_DATA: Final = re.compile(r"data: ?")


@dataclass(frozen=True, slots=True, order=True)
class _Edit:
    start: int
    end: int
    text: str


def redacted_body(content: bytes, redaction: Redaction, *, is_stream: bool) -> bytes:
    """A body without what the rules find in it; the same bytes where they find nothing."""
    if not redaction:
        return content
    text = content.decode("utf-8", "surrogateescape")
    edits = list(_edits(text, redaction, is_stream=is_stream))
    return _edited(text, edits).encode("utf-8", "surrogateescape") if edits else content


def _edits(text: str, redaction: Redaction, *, is_stream: bool) -> Iterator[_Edit]:
    documents: list[Document] = []
    plain: list[tuple[int, int]] = []
    for start, end in _lines(text) if is_stream else [(0, len(text))]:
        if text[start:end].lstrip()[:1] in ("{", "["):
            documents.append(read_document(text, start, end, numbers=bool(redaction.patterns)))
        else:
            plain.append((start, end))
    whole = [_Edit(start, end, quoted(mask(LOGPROBS))) for start, end in _logprobs(documents)]
    yield from whole
    texts = list(_outside(whole, (one for document in documents for one in document.texts)))
    yield from _of_plain_texts(text, plain, redaction)
    yield from _of_secrets([one for one in texts if is_secret(one, redaction)])
    others = [one for one in texts if not is_secret(one, redaction)]
    yield from _of_single_texts([one for one in others if not one.goes_on], redaction)
    yield from _of_streamed_texts([one for one in others if one.goes_on], redaction)


def _lines(text: str) -> Iterator[tuple[int, int]]:
    """Where the lines of a stream have their payload: what follows `data:`, else the whole line."""
    for match in _LINE.finditer(text):
        data = _DATA.match(text, match.start(), match.end())
        yield data.end() if data else match.start(), match.end()


def _logprobs(documents: Iterable[Document]) -> Iterator[tuple[int, int]]:
    """The objects and lists under such a key; of those in each other the outermost."""
    before = 0
    for start, end in sorted(span for document in documents for span in document.logprobs):
        if start >= before:
            yield start, end
            before = end


def _outside(edits: Sequence[_Edit], texts: Iterable[JsonText]) -> Iterator[JsonText]:
    """The texts that no edit takes away as a whole; both stand in their order."""
    ends = iter(edits)
    edit = next(ends, None)
    for text in texts:
        while edit is not None and edit.end <= text.start:
            edit = next(ends, None)
        if edit is None or text.start < edit.start:
            yield text


def _of_plain_texts(text: str, places: Sequence[tuple[int, int]], redaction: Redaction) -> Iterator[_Edit]:
    changed = redacted_each({text[start:end] for start, end in places}, redaction)
    for start, end in places:
        if (left := changed.get(text[start:end])) is not None:
            yield _Edit(start, end, left)


def _of_secrets(texts: Iterable[JsonText]) -> Iterator[_Edit]:
    left = mask(BuiltIn.SECRETS)
    for text in texts:
        if text.value != left:
            yield _Edit(text.start, text.end, quoted(left, closed=text.closed))


def _of_single_texts(texts: Sequence[JsonText], redaction: Redaction) -> Iterator[_Edit]:
    """Many events say the same of themselves: each text is looked at once."""
    changed = redacted_each({text.value for text in texts}, redaction)
    for text in texts:
        if (left := changed.get(text.value)) is not None:
            yield _Edit(text.start, text.end, quoted(left, closed=text.closed))


def _of_streamed_texts(texts: Iterable[JsonText], redaction: Redaction) -> Iterator[_Edit]:
    together: dict[tuple[str | int, ...], list[JsonText]] = {}
    for text in texts:
        together.setdefault(text.path, []).append(text)
    for pieces in together.values():
        for text, left in zip(pieces, redacted_pieces([one.value for one in pieces], redaction), strict=True):
            if left != text.value:
                yield _Edit(text.start, text.end, quoted(left, closed=text.closed))


def _edited(text: str, edits: Iterable[_Edit]) -> str:
    parts: list[str] = []
    at = 0
    for edit in sorted(edits):
        parts += (text[at : edit.start], edit.text)
        at = edit.end
    return "".join(parts) + text[at:]
