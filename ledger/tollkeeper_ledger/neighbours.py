"""Which accounts of a limit, key and unit have windows next to another one's: the questions, in SQL that both storages know.

Each answers with names, the one that is looked for first. `besides` are accounts of the same limit, key and unit that are not
looked at. Values stand as `?`.
"""

from collections.abc import Collection
from typing import Any, NamedTuple

from tollkeeper.windows import start_of
from tollkeeper_ledger.limiting import parse_account
from tollkeeper_ledger.rows import to_micros
from tollkeeper_ledger.state import LATEST_WINDOWS

_OF_KEY = "kind = ? AND namespace = ? AND name = ? AND limit_name = ? AND key = ? AND unit = ?{but}"
_ENDED_BEFORE = (
    f'SELECT id FROM (SELECT id, "window", window_end FROM accounts WHERE {_OF_KEY} AND "window" < ? AND window_end <= ? '  # noqa: S608 - constants
    f'ORDER BY "window" DESC LIMIT {LATEST_WINDOWS}) AS nearby ORDER BY window_end DESC, "window" DESC'
)
_BEGIN_AFTER = (
    f'SELECT id FROM accounts WHERE {_OF_KEY} AND "window" > ? AND window_start >= ? ORDER BY "window" LIMIT 1'  # noqa: S608 - constants
)
_HOLD = (
    f"SELECT id FROM (SELECT id, number, window_start, window_end FROM accounts WHERE {_OF_KEY} "  # noqa: S608 - constants
    f'ORDER BY "window" DESC LIMIT {LATEST_WINDOWS}) AS latest '
    "WHERE (window_start IS NULL OR window_start <= ?) AND (window_end IS NULL OR window_end > ?) ORDER BY number DESC"
)


class Question(NamedTuple):
    """A statement and its values."""

    sql: str
    values: tuple[Any, ...]


def ended_before(account: str, besides: Collection[str] = ()) -> Question:
    """Those whose windows ended before an account's begins, the last to end first: see `State.previous_account`."""
    *key, window = _key_and_window(account)
    return _asked(_ENDED_BEFORE, (*key, *besides, window, to_micros(start_of(window))), besides)


def begin_after(account: str, ends: int | None, besides: Collection[str] = ()) -> Question:
    """Those whose windows begin at an instant (in microseconds) or later, the first to begin first: see `State.next_account`."""
    *key, window = _key_and_window(account)
    return _asked(_BEGIN_AFTER, (*key, *besides, window, ends), besides)


def hold(account: str, instant: int, besides: Collection[str] = ()) -> Question:
    """Others whose windows hold an instant (in microseconds), the last to be opened first: see `State.overlapping`."""
    *key, _ = _key_and_window(account)
    others = (account, *besides)
    return _asked(_HOLD, (*key, *others, instant, instant), others)


def _asked(sql: str, values: tuple[Any, ...], besides: Collection[str]) -> Question:
    but = f" AND id NOT IN ({', '.join('?' * len(besides))})" if besides else ""
    return Question(sql.format(but=but), values)


def _key_and_window(account: str) -> tuple[str, ...]:
    identity = parse_account(account)
    ref = identity.ref
    return ref.kind, ref.namespace, ref.name, ref.limit, identity.key_text, str(identity.unit), identity.window
