"""The past out of an export: usages, grants and corrections, each line checked as `verify` checks it."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime
from typing import Any

from tollkeeper.amounts import LARGEST
from tollkeeper.errors import InvalidValue
from tollkeeper.grants import Share
from tollkeeper.history import BookedCorrection, BookedCredit, BookedUsage, History, Reconciled
from tollkeeper.limits import AccountId
from tollkeeper_ledger.corrections import ADJUST, CORRECT, REFUND
from tollkeeper_ledger.errors import ChainBroken
from tollkeeper_ledger.export import checked
from tollkeeper_ledger.replay import Replayed
from tollkeeper_ledger.usagerows import PLACES, record_of, rows_of

_BALANCE = "#balance"
_OLD_PRIORITY = 10


def read_history(lines: Iterable[bytes]) -> History:
    """The history that an export tells. Raises `ChainBroken` at the first line that does not hold, or that holds and
    does not say what its kind promises."""
    balances: dict[str, Replayed] = {}
    usages: list[BookedUsage] = []
    credits_: list[BookedCredit] = []
    corrections: list[BookedCorrection] = []
    reconciled: list[Reconciled] = []
    end = 0
    for transaction in checked(lines, balances):
        try:
            end = (transaction["seq"] + 1) * PLACES
            match transaction["kind"]:
                case "usage":
                    usages += _usages(transaction, balances)
                case "grant":
                    credits_.append(_credit(transaction))
                case kind if kind in (ADJUST, REFUND, CORRECT):
                    corrections += _corrections(transaction)
                    reconciled += _reconciled(transaction)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ChainBroken(
                f"transaction {transaction['seq']}: it is not a {transaction['kind']}: {error}"
            ) from error
    return History(tuple(usages), tuple(credits_), tuple(corrections), tuple(reconciled), end)


def _usages(transaction: Mapping[str, Any], before: Mapping[str, Replayed]) -> Iterator[BookedUsage]:
    balances: dict[str, int] = {}
    booked_at = datetime.fromisoformat(transaction["time"])
    for number, row in enumerate(rows_of(transaction)):
        record = record_of(row)
        if record.cost is not None and not (type(record.cost) is int and 0 <= record.cost <= LARGEST):
            raise InvalidValue(f"cost={record.cost!r} is not an amount of nano-dollars from 0 to {LARGEST}")
        if record.admitted_at.tzinfo is None or record.finished_at.tzinfo is None:
            raise InvalidValue("its times have no zone")
        charged = {one.account: one.amount for one in record.charges if one.account in before}
        balances = {account: before[account].balance for account in charged} | balances
        had = {account: balances[account] for account in charged}
        yield BookedUsage(transaction["seq"] * PLACES + number, record, booked_at, had)
        for account, amount in charged.items():
            # A report in which something stood as unreconciled has one usage only: see `charging`.
            balances[account] -= amount


def _credit(transaction: Mapping[str, Any]) -> BookedCredit:
    entry = next(entry for entry in transaction["entries"] if entry["account"].endswith(_BALANCE))
    identity = AccountId.parse(entry["account"].removesuffix(_BALANCE))
    told, time = transaction["usage"], datetime.fromisoformat(transaction["time"])
    created, expires = told.get("created"), told.get("expires_at")
    share = Share(
        told["grant"],
        entry["amount"],
        told.get("priority", _OLD_PRIORITY),
        datetime.fromisoformat(created) if created else time,
        datetime.fromisoformat(expires) if expires else None,
    )
    return BookedCredit(identity.ref, identity.unit, share, time)


def _corrections(transaction: Mapping[str, Any]) -> list[BookedCorrection]:
    time, told = datetime.fromisoformat(transaction["time"]), transaction["usage"]
    return [
        BookedCorrection(
            entry["account"].removesuffix(_BALANCE),
            entry["amount"],
            time,
            transaction["kind"],
            told.get("request_id"),
            told.get("upstream_id"),
        )
        for entry in transaction["entries"]
        if entry["account"].endswith(_BALANCE)
    ]


def _reconciled(transaction: Mapping[str, Any]) -> list[Reconciled]:
    if transaction["kind"] != CORRECT:
        return []
    told, place = transaction["usage"], transaction["seq"] * PLACES
    return [
        Reconciled(
            told.get("upstream_id"),
            date.fromisoformat(told["day"]),
            told["model"],
            told["cost"],
            told.get("tenant", ""),
            place,
            # Earlier releases did not say what they knew: all that stood before it.
            told.get("as_of", place),
            told.get("due"),
            tuple(told.get("besides", ())),
        )
    ]
