"""Granting one want: the hot path of lease calls, and the whole of the rules for the accounts that need them.

Of most accounts nothing but what is held changes from one lease call to the next. What a want asks of such an account is
worked out once (`Terms`) and remembered with it; a grant is then an addition and two comparisons. `_whole` is the same for
every account: those near their cap, with loans, with grants whose time may be over, of windows that have ended or begin.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

from tollkeeper import accounts as rules
from tollkeeper.accounts import Account, Phase
from tollkeeper.errors import InvalidValue, TollkeeperError, Unavailable
from tollkeeper.leases import Granted, Reason, Refusal, Want, decide, sized, too_late, unanswerable
from tollkeeper.limits import LONGEST_ACCOUNT, Limit, LimitRef
from tollkeeper.policy import PolicySet
from tollkeeper_ledger.handing import has_handed_on
from tollkeeper_ledger.lending import before_grant, generation, settle
from tollkeeper_ledger.limiting import parse_account
from tollkeeper_ledger.opening import first_expiry, kept_up, open_account
from tollkeeper_ledger.state import Lease
from tollkeeper_ledger.work import Work

_TERMS = "terms"
_NEVER = datetime.max.replace(tzinfo=UTC)
_row = tuple.__new__
"""What a named tuple's own constructor does, without its call: a grant makes two."""


class Terms(NamedTuple):
    """What an account grants out of by itself, while nothing of it changes but what is held (I1): `room - held` at most.

    So it is under one policy, by its `mark`, and before `until`: the end of the account's window, or when the first grant
    in it expires. Without a `room` more must be looked at.
    """

    mark: object
    room: int | None
    until: datetime


def grant_all(
    work: Work, policy: PolicySet, holder: str, wants: Iterable[Want], now: datetime, expires: datetime
) -> tuple[list[Granted], list[Refusal]]:
    """Set aside what each want gets, at least its need (I1), or say why nothing; in this order."""
    granted, refused = list[Granted](), list[Refusal]()
    known_below = work.below.with_held
    accounts, held, mark = work.accounts, work.held, policy.mark
    leases, leases_below = work.leases.setdefault(holder, {}), work.below.leases_of(holder)
    for want in wants:
        name = want.account
        own = accounts.get(name)
        known = (*own, own[0].held) if own else known_below(name)
        if known is not None:
            account, unit, before = known
            terms: Terms | None = account.__dict__.get(_TERMS)
            if terms is None or terms[0] is not mark or now >= terms[2]:
                terms = account.__dict__[_TERMS] = _terms(work, policy, account, now)
            room = terms[1]
            if own is None:
                before = held.get(name, before)
            if room is not None and room - before >= want.need:
                amount = sized(want, room - before)
                if own is None:
                    held[name] = before + amount
                else:
                    accounts[name] = rules.hold(account, amount), unit
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


def _terms(work: Work, policy: PolicySet, account: Account, now: datetime) -> Terms:
    bound = policy.counting(account.id, now)
    if bound is None:
        return Terms(policy.mark, None, now)
    limit, window = bound.limit, bound.window
    until = _earlier(window.end, first_expiry(work, account))
    if until <= now or limit.borrowing or account.borrowed or account.phase(limit) is Phase.INSUFFICIENT:
        return Terms(policy.mark, None, now)
    if (account.window_end, account.minimum, account.allocation) != (window.end, limit.minimum, limit.allocation):
        return Terms(policy.mark, None, now)
    return Terms(policy.mark, account.room(limit), until)


def _earlier(*times: datetime | None) -> datetime:
    return min((time for time in times if time), default=_NEVER)


def grant_apart(
    work: Work, policy: PolicySet, holder: str, wants: Iterable[Want], now: datetime, expires: datetime
) -> tuple[list[Granted], list[Refusal]]:
    """What `grant_all` does, each want on a work of its own with the loans that follow from it.

    One that raises is refused by itself and leaves nothing behind; only what the storage raises ends them all. It costs
    more, so it is for calls of which one want has raised.
    """
    granted, refused = list[Granted](), list[Refusal]()
    for want in sorted(wants, key=lambda want: _turn(policy, want.account)):
        own = Work(work)
        try:
            grants, refusals = grant_all(own, policy, holder, (want,), now, expires)
            settle(own, policy, now, also=[one.account for one in refusals if one.reason is not Reason.FAULT])
        except Unavailable:
            raise
        except Exception as fault:  # noqa: BLE001 - told of this account, for the others to be answered
            refused.append(_faulty(want, fault))
            continue
        work.absorb(own)
        granted += grants
        refused += refusals
    return granted, refused


def _turn(policy: PolicySet, account: str) -> int:
    try:
        return generation(policy, account)
    except InvalidValue:
        return 0  # it is no account's name, which is told when its turn comes


def _whole(work: Work, policy: PolicySet, holder: str, want: Want, now: datetime) -> int | Refusal:
    try:
        found = _asked(work, policy, want.account, now)
    except InvalidValue as fault:
        # One tenant's amounts that fit no column must not take the batch of all others along.
        return _faulty(want, fault)
    if found is None:
        return unanswerable(want.account, parse_account(want.account).ref, want.need, Reason.UNKNOWN_ACCOUNT)
    limit, account = found
    if has_handed_on(work, limit, account, now):
        return too_late(limit, account, want)
    account, later = before_grant(work, policy, holder, limit, account, want, now)
    amount = decide(limit, account, want, now, later.lendable)
    if isinstance(amount, Refusal):
        return replace(amount, lent_to=later.lent_to) if later.lent_to else amount
    work.put(rules.hold(account, amount), limit.unit)
    work.put_lease(work.lease(holder, want.account).grown(amount))
    return amount


def _asked(work: Work, policy: PolicySet, name: str, now: datetime) -> tuple[Limit, Account] | None:
    """An account and its limit: of the window that is now, opened if need be; of another only if it was opened then.

    Raises `InvalidValue`, and changes nothing by halves, where that cannot be stored.
    """
    counting, known = policy.counting(name, now), work.account(name)
    if counting is not None and known is not None and known[0].window_end == counting.window.end:
        return counting.limit, kept_up(work, counting.limit, known[0], counting.window, now)
    if counting is not None:
        if known is None and len(name) > LONGEST_ACCOUNT:
            raise InvalidValue(
                f"{counting.limit.ref}: the names that it counts by make an account of {len(name)} characters, "
                f"and at most {LONGEST_ACCOUNT} can be stored; use shorter names"
            )
        # Several accounts take part where one goes on with another (B7): all of that is done, or nothing.
        own = Work(work)
        opened = open_account(own, counting.limit, counting.account.key, now)
        work.absorb(own)
        return counting.limit, opened
    limit = policy.limit(parse_account(name).ref)
    # The limit may be gone since the holder asked, or count in another unit.
    return (limit, known[0]) if known and limit and limit.unit == known[1] else None


def _faulty(want: Want, fault: Exception) -> Refusal:
    try:
        ref = parse_account(want.account).ref
    except InvalidValue:
        ref = LimitRef("Account", "", want.account)
    told = str(fault) if isinstance(fault, TollkeeperError) else f"{want.account}: {fault!r}, which is a defect"
    return unanswerable(want.account, ref, want.need, Reason.FAULT, told)
