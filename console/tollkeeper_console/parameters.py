"""What an address may say after its question mark, read strictly: a bad value is refused by name, never guessed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tollkeeper.views import Order
from tollkeeper_console.problems import BadRequest
from tollkeeper_console.series import RANGES, Range

LARGEST_PAGE = 100_000
LARGEST_SIZE = 100


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter as the API documents it."""

    name: str
    description: str
    schema: Mapping[str, object]
    location: Literal["query", "path"] = "query"


ACCOUNT = Parameter("account", "An account of the limit; without it the tightest of this window.", {"type": "string"})
PAGE = Parameter(
    "page", "Which page, from 1.", {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE, "default": 1}
)
SIZE = Parameter("size", "Items a page.", {"type": "integer", "minimum": 1, "maximum": LARGEST_SIZE, "default": 20})
ORDER = Parameter("order", "By time of booking.", {"type": "string", "enum": ["newest", "oldest"], "default": "newest"})
RANGE = Parameter(
    "range", "How far back; without it the range that shows most.", {"type": "string", "enum": list(RANGES)}
)


def once_only(names: Sequence[str]) -> None:
    """Raise `BadRequest` for the first parameter that is given twice."""
    for name, times in Counter(names).items():
        if times > 1:
            raise BadRequest(f"{name!r} is given {times} times: give it once")


def refuse_unknown(query: Mapping[str, str], known: Sequence[Parameter]) -> None:
    """Raise `BadRequest` for the first parameter that is not known: a misspelt one would be a question left out."""
    names = [one.name for one in known]
    for name in query:
        if name not in names:
            raise BadRequest(f"{name!r} is not a parameter here: {'use ' + ', '.join(names) if names else 'use none'}")


def whole(query: Mapping[str, str], name: str, default: int, largest: int) -> int:
    """A whole number from 1 to `largest`. Raises `BadRequest`."""
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= largest):
        raise BadRequest(f"{name}={text!r} is not a number from 1 to {largest}")
    return int(text)


def order_of(query: Mapping[str, str], name: str = "order") -> Order:
    """The order of a list. Raises `BadRequest`."""
    match query.get(name, "newest"):
        case "newest":
            return "newest"
        case "oldest":
            return "oldest"
        case other:
            raise BadRequest(f"{name}={other!r} is not an order: write newest or oldest")


def range_of(query: Mapping[str, str]) -> Range | None:
    """The range of a series, if one was asked for. Raises `BadRequest`."""
    wanted = query.get("range")
    for known in RANGES:
        if wanted == known:
            return known
    if wanted is None:
        return None
    raise BadRequest(f"range={wanted!r} is not a range: write {', '.join(RANGES)}")
