"""Whether what is counted of gateways can be: their own counters, and what is booked of each beside the chain."""

from collections.abc import Sequence
from typing import Final

from tollkeeper.counters import Tally, Unbooked
from tollkeeper.usage import is_name
from tollkeeper_ledger.cells import whole, word
from tollkeeper_ledger.counting import Booked, unbooked_in
from tollkeeper_ledger.errors import BooksDiffer
from tollkeeper_ledger.usages import Asking

TABLES: Final = ("counters", "tallies", "tallied")
_SINCE = "from where on usage is counted by gateway (tallied)"
_LATEST: Final = 253_402_300_799_999_999
"""The last microsecond that a time can say."""


def begin(snapshot: Asking, table: str) -> Booked:
    """What is to be added up while the chain is read: nothing in a ledger of an older release. `table` asks for a table.

    Raises `BooksDiffer` where some of it was removed.
    """
    missing = [name for name in TABLES if snapshot.row(table, (name,)) is None]
    if len(missing) == len(TABLES):
        return Booked(None)
    if missing:
        raise BooksDiffer(f"the table {missing[0]} was removed; restore a good copy")
    since = snapshot.row("SELECT since FROM tallied")
    if since is None:
        raise BooksDiffer(f"{_SINCE} is not said; its row was removed")
    return Booked(whole(since[0], _SINCE))


def check(booked: Booked, snapshot: Asking) -> Sequence[Unbooked]:
    """What gateways have settled and is not booked. Raises `BooksDiffer` where what is booked is not what the chain has."""
    if not booked.counts:
        return ()
    stands = {}
    for name, *sums in snapshot.rows("SELECT instance, requests, tokens, cost FROM tallies"):
        where = f"gateway {word(name, 'a tally')}"
        stands[name] = Tally(*(whole(one, where) for one in sums))
    for name in sorted(stands.keys() | booked.by_instance.keys()):
        row, chain = stands.get(name, Tally()), booked.by_instance.get(name, Tally())
        if row != chain:
            raise BooksDiffer(
                f"gateway {name}: {row.words} are booked of it by its row, and the chain has {chain.words}; "
                "the row was changed beside the chain, or transactions were removed"
            )
    _check_counters(snapshot)
    return unbooked_in(snapshot)


def _check_counters(snapshot: Asking) -> None:
    for name, series, value, told in snapshot.rows("SELECT instance, series, value, told FROM counters"):
        where = f"counter {word(series, 'a counter')!r} of gateway {word(name, 'a counter')!r}"
        if not is_name(name):
            raise BooksDiffer(f"{where}: no gateway has such a name; the row was changed")
        if whole(value, where) < 0 or not 0 <= whole(told, where) <= _LATEST:
            raise BooksDiffer(f"{where}: {value} was told at {told}, which cannot be; the row was changed")
