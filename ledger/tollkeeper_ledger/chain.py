"""Transactions and the chain they form.

A transaction's hash is SHA-256 over the hash before it and its own canonical text: JSON with sorted keys, no spaces, and
integers only, so that any JSON library can recompute it. The first transaction follows 32 zero bytes.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from tollkeeper_ledger.errors import ChainBroken

GENESIS = bytes(32)


@dataclass(frozen=True, slots=True)
class Entry:
    """One side of a transaction: `account` names the account and, behind `#`, the side of it that changes."""

    account: str
    unit: str
    amount: int


@dataclass(frozen=True, slots=True)
class Transaction:
    """What happened at one moment; its entries sum to zero in each unit (I4).

    `rows` is the text of its usage where that is a list of requests: it is written once, before its place is known.
    """

    id: str
    time: str
    kind: str
    entries: tuple[Entry, ...]
    usage: Mapping[str, Any] | None = None
    rows: bytes | None = None


def transfer(account: str, unit: str, amount: int, *, source: str, target: str) -> tuple[Entry, Entry]:
    """The two entries that move an amount from one side of an account to another."""
    return Entry(f"{account}#{source}", unit, -amount), Entry(f"{account}#{target}", unit, amount)


def canonical(seq: int, transaction: Transaction) -> bytes:
    """The text that is hashed and stored."""
    return orjson.dumps(
        {
            "seq": seq,
            "id": transaction.id,
            "time": transaction.time,
            "kind": transaction.kind,
            "entries": [{"account": e.account, "unit": e.unit, "amount": e.amount} for e in transaction.entries],
            "usage": transaction.usage if transaction.rows is None else orjson.Fragment(transaction.rows),
        },
        option=orjson.OPT_SORT_KEYS,
    )


def link(previous: bytes, body: bytes) -> bytes:
    """The hash of a transaction that follows `previous`."""
    return hashlib.sha256(previous + body).digest()


def check_zero_sum(entries: Iterable[Entry], where: str) -> None:
    """Raise `ChainBroken` unless the entries sum to zero in each unit."""
    sums: dict[str, int] = defaultdict(int)
    for entry in entries:
        sums[entry.unit] += entry.amount
    for unit, total in sums.items():
        if total:
            raise ChainBroken(f"{where}: its entries in {unit} sum to {total}, not to zero")
