"""The rows that change with every lease: what is held of accounts, holders, and their leases, all found by row number."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tollkeeper_ledger.postgres.arrays import Column, integers
from tollkeeper_ledger.postgres.known import KnownHolder
from tollkeeper_ledger.postgres.session import Statement
from tollkeeper_ledger.state import Lease
from tollkeeper_ledger.work import Work

_UPDATE_HELD = (
    "UPDATE held h SET version = h.version + 1, amount = u.amount "
    "FROM unnest(%s::bigint[], %s::bigint[]) AS u (account, amount) WHERE h.account = u.account"
)
_UPDATE_HOLDERS = (
    "UPDATE holders h SET sequence = u.sequence, closed = u.closed, version = u.version "
    "FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[]) AS u (number, sequence, closed, version) "
    "WHERE h.number = u.number AND h.version = u.version - 1"
)
_INSERT_LEASES = (
    "INSERT INTO lease_rows SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[]) "
    "ON CONFLICT (holder, account) DO UPDATE SET outstanding = excluded.outstanding, lapsed = excluded.lapsed"
)
_UPDATE_LEASES = (
    "UPDATE lease_rows l SET outstanding = u.outstanding, lapsed = u.lapsed "
    "FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[]) AS u (holder, account, outstanding, lapsed) "
    "WHERE l.holder = u.holder AND l.account = u.account"
)
_DELETE_LEASES = (
    "DELETE FROM lease_rows l USING unnest(%s::bigint[], %s::bigint[]) AS u (holder, account) "
    "WHERE l.holder = u.holder AND l.account = u.account"
)


class Counted(NamedTuple):
    """A statement, how many rows it must change (see `Session.check_all_written`), and what such a row is."""

    sql: str
    values: Sequence[Any]
    wanted: int
    what: str


def held_rows(held: Mapping[str, int], numbers: Mapping[str, int]) -> Iterator[Counted]:
    """What is held of accounts that change, in the rows that say their versions."""
    if held:
        columns = [integers(map(numbers.__getitem__, held)), integers(held.values())]
        yield Counted(_UPDATE_HELD, columns, len(held), "an account")


def holder_row(name: str, work: Work, known: KnownHolder) -> tuple[str, int, int, int]:
    """A changed holder's name, sequence, whether it is closed, and its next version."""
    holder = work.holders.get(name, known.holder)
    return name, holder.sequence, int(holder.closed), known.next_version


def holder_rows(work: Work, standing: Mapping[str, KnownHolder]) -> Iterator[Counted]:
    """Changed holders that have a row."""
    rows = [(one.number, *holder_row(name, work, one)[1:]) for name, one in standing.items()]
    if rows:
        columns = [integers(column) for column in zip(*rows, strict=True)]
        yield Counted(_UPDATE_HOLDERS, columns, len(rows), "a holder")


class _Leases(NamedTuple):
    """Lease rows by column."""

    holders: list[int]
    accounts: list[int]
    outstanding: list[int]
    lapsed: list[int]

    def add(self, holder: int, accounts: Iterable[int], leases: Mapping[str, Lease]) -> None:
        # By their places: names of columns cost as much as the rest of it.
        self.holders.extend([holder] * len(leases))
        self.accounts.extend(accounts)
        self.outstanding.extend([one[2] for one in leases.values()])
        self.lapsed.extend([int(one[3]) for one in leases.values()])

    def columns(self) -> list[Column]:
        return [integers(column) for column in self]


class LeaseRows(NamedTuple):
    """The statements for leases: for new ones, for ones that have a row, and for ones that end."""

    new: Sequence[Statement]
    known: Sequence[Counted]
    ended: Sequence[Statement]


def lease_rows(
    work: Work,
    holders: Mapping[str, int],
    stood: Callable[[str], Mapping[str, Lease]],
    number_of: Callable[[str], int],
) -> LeaseRows:
    """Changed leases; `stood` are a holder's before. To change a row is faster than to find it in the way of a new one, and a
    lease of nothing is no lease, so its row goes."""
    new, known, ended = _Leases([], [], [], []), _Leases([], [], [], []), _Leases([], [], [], [])
    for holder, changed in work.leases.items():
        if not changed:
            continue
        number, before = holders[holder], stood(holder)
        kept = {account: lease for account, lease in changed.items() if lease[2] > 0}
        over = {account: changed[account] for account in changed.keys() - kept.keys()}
        fresh = {account: kept.pop(account) for account in kept.keys() - before.keys()}
        for rows, leases in ((new, fresh), (known, kept), (ended, over)):
            if leases:
                rows.add(number, map(number_of, leases), leases)
    return LeaseRows(
        [(_INSERT_LEASES, new.columns())] if new.holders else [],
        [Counted(_UPDATE_LEASES, known.columns(), len(known.holders), "a lease")] if known.holders else [],
        [(_DELETE_LEASES, ended.columns()[:2])] if ended.holders else [],
    )
