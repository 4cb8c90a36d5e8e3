"""The errors of the domain: one small tree.

- `TollkeeperError`: everything a user can be told about; its text says what was wrong, where, and what to do.
  - `InvalidValue`: a value that cannot be what its field says (an amount, a window, a zone, a name).
  - `PolicyConflict`: objects that are valid alone and cannot stand together.
  - `Unavailable`: something that must answer did not (API server, ledger, provider).
    - `OutcomeUnknown`: nor is it known whether it did what it was asked to do.

`listed` and `shown` put names and values into such a text.
"""

from collections.abc import Sequence


class TollkeeperError(Exception):
    """Something a person can act on. `str()` is one line: what, where, what to do."""


class InvalidValue(TollkeeperError, ValueError):
    """A value that its field cannot hold. Also a `ValueError`, so that pydantic reports it with the field's path."""


class PolicyConflict(TollkeeperError):
    """Objects that are valid one by one and contradict each other."""


class Unavailable(TollkeeperError):
    """A part that must answer did not, within its bound."""


class OutcomeUnknown(Unavailable):
    """It went away in the middle: what was asked of it may be done, or not."""


MOST_NAMED = 3
"""How many names one message has: people read no more, and the API server cuts long warnings."""


def listed(named: Sequence[str], of: int) -> str:
    """The first names of so many, as a message lists them."""
    more = of - len(named)
    return ", ".join(named) + (f" and {more} more" if more > 0 else "")


def shown(value: object, longest: int = 80) -> str:
    """A value as a message shows it: as Python writes it, at most so long. A number may have more digits than can be written."""
    if isinstance(value, int) and value.bit_length() > 4 * longest:
        return f"a number of about {value.bit_length() * 3 // 10} digits"
    text = repr(value)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
