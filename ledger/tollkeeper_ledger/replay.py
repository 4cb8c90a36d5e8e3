"""Balances from nothing but the chain (I6): each account's sides, summed from the first entry or on from a snapshot.

An entry on `<account>#allocation`, `#rollover`, `#grants` or `#borrowed` is where credit comes from, so its sign is turned;
`#spent`, `#unreconciled` and `#lent` is where it goes. Holds stand in no transaction: they are nobody's money yet.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import orjson

from tollkeeper_ledger.chain import Entry
from tollkeeper_ledger.errors import ChainBroken

SOURCES = ("allocation", "rollover", "grants", "borrowed")
DRAINS = ("spent", "unreconciled", "lent")
SIDES = ("balance", *SOURCES, *DRAINS)


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
    what was put in less what was taken (B2)."""
    sums: dict[str, dict[str, int]] = {}
    for entry in entries:
        account, _, side = entry.account.rpartition("#")
        if side not in SIDES or not account:
            raise ChainBroken(f"{where}: its entry on {entry.account!r} is none of an account's sides")
        if account not in sums:
            known = balances.setdefault(account, Replayed(entry.unit))
            sums[account] = {name: getattr(known, name) for name in SIDES}
        sums[account][side] += -entry.amount if side in SOURCES else entry.amount
    for account, values in sums.items():
        balances[account] = Replayed(balances[account].unit, **values)
        put_in, taken = (sum(values[side] for side in sides) for sides in (SOURCES, DRAINS))
        if values["balance"] != put_in - taken:
            raise ChainBroken(f"{where}: the balance of {account} is not what was put in less what was taken")
