"""The rules by which the ledger changes. Each function is one step: it reads and changes a `Work`, or raises and leaves it.

Sides of an account in the chain: `balance` is what is left; `allocation`, `rollover`, `grants` and `borrowed` are where
credit comes from; `spent` and `unreconciled` are where it goes; `lendable` and `lent` say what it lends. So the sum of all
entries on `<account>#balance` is the balance (R29).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from tollkeeper import accounts as rules
from tollkeeper.accounts import Account
from tollkeeper.counters import Counters
from tollkeeper.errors import InvalidValue
from tollkeeper.identity import new_id
from tollkeeper.leases import Granted, LeaseReply, LeaseRequest, Reason, Standing, standing_of
from tollkeeper.limits import Limit
from tollkeeper.policy import PolicySet
from tollkeeper.usage import UsageRecord
from tollkeeper_ledger.chain import Transaction, transfer
from tollkeeper_ledger.charging import charge_all as charge_all
from tollkeeper_ledger.granting import grant_all, grant_apart
from tollkeeper_ledger.lending import generation, settle
from tollkeeper_ledger.limiting import limit_of
from tollkeeper_ledger.opening import settle_carry
from tollkeeper_ledger.state import Booking, Holder, Lease
from tollkeeper_ledger.work import Work


def lease(
    work: Work, policy: PolicySet, request: LeaseRequest, now: datetime, expires: datetime, *, apart: bool = False
) -> LeaseReply:
    """Take back what is returned; then grant or refuse want by want (I1). A batch that was heard before does neither (I3).

    A want that raises takes all others along, unless they stand `apart`: then it is refused for its fault.
    """
    holder = request.holder
    known = work.holder(holder)
    if known.closed:
        raise InvalidValue(f"holder {holder} has ended; a new start of the gateway takes a new name")
    if request.sequence <= known.sequence:
        return LeaseReply()
    for account, amount in request.returns.items():
        _take_back(work, policy, holder, account, amount, now)
    if known.lapsed:
        revive(work, policy, holder, now)
    work.holders[holder] = Holder(holder, request.sequence)
    if apart:
        granted, refused = grant_apart(work, policy, holder, request.wants, now, expires)
    else:
        in_turn = (
            sorted(request.wants, key=lambda want: generation(policy, want.account)) if policy.lends else request.wants
        )
        granted, refused = grant_all(work, policy, holder, in_turn, now, expires)
    settle(work, policy, now, also=[refusal.account for refusal in refused if refusal.reason is not Reason.FAULT])
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
        if limit.borrowing or book.borrowed:
            work.put(changed, unit)
        else:
            work.put_held(account, changed.held)
    settle_carry(work, limit, book, changed, now)
    work.put_lease(lease.grown(-given_back))


def report(
    work: Work, policy: PolicySet, records: Sequence[UsageRecord], now: datetime, counters: Counters | None = None
) -> None:
    """Book a report: each request once, and of each counter that comes with it the largest value that was told (I3)."""
    charge_all(work, policy, records, now)
    if counters is not None:
        work.count(counters, now)


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
    work.put_lease(lease._replace(lapsed=True))
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
        work.put_lease(lease._replace(lapsed=False))


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
    work.forget(known.holder)
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
