"""What an account that has ended hands on to the one after it.

A closed window stays open for what is late (B6): a usage, a lease that comes back, a correction. Whatever that changes
in what the window had left changes what the next one was given, by a `carry` transaction there (`settle_carry`); so no
grant or rollover is spent twice, or lost because it was held when the window ended.

How much rolls over is for the limit to say. Where it is not in force (a correction is booked while nothing runs, an object
is gone), an `owe` transaction notes what the window had left before and after; `settle_owed` hands it on, once, when the
limit is known again: nothing, where it rolls nothing over by then, as a prepaid one. What is left of grants needs no limit
and goes at once.

A window that was cut off by one that overlaps it (B7) hands on everything, what is used up as well: `go_on`, and again
`settle_carry` for what is late, by a `continue` transaction.

Who has what an account had left is for `heirs` to say.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from tollkeeper import accounts as rules
from tollkeeper.accounts import Account
from tollkeeper.grants import Carry, Share, carries, carry, continued, own_left, rolled
from tollkeeper.identity import new_id
from tollkeeper.limits import Limit
from tollkeeper.policy import PolicySet
from tollkeeper_ledger.chain import Entry, Transaction, transfer
from tollkeeper_ledger.heirs import (
    CARRY,
    CONTINUE,
    GRANTS_ONLY,
    Heir,
    as_it_was,
    before,
    cut_into,
    cut_mark,
    follow_mark,
    heir_of,
    last_ended,
    next_back_mark,
)
from tollkeeper_ledger.limiting import NotInForce, parse_account
from tollkeeper_ledger.state import BookedShare, Booking
from tollkeeper_ledger.work import Work

OWE = "owe"
OWED, PAID = "owed/", "paid/"
"""What the marks of what is owed, and of what was handed on of that, begin with; the rest is the account that owes, and
the transaction that says so."""

_TICK = timedelta(microseconds=1)
Holding = tuple[Account, Sequence[Share]]


def alive(work: Work, account: Account) -> tuple[Share, ...]:
    """What unexpired grants put into an account."""
    return tuple(booked.share for booked in work.shares_of(account.id) if not booked.expired) if account.granted else ()


def credited_entries(account: Account, limit: Limit, amounts: Iterable[tuple[str, int]]) -> list[Entry]:
    """The entries that put amounts into an account, by the side that each comes from."""
    moved = (
        transfer(account.id, limit.unit, amount, source=side, target="balance") for side, amount in amounts if amount
    )
    return [entry for pair in moved for entry in pair]


def settle_carry(work: Work, limit: Limit, before: Account, after: Account, now: datetime) -> None:
    """Hand on what a late change of a closed window's account changes in what the next window was given."""
    if after.window_end is not None and after.window_end <= now:
        shares = alive(work, after)
        _hand_on(work, limit, (before, shares), (after, shares), now)


def has_handed_on(work: Work, limit: Limit, account: Account, now: datetime) -> bool:
    """Whether an account has ended and another one has what it had left: what is set aside in it would be there twice."""
    if account.window_end is None or account.window_end > now:
        return False
    return heir_of(work, limit, account) is not None


def settle_late_opening(work: Work, limit: Limit, account: Account, now: datetime) -> None:
    """An account was opened, and charged, after the next window's: that one was given what the window before had left, or
    nothing, and is given what this one has left instead. One that goes on with an account that it cut off was given all
    of that, and nothing of this one.
    """
    following = work.next_account(account)
    if following is None or (following.window_start and work.overlapping(following.id, following.window_start)):
        return
    previous = before(work, account)
    given = (previous, alive(work, previous)) if previous else None
    _hand_on(work, limit, given, (account, alive(work, account)), now)


def _hand_on(work: Work, limit: Limit, before: Holding | None, after: Holding, now: datetime) -> None:
    account = after[0]
    heir = heir_of(work, limit, account) if account.window_end and account.window_end <= now else None
    if heir is None:
        return
    if not heir.is_cut and not heir.grants_only and isinstance(limit, NotInForce) and before:
        _owe(work, before, after, heir.account, now)
    was = _inherited(limit, heir, before, now) if before else Carry(0, ())
    is_now = _inherited(limit, heir, after, now)
    transaction = _transaction(CONTINUE if heir.is_cut else CARRY, account, now)
    _give(work, limit, heir.account, was, is_now, now, transaction)


def _inherited(limit: Limit, heir: Heir, of: Holding, now: datetime) -> Carry:
    if heir.is_cut and not heir.grants_only:
        return continued(*of, now)
    given = carry(limit, *of, heir.start, now)
    return Carry(0, given.shares) if heir.grants_only else given


