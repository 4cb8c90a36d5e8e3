"""Redaction: what a rule finds in a text is replaced by a mask that names the rule. Pure.

- Rules are kinds known by name (`detectors`) and patterns of the tenant's own (`patterns`).
- All rules see the whole text; what they find is cut out at once, overlapping finds as one. This is done again until nothing
  is found, for what was cut out may have hidden something: a text that comes out goes in again unchanged.
- Masks that stand in a text are never looked into. Only masks of the rules in force count as such, so nobody hides anything
  behind one of their own making.
- A text that is a JSON document is looked at as one: each text in it as it reads, without its escapes. A model writes the
  arguments of a tool so, and `\\n` before a key of somebody's is no letter `n`. So on, some levels deep.
  What has the beginning of a document and is none, since it was cut off or is prose, is looked at both ways. What is found is
  cut out where it stands.
- A text may come in pieces, as a stream tells it: what is found across several is cut out of all of them.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, chain, islice
from operator import itemgetter
from typing import Final

from tollkeeper.detectors import FINDERS
from tollkeeper.jsontexts import JsonText, document_start, is_document, read_document, spans_in_raw
from tollkeeper.patterns import spans_of
from tollkeeper.redactionrules import BuiltIn, Redaction, mask

MOST_ROUNDS: Final = 4
"""The kinds that are known by name need two. A pattern of somebody's own that looks for masks would never be done."""


MOST_LEVELS: Final = 3
"""Of JSON documents in a text, one inside a text of the other."""


@dataclass(frozen=True, slots=True, order=True)
class Cut:
    """What is taken out of a text, and the rule that says so."""

    start: int
    end: int
    rule: str


def redacted(text: str, redaction: Redaction) -> str:
    """A text without what the rules find in it."""
    return redacted_pieces([text], redaction)[0]


def redacted_pieces(pieces: Sequence[str], redaction: Redaction) -> list[str]:
    """The pieces of one text without what the rules find in the whole of it; as many pieces, the mask where a find began."""
    left = list(pieces)
    for _ in range(MOST_ROUNDS):
        cuts = cuts_in("".join(left), redaction)
        if not cuts:
            break
        left = _without(left, cuts)
    return left


def redacted_each(texts: Collection[str], redaction: Redaction) -> Mapping[str, str]:
    """Many texts at once, each for itself, by what it is: what is left of those that do not stay as they are.

    The kinds that are known by name are looked for in all texts at once, as lines: none of them goes over a line's end, but
    for keys in several lines, which are no less found so.
    """
    several = list(texts)
    looked_at = range(len(several)) if redaction.patterns else _suspects(several, redaction)
    left = {several[number]: redacted(several[number], redaction) for number in looked_at}
    return {text: other for text, other in left.items() if other != text}


def _suspects(texts: Sequence[str], redaction: Redaction) -> Collection[int]:
    """The numbers of the texts in which something may be found; nothing is in any other."""
    begins = list(accumulate((len(text) + 1 for text in texts), initial=0))
    suspects = {number for number, text in enumerate(texts) if document_start(text) is not None}
    for found in _found("\n".join(texts), redaction):
        suspects.update(range(bisect_right(begins, found.start) - 1, bisect_left(begins, found.end)))
    return suspects


def cuts_in(text: str, redaction: Redaction, levels: int = MOST_LEVELS) -> list[Cut]:
    """What the rules find outside of masks in a text, and in the documents in it, in order, none overlapping another."""
    if not text:
        return []
    masks = [match.span() for match in _masks(redaction).finditer(text)]
    if levels == 0 or (start := document_start(text)) is None:
        finds = _found(text, redaction)
    elif is_document(text):
        finds = _found_beneath(text, start, redaction, levels, bare=True)
    else:
        finds = chain(_found(text, redaction), _found_beneath(text, start, redaction, levels, bare=False))
    return _merged(part for found in finds for part in _outside(found, masks))


def _found_beneath(text: str, begin: int, redaction: Redaction, levels: int, *, bare: bool) -> Iterator[Cut]:
    """What is found in the texts of a document, which begins there, as they read; `bare`: also in those without quotes."""
    texts: dict[str, list[JsonText]] = {}
    for one in read_document(text, begin, numbers=bool(redaction.patterns)).texts:
        if is_secret(one, redaction):
            yield Cut(*one.inner, BuiltIn.SECRETS.value)
        elif one.quoted or bare:
            texts.setdefault(one.value, []).append(one)
    several = list(texts)
    for number in range(len(several)) if redaction.patterns else _suspects(several, redaction):
        cuts = cuts_in(several[number], redaction, levels - 1)
        for one in texts[several[number]] if cuts else ():
            start, end = one.inner
            spans = [(cut.start, cut.end) for cut in cuts]
            places = spans_in_raw(text[start:end], spans) if one.quoted else spans
            for cut, (cut_start, cut_end) in zip(cuts, places, strict=True):
                yield Cut(start + cut_start, start + cut_end, cut.rule)


def is_secret(text: JsonText, redaction: Redaction) -> bool:
    """Whether a text is a secret as a whole, by where it stands, and to be redacted so."""
    return text.is_secret and BuiltIn.SECRETS in redaction.built_in


def _found(text: str, redaction: Redaction) -> Iterator[Cut]:
    for kind in redaction.built_in:
        for start, end in FINDERS[kind](text):
            yield Cut(start, end, kind.value)
    for own in redaction.patterns:
        for start, end in spans_of(own.pattern, text):
            yield Cut(start, end, own.name)


@lru_cache(maxsize=256)
def _masks(redaction: Redaction) -> re.Pattern[str]:
    names = [*redaction.built_in, *(own.name for own in redaction.patterns)]
    return re.compile("|".join(re.escape(mask(name)) for name in names) or r"(?!)")


def _outside(found: Cut, masks: Sequence[tuple[int, int]]) -> Iterator[Cut]:
    """The parts of a find that lie outside of masks, which stand in their order."""
    start = found.start
    for mask_start, mask_end in islice(masks, bisect_right(masks, start, key=itemgetter(1)), None):
        if mask_start >= found.end:
            break
        if start < mask_start:
            yield Cut(start, mask_start, found.rule)
        start = mask_end
    if start < found.end:
        yield Cut(start, found.end, found.rule)


def _merged(cuts: Iterable[Cut]) -> list[Cut]:
    """The same places, those that overlap as one, by the name of the one that begins first."""
    merged: list[Cut] = []
    for cut in sorted(cuts):
        if merged and cut.start < merged[-1].end:
            before = merged[-1]
            merged[-1] = Cut(before.start, max(before.end, cut.end), before.rule)
        else:
            merged.append(cut)
    return merged


def _without(pieces: Sequence[str], cuts: Sequence[Cut]) -> list[str]:
    begins = accumulate((len(piece) for piece in pieces), initial=0)
    ends = [cut.end for cut in cuts]
    return [
        _piece_without(piece, begin, islice(cuts, bisect_right(ends, begin), None))
        for piece, begin in zip(pieces, begins, strict=False)
    ]


def _piece_without(piece: str, begin: int, cuts: Iterable[Cut]) -> str:
    """One piece, which begins at this place of the text; `cuts` are those that end behind it."""
    parts, at = [], 0
    for cut in cuts:
        start, end = cut.start - begin, cut.end - begin
        if start >= len(piece):
            break
        parts.append(piece[at : max(start, at)])
        if start >= 0:
            parts.append(mask(cut.rule))
        at = min(end, len(piece))
    return "".join(parts) + piece[at:]
