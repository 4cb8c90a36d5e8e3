"""The chain as JSON Lines (C2), and its check, which needs nothing but the lines."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import orjson

from tollkeeper_ledger.chain import GENESIS, Entry, check_zero_sum, link
from tollkeeper_ledger.errors import ChainBroken


def export(chain: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """One line for each transaction, ending in a newline: its own fields, and `prev` and `hash` in hex."""
    previous = GENESIS
    for body, digest in chain:
        line = orjson.loads(body) | {"prev": previous.hex(), "hash": digest.hex()}
        yield orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
        previous = digest


@dataclass(frozen=True, slots=True)
class Verified:
    """A chain that holds: how many transactions, and its last hash in hex."""

    transactions: int
    head: str


def verify(lines: Iterable[bytes]) -> Verified:
    """Recompute every hash and sum. Raises `ChainBroken` at the first line that does not hold, saying which and why."""
    previous, seq = GENESIS, 0
    for number, line in enumerate(lines, start=1):
        seq += 1
        previous = _check(line, number, seq, previous)
    if seq == 0:
        raise ChainBroken("line 1: there is no transaction; the export is empty or was cut off")
    return Verified(seq, previous.hex())


def _check(line: bytes, number: int, seq: int, previous: bytes) -> bytes:
    try:
        raw = orjson.loads(line)
        stated, follows = bytes.fromhex(raw.pop("hash")), bytes.fromhex(raw.pop("prev"))
        entries = [Entry(e["account"], e["unit"], e["amount"]) for e in raw["entries"]]
        body = orjson.dumps(raw, option=orjson.OPT_SORT_KEYS)
        found = raw["seq"]
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ChainBroken(
            f"line {number}: it is not an exported transaction ({error}); the export is damaged"
        ) from error
    if found != seq:
        raise ChainBroken(f"line {number}: transaction {found} stands where {seq} belongs; one was removed or moved")
    if follows != previous:
        raise ChainBroken(f"line {number}: transaction {seq} does not follow from the one before it")
    if link(previous, body) != stated:
        raise ChainBroken(f"line {number}: transaction {seq} was changed; its hash does not fit its content")
    check_zero_sum(entries, f"line {number}: transaction {seq}")
    return stated
