"""Corrections: what was charged wrongly is put right by new transactions, never by changing old ones (I4, B8).

One rule for all of them: a correction changes `spent`. Giving back X books X from `#spent` to `#balance`; a charge books
the reverse. So the balance keeps its formula, the entries on `#spent` still sum to what was spent, and a window can be
given back no more than was spent in it: credit beyond that is a grant, with its own price, priority and expiry. A
correction is booked in the window that it is about, closed or not, at the time when it is made; what a closed window
hands on to the next one follows (see `handing.settle_carry`).

One is of another kind: what holders that vanished had in hand stands as unreconciled until they report. Where nobody ever
will, for their disk is gone, `release` gives back what somebody says was not used.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tollkeeper import accounts as rules
from tollkeeper.amounts import LARGEST, Unit, format_amount
from tollkeeper.errors import InvalidValue
from tollkeeper.identity import new_id
from tollkeeper.limits import AccountId
from tollkeeper.policy import PolicySet
from tollkeeper_ledger.chain import Entry, Transaction, transfer
from tollkeeper_ledger.lending import settle
from tollkeeper_ledger.limiting import limit_of
from tollkeeper_ledger.opening import settle_carry
from tollkeeper_ledger.state import Booking, ChargeLine
from tollkeeper_ledger.usagerows import rows_of
from tollkeeper_ledger.work import Work

ADJUST, REFUND, CORRECT, RELEASE = "adjust", "refund", "correct", "release"
LONGEST_REASON = 500
_SPENT = "#spent"


@dataclass(frozen=True, slots=True)
class Change:
    """What one account is given back; negative: charged. `amount` is an integer of the account's unit."""

    account: str
    amount: int


@dataclass(frozen=True, slots=True)
class Correction:
    """Changes that belong together, and why; `details` go into the chain beside the reason. `marks`: booked once."""

    kind: str
    changes: tuple[Change, ...]
    reason: str
    details: Mapping[str, Any] = field(default_factory=dict)
    marks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Corrected:
    """What a correction came to: its transaction, and each account with what is spent and left after it."""

    transaction: str
    lines: tuple[tuple[str, int, int, int], ...]
    """Account, amount given back, spent, balance."""


def correct(work: Work, policy: PolicySet, correction: Correction, now: datetime) -> Corrected:
    """Book a correction, all of it or nothing.

    Raises `InvalidValue`: no reason, nothing to change, an account that was never opened, more given back than was
    spent, or an amount that no account can hold.
    """
    _check_reason(correction.reason)
    entries: list[Entry] = []
    lines: list[tuple[ChargeLine, str]] = []
    told: list[tuple[str, int, int, int]] = []
    for change in correction.changes:
        account, unit = _changed(work, policy, change, now)
        entries += transfer(change.account, unit, change.amount, source="spent", target="balance")
        lines.append((ChargeLine(change.account, change.amount, account.balance), ""))
        told.append((change.account, change.amount, account.spent, account.balance))
    if not lines and correction.kind != CORRECT:
        raise InvalidValue(f"{correction.reason!r}: there is nothing to correct")
    details = {"reason": correction.reason, **correction.details}
    transaction = Transaction(new_id(), now.isoformat(), correction.kind, tuple(entries), details)
    work.book(Booking(transaction, payments=tuple(lines), marks=correction.marks))
    settle(work, policy, now)
    return Corrected(transaction.id, tuple(told))


def _check_reason(reason: str) -> None:
    if not reason.strip() or len(reason) > LONGEST_REASON:
        raise InvalidValue(f"a correction needs a reason of 1 to {LONGEST_REASON} letters; say why it is made")


def _known(work: Work, change: Change) -> tuple[rules.Account, str]:
    known = work.account(change.account)
    if known is None:
        raise InvalidValue(
            f"{change.account}: no such account was ever opened; `tollkeeper export` shows those there are"
        )
    if change.amount == 0:
        raise InvalidValue(f"{change.account}: a correction of 0 changes nothing; name an amount")
    return known


def _changed(work: Work, policy: PolicySet, change: Change, now: datetime) -> tuple[rules.Account, str]:
    account, unit = _known(work, change)
    if change.amount > account.spent:
        raise InvalidValue(_more_than_was_spent(change, account, Unit(unit)))
    if account.spent - change.amount > LARGEST:
        raise InvalidValue(f"{change.account}: more than {LARGEST} would be spent, which no account can hold")
    limit = limit_of(policy, change.account, account, unit)
    corrected = rules.correct(account, limit, change.amount)
    work.put(corrected, unit)
    settle_carry(work, limit, account, corrected, now)
    return corrected, unit