def _transaction(kind: str, account: Account, now: datetime, **details: object) -> Transaction:
    return Transaction(new_id(), now.isoformat(), kind, (), {"from": account.id, **details})


def _give(
    work: Work,
    limit: Limit,
    account: Account,
    was: Carry,
    is_now: Carry,
    now: datetime,
    transaction: Transaction,
    marks: tuple[str, ...] = (),
) -> Account:
    """Give an account the difference between two carries; booked where there is one, or where it is booked by a mark."""
    held_before = alive(work, account)
    changes = _changed_shares(work, account, was, is_now)
    rolls = is_now.rolled_over - was.rolled_over
    granted = sum(change for _, change in changes)
    # A correction may have given back what was taken over as spent; nothing is given back twice.
    used = max(is_now.used - was.used, -account.spent)
    if not (rolls or changes or used or marks):
        return account
    changed = rules.take_over(rules.credit(account, limit, rolled_over=rolls, granted=granted), limit, used)
    work.put(changed, limit.unit)
    for share, change in changes:
        work.shares[account.id, share.grant] = BookedShare(account.id, replace(share, amount=share.amount + change))
    entries = credited_entries(account, limit, (("rollover", rolls), ("grants", granted)))
    if used:
        entries += transfer(account.id, limit.unit, used, source="balance", target="spent")
    work.book(Booking(replace(transaction, entries=tuple(entries)), marks=marks))
    _hand_on(work, limit, (account, held_before), (changed, alive(work, changed)), now)
    return changed


def _changed_shares(work: Work, following: Account, was: Carry, is_now: Carry) -> list[tuple[Share, int]]:
    """The grants of which more or less goes over, as they stand in the next window, and by how much each changes."""
    expired = {booked.share.grant for booked in work.shares_of(following.id) if booked.expired}
    standing = {booked.share.grant: booked.share for booked in work.shares_of(following.id)}
    known = {share.grant: share for share in (*was.shares, *is_now.shares)}
    changes = ((s, is_now.amounts.get(g, 0) - was.amounts.get(g, 0)) for g, s in known.items() if g not in expired)
    return [(standing.get(s.grant, replace(s, amount=0)), change) for s, change in changes if change]


# Windows that overlap (B7).


def counting_until(work: Work, limit: Limit, account: Account, end: datetime | None) -> Account:
    """The account, as one whose window ends then."""
    until = replace(account, window_end=end)
    work.put(until, limit.unit)
    return until


def go_on(work: Work, limit: Limit, old: Account, new: Account, now: datetime) -> Account:
    """Let what is in `old`, which counted until now, go on in `new`, which was opened and counts from now on."""
    return _cut_off(work, limit, old, new, Carry(0, ()), now)


def come_back(
    work: Work, limit: Limit, overlapped: Account | None, account: Account, end: datetime | None, now: datetime
) -> Account:
    """An account that has ended counts again, until its window ends, and goes on with the one that counts until now.

    Where none does, the last one has ended by itself: then it has of its own what it had left when it ended, as that is known
    now, and of grants what the last one left.
    """
    _take_home(work, limit, account, now)
    if overlapped is None:
        return _take_up(work, limit, account, end, now)
    overlapped, was = _known(work, overlapped), continued(_without_held(account), alive(work, account), now)
    mark, was_cut = next_back_mark(work, account), _where_it_went_on(work, account, now)
    back = counting_until(work, limit, account, end)
    return _cut_off(work, limit, overlapped, back, was, now, (mark,), **was_cut)


def _where_it_went_on(work: Work, account: Account, now: datetime) -> dict[str, str | None]:
    return {"former": cut_into(work, account), "until": (account.window_end or now).isoformat()}


def _known(work: Work, account: Account) -> Account:
    known = work.account(account.id)
    return known[0] if known else account


def _take_home(work: Work, limit: Limit, account: Account, now: datetime) -> None:
    """What an account that comes back holds itself stands as used where it was handed on: it is given back there."""
    if account.held or account.unreconciled:
        shares = alive(work, account)
        _hand_on(work, limit, (account, shares), (_without_held(account), shares), now)


def _without_held(account: Account) -> Account:
    return replace(account, held=0, unreconciled=0)


def _cut_off(
    work: Work,
    limit: Limit,
    old: Account,
    new: Account,
    was: Carry,
    now: datetime,
    marks: Iterable[str] = (),
    **details: object,
) -> Account:
    """End `old`, and give `new` what is in it instead of what it `was` given."""
    is_now, end = continued(old, alive(work, old), now), now
    while work.booked_among([cut_mark(old.id, end)]):
        end += _TICK
    work.put(replace(old, window_end=end), limit.unit)
    transaction = _transaction(CONTINUE, old, now, into=new.id, **details)
    return _give(work, limit, new, was, is_now, now, transaction, (cut_mark(old.id, end), *marks))


