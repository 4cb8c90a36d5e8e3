"""The chain as JSON Lines (C2), and its check, which needs nothing but the lines."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from tollkeeper.amounts import LARGEST
from tollkeeper.limits import AccountId
from tollkeeper_ledger.chain import GENESIS, Entry, check_zero_sum, link
from tollkeeper_ledger.errors import ChainBroken
from tollkeeper_ledger.replay import COUNTED, SIDES, Replayed, apply

_FIELDS = ("seq", "id", "time", "kind", "entries", "usage", "prev", "hash")
_HASH = re.compile("[0-9a-fA-F]{64}")
_PACKED = "the file is compressed ({}); unpack it and verify what comes out"
_RECODED = "the file is {}; an export is UTF-8 without a mark: write it with `tollkeeper export -o FILE`"
_FOREIGN = {
    b"\x1f\x8b": _PACKED.format("gzip"),
    b"PK\x03\x04": _PACKED.format("zip"),
    b"\xfd7zXZ": _PACKED.format("xz"),
    b"\x28\xb5\x2f\xfd": _PACKED.format("zstd"),
    b"BZh": _PACKED.format("bzip2"),
    b"\xff\xfe": _RECODED.format("UTF-16, as Windows PowerShell's > writes"),
    b"\xfe\xff": _RECODED.format("UTF-16"),
    b"\xef\xbb\xbf": _RECODED.format("text that an editor put a mark in front of"),
    b"SQLite format 3\0": "the file is a database; verify what `tollkeeper export` writes of it",
}
"""What a file begins with that is no export, and what to do."""


def export(chain: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """One line for each transaction, ending in a newline: its own fields, and `prev` and `hash` in hex."""
    previous = GENESIS
    for body, digest in chain:
        line = orjson.loads(body) | {"prev": previous.hex(), "hash": digest.hex()}
        yield orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
        previous = digest


@dataclass(frozen=True, slots=True)
class Verified:
    """A chain that holds: how many transactions, its last hash in hex, and what each account adds up to."""

    transactions: int
    head: str
    balances: Mapping[str, Replayed]


def verify(
    lines: Iterable[bytes], *, through: str | None = None, seen: Callable[[Mapping[str, Any]], None] = lambda _: None
) -> Verified:
    """Recompute every hash, sum and balance, and each line as `export` writes it; its line end may be left out.

    Raises `ChainBroken` at the first line that does not hold, saying why.

    A chain whose last lines were left out is a shorter chain that holds; only who knows a later hash can tell. `through`
    is such a hash, which the chain must come to. Each transaction is handed to `seen` once it was found to hold.
    """
    head, seq, reached = GENESIS.hex(), 0, through is None
    wanted = through.lower() if through else None
    balances: dict[str, Replayed] = {}
    for transaction in checked(lines, balances):
        head, seq = transaction["hash"], transaction["seq"]
        reached = reached or head == wanted
        seen(transaction)
    if seq == 0:
        raise ChainBroken("line 1: there is no transaction; the export is empty or was cut off")
    if not reached:
        raise ChainBroken(
            f"line {seq}: the chain ends here without having come to {through}; lines were cut off, or it is another chain"
        )
    return Verified(seq, head, balances)


def checked(lines: Iterable[bytes], balances: dict[str, Replayed]) -> Iterator[dict[str, Any]]:
    """The transactions of an export, each after its place, its hash, its entries and their sums were found to hold.

    `balances` holds what the accounts add up to before a transaction when it is handed out, and after it when the next
    one is. Raises `ChainBroken` at the first that does not hold.
    """
    previous = GENESIS
    for number, line in enumerate(lines, start=1):
        transaction = _linked(line, number, previous)
        where = f"line {number}: transaction {number}"
        entries = [_entry(raw, f"{where}, entry {place}") for place, raw in enumerate(transaction["entries"], start=1)]
        check_zero_sum(entries, where)
        after = {name: balances[name] for name in {_account(entry) for entry in entries} & balances.keys()}
        apply(after, entries, where)
        _check_size(after, where)
        yield transaction
        balances |= after
        previous = bytes.fromhex(transaction["hash"])


def _linked(line: bytes, number: int, previous: bytes) -> dict[str, Any]:
    """The transaction of a line, whose hash follows from the one before it, and which is written as `export` writes it."""
    where = f"line {number}"
    try:
        transaction = _transaction(line)
        told = {name: value for name, value in transaction.items() if name not in ("hash", "prev")}
        body = orjson.dumps(told, option=orjson.OPT_SORT_KEYS)
    except (TypeError, ValueError) as error:
        if number == 1 and (what := next((what for begin, what in _FOREIGN.items() if line.startswith(begin)), None)):
            raise ChainBroken(f"{where}: {what}") from error
        raise ChainBroken(f"{where}: it is not an exported transaction ({error}); the export is damaged") from error
    found, stated = transaction["seq"], bytes.fromhex(transaction["hash"])
    if found != number:
        raise ChainBroken(f"{where}: transaction {found} stands where {number} belongs; one was removed or moved")
    if bytes.fromhex(transaction["prev"]) != previous:
        raise ChainBroken(f"{where}: transaction {number} does not follow from the one before it")
    if link(previous, body) != stated:
        raise ChainBroken(f"{where}: transaction {number} was changed; its hash does not fit its content")
    if line.removesuffix(b"\n") != b'%b,"prev":"%b","hash":"%b"}' % (
        body[:-1],
        previous.hex().encode(),
        stated.hex().encode(),
    ):
        raise ChainBroken(
            f"{where}: transaction {number} was written anew; a name stands in it twice, or spaces, order or line ends are not "
            "as `tollkeeper export` writes them"
        )
    return transaction


def _transaction(line: bytes) -> dict[str, Any]:
    """What a line says, with all that a transaction has. Raises `TypeError` or `ValueError` with what it lacks."""
    try:
        parsed = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"it is no JSON from character {error.pos + 1} on: {error.msg}") from error
    if not isinstance(parsed, dict):
        raise TypeError("its JSON is no object")
    if missing := [name for name in _FIELDS if name not in parsed]:
        raise ValueError(f"it has no {' and no '.join(missing)}")
    if type(parsed["seq"]) is not int:
        raise TypeError("its seq is no whole number")
    if not isinstance(parsed["entries"], list):
        raise TypeError("its entries are no list")
    for name in ("prev", "hash"):
        if not isinstance(parsed[name], str) or _HASH.fullmatch(parsed[name]) is None:
            raise ValueError(f"its {name} is not 64 hexadecimal digits")
    return parsed


def _entry(raw: Any, where: str) -> Entry:
    """An entry whose account, side, unit and amount can be what they say."""
    if not isinstance(raw, dict) or not {"account", "unit", "amount"} <= raw.keys():
        raise ChainBroken(f"{where}: it is not an entry (it is no object with account, unit and amount)")
    entry = Entry(raw["account"], raw["unit"], raw["amount"])
    if not isinstance(entry.account, str):
        raise ChainBroken(f"{where}: it is not an entry (its account is no text)")
    account, _, side = entry.account.rpartition("#")
    try:
        unit = AccountId.parse(account).unit
    except ValueError as error:
        raise ChainBroken(f"{where}: it is not an entry ({error})") from error
    if side not in SIDES:
        raise ChainBroken(f"{where}: {entry.account!r} is none of an account's sides")
    if unit != entry.unit:
        raise ChainBroken(f"{where}: it is in {entry.unit}, and {account} is counted in {unit}")
    if type(entry.amount) is not int:
        raise ChainBroken(f"{where}: {entry.amount!r} is not a whole number")
    if abs(entry.amount) > LARGEST:
        raise ChainBroken(f"{where}: {entry.amount} is larger than any amount can be ({LARGEST})")
    return entry


def _account(entry: Entry) -> str:
    return entry.account.rpartition("#")[0]


def _check_size(balances: Mapping[str, Replayed], where: str) -> None:
    for account, sums in balances.items():
        for side in COUNTED:
            if abs(getattr(sums, side)) > LARGEST:
                raise ChainBroken(f"{where}: {side} of {account} is larger than any amount can be ({LARGEST})")
