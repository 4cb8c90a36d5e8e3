"""Whether a ledger's rows say what its chain says, as of one moment; it may be written meanwhile.

`export.verify` asks an export whether it follows from itself. Decisions and pages rest on rows beside the chain: these are
asked here for what they must be. The chain ends where the storage says that it does and where rows stand on it; each
account is the sum of its entries (I6); what is held and what is unreconciled is what was leased and not given back; what
is booked of a gateway, and what pages are answered from (`page_sums`), is what the chain has of it.

What nobody can see from within: a chain that was cut off, or written anew from some transaction on, with every row that
stands on it changed to fit. For that there is a hash that was noted elsewhere (`through`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import orjson

from tollkeeper.amounts import Unit, format_amount
from tollkeeper.counters import Unbooked
from tollkeeper.errors import shown
from tollkeeper.limits import AccountId
from tollkeeper_ledger import gateway_counts
from tollkeeper_ledger.bodies import unpacked
from tollkeeper_ledger.cells import whole
from tollkeeper_ledger.chain import GENESIS
from tollkeeper_ledger.errors import BooksDiffer, ChainBroken, LedgerUnavailable
from tollkeeper_ledger.export import Verified, export, verify
from tollkeeper_ledger.page_sums import PageSums
from tollkeeper_ledger.replay import Replayed
from tollkeeper_ledger.storage import LedgerStoreReader
from tollkeeper_ledger.usagerows import PLACES
from tollkeeper_ledger.usages import Asking

_CHAIN = "SELECT body, hash FROM transactions ORDER BY seq"
_STANDING_ON_IT = {"requests": PLACES, "reports": 1, "charges": 1, "payments": 1, "marks": 1}
"""Tables whose rows say on which transaction they stand, and how many of their places each has."""

_ACCOUNTS = """SELECT id, kind, namespace, name, limit_name, key, "window", unit,
allocation, rolled_over, granted, borrowed, lent, spent, unreconciled, held FROM accounts ORDER BY id"""
_LEASES = "SELECT account, lapsed, sum(outstanding) FROM leases GROUP BY account, lapsed"
_SIDES = {
    "allocation": "allocation",
    "rollover": "rolled over",
    "grants": "granted",
    "borrowed": "borrowed",
    "lent": "lent",
    "spent": "spent",
    "unreconciled": "unreconciled",
}
"""What an account's entries add up to, and what its row calls it; in the order of `_ACCOUNTS`."""

Leased = Mapping[tuple[str, bool], int]
"""What stands in leases, by account and by whether they lapsed."""


@dataclass(frozen=True, slots=True)
class Audited:
    """A ledger that holds: how many transactions, the last one's hash in hex, how many accounts; and what gateways have
    settled, by their own count, that is not booked."""

    transactions: int
    head: str
    accounts: int
    unbooked: Sequence[Unbooked] = ()


def audit(reader: LedgerStoreReader, *, through: str | None = None) -> Audited:
    """Compare all of a ledger. `through` is as for `verify`.

    Raises `ChainBroken` at the first transaction that does not hold, `BooksDiffer` at the first row that does not fit.
    """
    with reader.snapshot() as snapshot:
        _check_version(reader, snapshot)
        booked = gateway_counts.begin(snapshot, reader.table)
        sums = PageSums()
        verified = _verified(snapshot, through, (booked.add, sums.add))
        if reader.chain_end is not None:
            _check_end(verified, snapshot.row(reader.chain_end))
        _check_nothing_stands_beyond(verified.transactions, snapshot)
        leased = {(name, bool(lapsed)): int(amount) for name, lapsed, amount in snapshot.rows(_LEASES)}
        with closing(snapshot.each(_ACCOUNTS)) as rows:
            accounts = _check_accounts(dict(verified.balances), leased, rows)
        sums.check(snapshot)
        unbooked = gateway_counts.check(booked, snapshot)
    return Audited(verified.transactions, verified.head, accounts, unbooked)


def _verified(snapshot: Asking, through: str | None, adding: Iterable[Callable[[Mapping[str, Any]], None]]) -> Verified:
    """The chain, which has no transaction yet in a new ledger; each goes to all that is `adding` up."""

    def seen(transaction: Mapping[str, Any]) -> None:
        for add in adding:
            add(transaction)

    if through is None and snapshot.row("SELECT seq FROM transactions LIMIT 1") is None:
        return Verified(0, GENESIS.hex(), {})
    with closing(snapshot.each(_CHAIN)) as rows:
        return verify(_lines(rows), through=through, seen=seen)