def follow(work: Work, limit: Limit, last: Account, account: Account, now: datetime) -> Account:
    """An account was opened whose window began before that of the `last` one ended by itself: it is its heir all the same."""
    is_now = carry(limit, last, alive(work, last), account.window_start, now)
    return _inherit(work, limit, last, account, Carry(0, ()), is_now, now)


def keep_heir(work: Work, fresh: Account, now: datetime) -> None:
    """An account is to be opened whose window begins between that of one that ended by itself and that of its heir: who the
    heir is, is written down, for it is the next window's no longer."""
    ended = work.previous_account(fresh.id)
    heir = work.next_account(ended) if ended else None
    if ended is None or heir is None or not _begins_before(fresh, heir) or cut_into(work, ended):
        return
    since = ended.window_end or now
    mark = follow_mark(ended.id, since)
    if work.transaction(mark) is None:
        transaction = _transaction(CARRY, ended, now, into=heir.id, since=since.isoformat())
        work.book(Booking(transaction, marks=(mark,)))


def _begins_before(one: Account, other: Account) -> bool:
    return bool(one.window_start and other.window_start and one.window_start < other.window_start)


def _take_up(work: Work, limit: Limit, account: Account, end: datetime | None, now: datetime) -> Account:
    last = last_ended(work, account, now) if carries(limit) else None
    if last is None or last.id == account.id:
        return counting_until(work, limit, account, end)
    mark, was_cut = next_back_mark(work, account), _where_it_went_on(work, account, now)
    own, shares = _without_held(account), alive(work, account)
    was, left = continued(own, shares, now), carry(limit, last, alive(work, last), now, now).shares
    # What it had overdrawn was handed on, and grants have paid for it there: they do not pay for it again.
    used = own.allocation + was.rolled_over - max(own_left(own, shares), -own.borrowed)
    back = counting_until(work, limit, account, end)
    is_now = Carry(was.rolled_over, left, used)
    return _inherit(work, limit, last, back, was, is_now, now, (mark,), only=GRANTS_ONLY, **was_cut)


def _inherit(
    work: Work,
    limit: Limit,
    last: Account,
    account: Account,
    was: Carry,
    is_now: Carry,
    now: datetime,
    marks: Iterable[str] = (),
    **details: object,
) -> Account:
    if last.borrowed:
        # Its loan ends where it is followed: `lending.settle` looks at what was put.
        work.put(last, limit.unit)
    transaction = _transaction(CARRY, last, now, into=account.id, **details)
    mark = follow_mark(last.id, last.window_end or now)
    return _give(work, limit, account, was, is_now, now, transaction, (mark, *marks))


# What is owed.


def _owe(work: Work, before: Holding, after: Holding, following: Account, now: datetime) -> None:
    own = [own_left(*holding) for holding in (before, after)]
    if own[0] != own[1]:
        transaction = _transaction(OWE, after[0], now, to=following.id, own=own)
        work.book(Booking(transaction, marks=(f"{OWED}{after[0].id}/{transaction.id}",)))


def is_payable(policy: PolicySet, mark: str) -> bool:
    """Whether what is owed under a mark can be handed on: the limit is in force, in the unit of the account that owes."""
    return _payer(policy, mark) is not None


def _payer(policy: PolicySet, mark: str) -> Limit | None:
    account = parse_account(mark.removeprefix(OWED).rpartition("/")[0])
    limit = policy.limit(account.ref)
    return limit if limit is not None and limit.unit == account.unit else None


def settle_owed(work: Work, policy: PolicySet, mark: str, now: datetime) -> bool:
    """Hand on what is owed under a mark, once, if it is payable; whether that was done."""
    owed, limit, paid = work.transaction(mark), _payer(policy, mark), PAID + mark.removeprefix(OWED)
    if owed is None or limit is None or work.booked_among([paid]):
        return False
    told = owed["usage"]
    closed, following = work.account(told["from"]), work.account(told["to"])
    if closed is None or following is None:
        return False
    ends, begins = closed[0].window_end, following[0].window_start
    heir = as_it_was(work, Heir(following[0], begins), since=datetime.fromisoformat(owed["time"]))
    was, is_now = (Carry(0 if heir.grants_only else rolled(limit, own, ends, heir.start), ()) for own in told["own"])
    transaction = _transaction(CARRY, closed[0], now, owed=owed["id"])
    _give(work, limit, heir.account, was, is_now, now, transaction, (paid,))
    return True