def _more_than_was_spent(change: Change, account: rules.Account, unit: Unit) -> str:
    spent, asked = (format_amount(value, unit) for value in (account.spent, change.amount))
    is_quota = AccountId.parse(change.account).ref.kind == "TokenQuota"
    remedy = "a quota takes no grants: raise its limit's amount" if is_quota else "put in more with a TokenGrant"
    return f"{change.account}: {spent} {unit} was spent and {asked} cannot be given back; {remedy}"


def adjust(
    work: Work, policy: PolicySet, change: Change, *, reason: str, reference: str | None, now: datetime
) -> Corrected:
    """An operator's correction of one account. A `reference` is taken once for an account, so a command can be repeated.

    Raises what `correct` raises, and `InvalidValue` for a reference that is booked already.
    """
    marks = (f"{ADJUST}/{change.account}/{reference}",) if reference else ()
    for mark in marks:
        if booked := work.transaction(mark):
            raise InvalidValue(
                f"{change.account}: the reference {reference!r} is booked already, in transaction {booked['id']}; "
                "use another one if this is another adjustment"
            )
    details = {"reference": reference} if reference else {}
    return correct(work, policy, Correction(ADJUST, (change,), reason, details, marks), now)


def release(
    work: Work, policy: PolicySet, change: Change, *, holders: Iterable[str], reason: str, now: datetime
) -> Corrected:
    """Give back what vanished `holders` had in hand of one account and did not use; a late report is charged as it says.

    Raises `InvalidValue`: no reason, an account that was never opened, or more than stands unreconciled with them.
    """
    _check_reason(reason)
    account, unit = _known(work, change)
    if change.amount < 0:
        raise InvalidValue(f"{change.account}: what is unreconciled can only be given back; adjust it to charge more")
    left, told = change.amount, {}
    for lease in (work.lease(holder, change.account) for holder in holders):
        if lease.lapsed and left > 0 < lease.outstanding:
            told[lease.holder] = min(left, lease.outstanding)
            left -= told[lease.holder]
            work.put_lease(lease.grown(-told[lease.holder]))
    if left:
        stands, asked = (format_amount(value, Unit(unit)) for value in (account.unreconciled, change.amount))
        raise InvalidValue(
            f"{change.account}: {stands} {unit} stands unreconciled and {asked} cannot be given back of it"
        )
    limit = limit_of(policy, change.account, account, unit)
    released = rules.reconcile(account, limit, change.amount)
    work.put(released, unit)
    settle_carry(work, limit, account, released, now)
    entries = transfer(change.account, unit, change.amount, source="unreconciled", target="balance")
    transaction = Transaction(new_id(), now.isoformat(), RELEASE, entries, {"reason": reason, "holders": told})
    line = ChargeLine(change.account, change.amount, released.balance)
    work.book(Booking(transaction, payments=((line, ""),)))
    settle(work, policy, now)
    return Corrected(transaction.id, ((change.account, change.amount, released.spent, released.balance),))


def refund(work: Work, policy: PolicySet, request: str, *, cost: int | None, reason: str, now: datetime) -> Corrected:
    """Give a booked request back, once: all of it, or the part of its cost that `cost` names (nano-dollars).

    Every account that it was charged to gets the same share back; accounts of money exactly, others rounded down.
    Raises what `correct` raises, and `InvalidValue` for requests that are unknown, refunded already, or cost less.
    """
    usage = work.transaction(request)
    if usage is None or usage["kind"] != "usage":
        raise InvalidValue(f"request {request}: it is not in the ledger; the answer's Tollkeeper-Request-Id names it")
    mark = f"{REFUND}/{request}"
    if before := work.transaction(mark):
        raise InvalidValue(f"request {request}: it was refunded already, in transaction {before['id']}")
    changes = _shares(request, usage, cost)
    correction = Correction(REFUND, changes, reason, {"request_id": request}, (mark,))
    return correct(work, policy, correction, now)


def _shares(request: str, usage: Mapping[str, Any], cost: int | None) -> tuple[Change, ...]:
    row = next(row for row in rows_of(usage) if row["request_id"] == request)
    booked_on = {entry["account"].removesuffix(_SPENT) for entry in usage["entries"]}
    charged = [
        Change(one["account"], one["amount"]) for one in row["charges"] if one["amount"] and one["account"] in booked_on
    ]
    whole = row["cost"]
    if cost is None or cost == whole:
        return tuple(charged)
    if cost <= 0 or whole is None or cost > whole:
        says = "has no price" if whole is None else f"cost {format_amount(whole, Unit.USD)} USD"
        asked = format_amount(cost, Unit.USD)
        raise InvalidValue(f"request {request}: it {says}, and {asked} cannot be given back; refund it whole, or less")
    return tuple(part for one in charged if (part := Change(one.account, one.amount * cost // whole)).amount)
