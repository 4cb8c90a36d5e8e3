"""The rules by which the ledger changes. Each function is one step: it reads and changes a `Work`, or raises and leaves it.

Sides of an account in the chain: `balance` is what is left; `allocation`, `rollover`, `grants` and `borrowed` are where
credit comes from; `spent` and `unreconciled` are where it goes; `lendable` and `lent` say what it lends. So the sum of all
entries on `<account>#balance` is the balance (R29).
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from tollkeeper import accounts as rules
from tollkeeper.accounts import Account
from tollkeeper.amounts import Unit
from tollkeeper.errors import InvalidValue
from tollkeeper.identity import new_id
from tollkeeper.leases import (
    Granted,
    LeaseReply,
    LeaseRequest,
    Reason,
    Refusal,
    Standing,
    Want,
    decide,
    standing_of,
    too_late,
)
from tollkeeper.limits import Limit
from tollkeeper.policy import PolicySet
from tollkeeper_ledger.chain import Transaction, transfer
from tollkeeper_ledger.charging import charge_all as charge_all
from tollkeeper_ledger.lending import before_grant, generation, settle
from tollkeeper_ledger.limiting import limit_of, parse_account
from tollkeeper_ledger.opening import has_handed_on, kept_up, open_account, settle_carry
from tollkeeper_ledger.work import Booking, Holder, Lease, Work


def lease(work: Work, policy: PolicySet, request: LeaseRequest, now: datetime, expires: datetime) -> LeaseReply:
    """Take back what is returned; then grant or refuse want by want (I1). A batch that was heard before does neither (I3)."""
    known = work.holder(request.holder)
    if known.closed:
        raise InvalidValue(f"holder {request.holder} has ended; a new start of the gateway takes a new name")
    if request.sequence <= known.sequence:
        return LeaseReply()
    for account, amount in request.returns.items():
        _take_back(work, policy, request.holder, account, amount, now)
    if known.lapsed:
        revive(work, policy, request.holder, now)
    work.holders[request.holder] = Holder(request.holder, request.sequence)
    granted: list[Granted] = []
    refused: list[Refusal] = []
    wants = sorted(request.wants, key=lambda want: generation(policy, want.account)) if policy.lends else request.wants
    for want in wants:
        verdict = _grant(work, policy, request.holder, want, now)
        if isinstance(verdict, Refusal):
            refused.append(verdict)
        else:
            granted.append(Granted(want.account, verdict, expires))
    settle(work, policy, now, also=[refusal.account for refusal in refused])
    others = _standings(work, policy, request, granted) if refused else ()
    return LeaseReply(tuple(granted), tuple(refused), others)


def _standings(
    work: Work, policy: PolicySet, request: LeaseRequest, granted: Iterable[Granted]
) -> tuple[Standing, ...]:
    """How the accounts stood that granted something, each before it did."""
    needs = {want.account: want.need for want in request.wants}
    found = []
    for one in granted:
        if known := work.account(one.account):
            account, unit = known
            limit = limit_of(policy, one.account, account, unit)
            found.append(standing_of(limit, rules.release(account, one.amount), needs[one.account]))
    return tuple(found)


def _grant(work: Work, policy: PolicySet, holder: str, want: Want, now: datetime) -> int | Refusal:
    found = _asked(work, policy, want.account, now)
    if found is None:
        return _unknown(want)
    limit, account = found
    if has_handed_on(work, limit, account, now):
        return too_late(limit, account, want)
    account, lendable = before_grant(work, policy, holder, limit, account, want, now)
    amount = decide(limit, account, want, now, lendable)
    if isinstance(amount, int):
        work.put(rules.hold(account, amount), limit.unit)
        work.put_lease(work.lease(holder, want.account).grown(amount))
    return amount


def _asked(work: Work, policy: PolicySet, name: str, now: datetime) -> tuple[Limit, Account] | None:
    """An account and its limit: of the window that is now, opened if need be; of another only if it was opened then."""
    counting, known = policy.counting(name, now), work.account(name)
    try:
        if counting is not None and known is not None:
            return counting.limit, kept_up(work, counting.limit, known[0], counting.window, now)
        if counting is not None:
            return counting.limit, open_account(work, counting.limit, counting.account.key, now)
    except InvalidValue:
        # One tenant's amounts that fit no column must not take the batch of all others along.
        return None
    limit = policy.limit(parse_account(name).ref)
    # The limit may be gone since the holder asked, or count in another unit.
    return (limit, known[0]) if known and limit and limit.unit == known[1] else None


def _unknown(want: Want) -> Refusal:
    return Refusal(
        account=want.account,
        ref=parse_account(want.account).ref,
        tenants=frozenset(),
        unit=Unit.REQUESTS,
        reason=Reason.UNKNOWN_ACCOUNT,
        phase=rules.Phase.INSUFFICIENT,
        balance=0,
        minimum=0,
        available=0,
        need=want.need,
        resets=None,
    )


def _take_back(work: Work, policy: PolicySet, holder: str, account: str, amount: int, now: datetime) -> None:
    """Return unused amounts; never more than the holder has."""
    lease = work.lease(holder, account)
    known = work.account(account)
    given_back = min(amount, lease.outstanding)
    if known is None or given_back <= 0:
        return
    book, unit = known
    limit = limit_of(policy, account, book, unit)
    if lease.lapsed:
        changed = _book_reconciled(work, limit, book, unit, given_back, now)
    else:
        changed = rules.release(book, given_back)
        work.put(changed, unit)
    settle_carry(work, limit, book, changed, now)
    work.put_lease(lease.grown(-given_back))


def lapse(work: Work, policy: PolicySet, holder: str, now: datetime) -> None:
    """A holder was not heard of for too long: what it holds counts as unreconciled from now on (I2)."""
    for lease in work.leases_of(holder).values():
        if not lease.lapsed and lease.outstanding > 0:
            _lapse_one(work, policy, lease, now)
            work.holders[holder] = replace(work.holder(holder), lapsed=True)
    settle(work, policy, now)


def _lapse_one(work: Work, policy: PolicySet, lease: Lease, now: datetime) -> None:
    known = work.account(lease.account)
    if known is None:
        return
    account, unit = known
    work.put(rules.lapse(account, limit_of(policy, lease.account, account, unit), lease.outstanding), unit)
    work.put_lease(replace(lease, lapsed=True))
    entries = transfer(lease.account, unit, lease.outstanding, source="balance", target="unreconciled")
    work.book(Booking(Transaction(new_id(), now.isoformat(), "lapse", entries, {"holder": lease.holder})))


def revive(work: Work, policy: PolicySet, holder: str, now: datetime) -> None:
    """A holder that was thought gone is back: what it has not returned or reported is held again."""
    for lease in work.leases_of(holder).values():
        known = work.account(lease.account)
        if known is None or not lease.lapsed:
            continue
        account, unit = known
        if lease.outstanding > 0:
            limit = limit_of(policy, lease.account, account, unit)
            back = _book_reconciled(work, limit, account, unit, lease.outstanding, now)
            work.put(rules.hold(back, lease.outstanding), unit)
        # An empty one too: what is granted on it next is held, not unreconciled.
        work.put_lease(replace(lease, lapsed=False))


def close(work: Work, policy: PolicySet, holder: str, kept: Mapping[str, int], now: datetime) -> None:
    """End a holder: `kept` stays as unreconciled usage, the rest of its leases is free again."""
    for lease in work.leases_of(holder).values():
        unused = lease.outstanding - max(0, kept.get(lease.account, 0))
        _take_back(work, policy, holder, lease.account, unused, now)
    lapse(work, policy, holder, now)
    work.holders[holder] = replace(work.holder(holder), closed=True)


def forget(work: Work, known: Holder) -> bool:
    """Forget a holder that has no lease and is known as it was for long; whether that is so still.

    A report of it is charged all the same, for nothing stands for its usage that it could replace. Only a call for leases
    that it sent before would be taken for a new holder's: see `QUIET_SECONDS` of the authority.
    """
    if known == Holder(known.holder) or work.holder(known.holder) != known or work.leases_of(known.holder):
        return False
    work.forgotten.add(known.holder)
    return True


def _book_reconciled(work: Work, limit: Limit, account: Account, unit: str, amount: int, now: datetime) -> Account:
    reconciled = rules.reconcile(account, limit, amount)
    work.put(reconciled, unit)
    entries = transfer(account.id, unit, amount, source="unreconciled", target="balance")
    work.book(Booking(Transaction(new_id(), now.isoformat(), "reconcile", entries)))
    return reconciled


def cross(work: Work, account: str, threshold: int) -> bool:
    """Whether an account crosses a threshold for the first time; from then on it has."""
    if work.crossed(account, threshold):
        return False
    work.crossings.add((account, threshold))
    return True
