"""Faults on request: the `Provider-Behaviour` header.

A comma-separated list of:

- `ignore-limit`: generate all that was asked for, past the request's own output limit, which providers promise to keep.
- `die-midway`: close the connection when half of the answer's tokens are generated; the book has that half, with
  `completed: false`.
- `error-500`: answer 500 and generate nothing; nothing is booked.
- `slow=MS`: take MS milliseconds for each generated token, reasoning too (0 to 60000); overrides the provider's pace.
- `no-usage`: leave `usage` out of the answer, even where the request asks for it; the book has it all the same.
"""

from dataclasses import dataclass, replace
from typing import Final

from tollkeeper_provider.errors import HeaderError

_SLOWEST_MILLISECONDS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How an answer is to go wrong; by default it does not."""

    ignore_limit: bool = False
    die_midway: bool = False
    error_500: bool = False
    no_usage: bool = False
    milliseconds_per_token: int | None = None


def parse_behaviour(header: str | None) -> Behaviour:
    """The faults that a `Provider-Behaviour` header asks for; none without a header. Raises `HeaderError`."""
    behaviour = Behaviour()
    for word in header.split(",") if header is not None else ():
        behaviour = _with(behaviour, word.strip())
    return behaviour


def _with(behaviour: Behaviour, word: str) -> Behaviour:
    match word.partition("="):
        case ("ignore-limit", "", _):
            return replace(behaviour, ignore_limit=True)
        case ("die-midway", "", _):
            return replace(behaviour, die_midway=True)
        case ("error-500", "", _):
            return replace(behaviour, error_500=True)
        case ("no-usage", "", _):
            return replace(behaviour, no_usage=True)
        case ("slow", "=", number) if number.isascii() and number.isdigit() and len(number) <= 5:
            if int(number) <= _SLOWEST_MILLISECONDS:
                return replace(behaviour, milliseconds_per_token=int(number))
    raise HeaderError(
        f"Provider-Behaviour: {word!r} is unknown; write ignore-limit, die-midway, error-500, no-usage or "
        f"slow=MS (0 to {_SLOWEST_MILLISECONDS} milliseconds a token), separated by commas"
    )
