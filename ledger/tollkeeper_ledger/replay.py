"""Balances from nothing but the chain (I6): each account's sides, summed from the first entry or on from a snapshot.

An entry on `<account>#allocation`, `#rollover`, `#grants` or `#borrowed` is where credit comes from, so its sign is turned;
`#spent` and `#unreconciled` is where it goes. What an account lends moves from its `#lendable` to its `#lent`, and is not
taken off its balance: what borrowers spend is charged to it as well. Holds stand in no transaction: they are nobody's money
yet.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import orjson

from tollkeeper_ledger.chain import Entry
from tollkeeper_ledger.errors import ChainBroken

SOURCES = ("allocation", "rollover", "grants", "borrowed")
DRAINS = ("spent", "unreconciled")
COUNTED = ("balance", *SOURCES, *DRAINS, "lent")
LENDABLE = "lendable"
SIDES = (*COUNTED, LENDABLE)


@dataclass(frozen=True, slots=True)
class Replayed:
    """What an account's entries add up to, integers of `unit`."""

    unit: str
    allocation: int = 0
    rollover: int = 0
    grants: int = 0
    borrowed: int = 0
    spent: int = 0
    unreconciled: int = 0
    lent: int = 0
    balance: int = 0


def replay(lines: Iterable[bytes], snapshot: Mapping[str, Replayed] | None = None) -> dict[str, Replayed]:
    """The balances after all lines of an export, or of those that follow a snapshot, by account.

    Raises `ChainBroken` as `apply` does; whether hashes and places hold is for `export.verify` to say.
    """
    balances = dict(snapshot or {})
    for line in lines:
        raw = orjson.loads(line)
        entries = [Entry(one["account"], one["unit"], one["amount"]) for one in raw["entries"]]
        apply(balances, entries, f"transaction {raw['seq']}")
    return balances


def apply(balances: dict[str, Replayed], entries: Iterable[Entry], where: str) -> None:
    """Add one transaction's entries. Raises `ChainBroken` for a side that no account has, and for a balance that is not
    what was put in less what was taken (B2); for a loan that is not the same on both of its sides."""
    sums: dict[str, dict[str, int]] = {}
    owed = 0
    for entry in entries:
        account, _, side = entry.account.rpartition("#")
        if side not in SIDES or not account:
            raise ChainBroken(f"{where}: its entry on {entry.account!r} is none of an account's sides")
        if account not in sums:
            known = balances.setdefault(account, Replayed(entry.unit))
            sums[account] = {name: getattr(known, name) for name in COUNTED} | {LENDABLE: -known.lent}
            owed += known.lent - known.borrowed
        sums[account][side] += -entry.amount if side in SOURCES else entry.amount
    if owed != sum(values["lent"] - values["borrowed"] for values in sums.values()):
        raise ChainBroken(f"{where}: what is borrowed in it is not what is lent")
    for account, values in sums.items():
        if values.pop(LENDABLE) != -values["lent"]:
            raise ChainBroken(f"{where}: what {account} lends is not what it has lent")
        balances[account] = Replayed(balances[account].unit, **values)
        put_in, taken = (sum(values[side] for side in sides) for sides in (SOURCES, DRAINS))
        if values["balance"] != put_in - taken:
            raise ChainBroken(f"{where}: the balance of {account} is not what was put in less what was taken")
