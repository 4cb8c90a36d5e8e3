"""Granting one want: the hot path of lease calls, and the whole of the rules for the accounts that need them.

Of most accounts nothing but what is held changes from one lease call to the next. What a want asks of such an account is
worked out once (`Terms`) and remembered with it; a grant is then an addition and two comparisons. `_whole` is the same for
every account: those near their cap, with loans, with grants whose time may be over, of windows that have ended or begin.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from tollkeeper import accounts as rules
from tollkeeper.accounts import Account, Phase
from tollkeeper.amounts import Unit
from tollkeeper.errors import InvalidValue
from tollkeeper.leases import Granted, Reason, Refusal, Want, decide, sized, too_late
from tollkeeper.limits import Limit
from tollkeeper.policy import BoundAccount, PolicySet
from tollkeeper_ledger.handing import has_handed_on
from tollkeeper_ledger.lending import before_grant
from tollkeeper_ledger.limiting import parse_account
from tollkeeper_ledger.opening import first_expiry, kept_up, open_account
from tollkeeper_ledger.work import Lease, Work

_TERMS = "terms"
_row = tuple.__new__
"""What a named tuple's own constructor does, without its call: a grant makes two."""


class Terms(NamedTuple):
    """What an account grants out of by itself, while nothing of it changes but what is held (I1): `room - held` at most.

    So it is for what the policy binds it by (`bound`), until the first grant in it expires. Without a `room` more must be
    looked at.
    """

    bound: BoundAccount
    room: int | None
    until: datetime | None


def grant_all(
    work: Work, policy: PolicySet, holder: str, wants: Iterable[Want], now: datetime, expires: datetime
) -> tuple[list[Granted], list[Refusal]]:
    """Set aside what each want gets, at least its need (I1), or say why nothing; in this order."""
    granted, refused = list[Granted](), list[Refusal]()
    counting, account_below = policy.counting, work.below.account
    accounts, held = work.accounts, work.held
    leases, leases_below = work.leases.setdefault(holder, {}), work.below.leases_of(holder)
    for want in wants:
        name = want.account
        own = accounts.get(name)
        known, bound = own or account_below(name), counting(name, now)
        if known is not None and bound is not None:
            account = known[0]
            terms: Terms | None = account.__dict__.get(_TERMS)
            if terms is None or terms[0] is not bound:
                terms = account.__dict__[_TERMS] = _terms(work, bound, account)
            _, room, until = terms
            before = held.get(name)
            if before is None:
                before = account.held
            if room is not None and room - before >= want.need and (until is None or now < until):
                amount = sized(want, room - before)
                if own is None:
                    held[name] = before + amount
                else:
                    accounts[name] = rules.hold(account, amount), known[1]
                lease = leases.get(name) or leases_below.get(name)
                if lease is None:
                    leases[name] = Lease(holder, name, amount)
                else:
                    leases[name] = _row(Lease, (holder, name, lease[2] + amount, lease[3]))
                granted.append(_row(Granted, (name, amount, expires)))
                continue
        verdict = _whole(work, policy, holder, want, now)
        if isinstance(verdict, Refusal):
            refused.append(verdict)
        else:
            granted.append(Granted(name, verdict, expires))
    return granted, refused


def _terms(work: Work, bound: BoundAccount, account: Account) -> Terms:
    limit = bound.limit
    if limit.borrowing or account.borrowed or account.phase(limit) is Phase.INSUFFICIENT:
        return Terms(bound, None, None)
    if (account.window_end, account.minimum, account.allocation) != (bound.window.end, limit.minimum, limit.allocation):
        return Terms(bound, None, None)
    return Terms(bound, account.room(limit), first_expiry(work, account))


def _whole(work: Work, policy: PolicySet, holder: str, want: Want, now: datetime) -> int | Refusal:
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