def _lines(rows: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
    try:
        yield from export((unpacked(_stored(body)), _stored(digest)) for body, digest in rows)
    except (orjson.JSONDecodeError, TypeError, ValueError) as error:
        raise ChainBroken(f"a transaction's text is damaged in the database ({error}); restore a good copy") from error


def _stored(cell: object) -> bytes:
    if not isinstance(cell, bytes | memoryview):
        raise TypeError(f"{shown(cell)} stands where bytes belong")
    return bytes(cell)


def _check_version(reader: LedgerStoreReader, snapshot: Asking) -> None:
    """What a newer release wrote is not understood, so nothing can be said of it. Raises `LedgerUnavailable`."""
    question, known = reader.schema
    (version,) = snapshot.row(question)
    if version > known:
        raise LedgerUnavailable(
            f"it has schema version {version} and this release knows {known}; use the release that wrote it, or a newer one"
        )


def _check_end(verified: Verified, stands: tuple[int, bytes] | None) -> None:
    seq, digest = stands or (0, b"")
    if (seq, bytes(digest).hex()) != (verified.transactions, verified.head):
        raise BooksDiffer(
            f"the chain should end at transaction {seq} in {bytes(digest).hex()}, and it ends at {verified.transactions} in "
            f"{verified.head}; transactions were removed or added"
        )


def _check_nothing_stands_beyond(last: int, snapshot: Asking) -> None:
    for table, places in _STANDING_ON_IT.items():
        column = "place" if places > 1 else "seq"
        question = f"SELECT min({column}) FROM {table} WHERE {column} >= ?"  # noqa: S608 - constants
        (place,) = snapshot.row(question, ((last + 1) * places,))
        if place is not None:
            beyond = whole(place, f"a row of {table}") // places
            raise BooksDiffer(
                f"the chain ends at transaction {last}, and rows of {table} stand on transaction {beyond}; "
                "transactions were removed"
            )


def _check_accounts(replayed: dict[str, Replayed], leased: Leased, rows: Iterable[Sequence[Any]]) -> int:
    count = 0
    for name, *parts, unit, allocation, rolled_over, granted, borrowed, lent, spent, unreconciled, held in rows:
        if parts != (of := _parts(name)):
            raise BooksDiffer(f"{name}: its row says {parts}, and its name {of}; the row was changed")
        amounts = allocation, rolled_over, granted, borrowed, lent, spent, unreconciled
        entries = replayed.pop(name, Replayed(unit))
        if entries.unit != unit:
            raise BooksDiffer(f"{name}: it is in {unit} in its row, and in {entries.unit} in its entries")
        _compare(name, unit, zip(_SIDES.values(), amounts, strict=True), entries)
        for what, stands, lapsed in (("held", held, False), ("unreconciled", unreconciled, True)):
            if stands != (sums := leased.get((name, lapsed), 0)):
                leases = "leases that lapsed" if lapsed else "leases"
                raise BooksDiffer(f"{_said(name, unit, what, stands)}, and its {leases} add up to {_of(sums, unit)}")
        count += 1
    for name in replayed:
        raise BooksDiffer(f"{name}: the chain has entries on it, and it has no row; its row was removed")
    return count


def _parts(name: str) -> list[str]:
    """What the name of an account says in parts, as its row does."""
    try:
        identity = AccountId.parse(name)
    except ValueError as error:
        raise BooksDiffer(f"{shown(name)} names no account ({error}); the row was changed") from error
    ref = identity.ref
    return [ref.kind, ref.namespace, ref.name, ref.limit, identity.key_text, identity.window]


def _compare(name: str, unit: str, row: Iterable[tuple[str, int]], entries: Replayed) -> None:
    for (what, stands), side in zip(row, _SIDES, strict=True):
        if stands != (sums := getattr(entries, side)):
            raise BooksDiffer(
                f"{_said(name, unit, what, stands)}, and its entries add up to {_of(sums, unit)}; "
                "the row was changed beside the chain, or transactions were removed"
            )


def _said(name: str, unit: str, what: str, amount: int) -> str:
    return f"{name}: {what} is {_of(amount, unit)} in its row"


def _of(amount: int, unit: str) -> str:
    # SQLite keeps in a column whatever somebody writes there.
    return f"{format_amount(amount, Unit(unit)) if type(amount) is int else repr(amount)} {unit}"
