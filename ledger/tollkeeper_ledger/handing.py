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
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from tollkeeper import accounts as rules
from tollkeeper.accounts import Account
from tollkeeper.grants import Carry, Share, carry, continued, own_left, rolled
from tollkeeper.identity import new_id
from tollkeeper.limits import Limit
from tollkeeper.policy import PolicySet
from tollkeeper.windows import format_time
from tollkeeper_ledger.chain import Entry, Transaction, transfer
from tollkeeper_ledger.limiting import NotInForce, parse_account
from tollkeeper_ledger.work import BookedShare, Booking, Work

CARRY, CONTINUE, OWE = "carry", "continue", "owe"
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


def has_followers(work: Work, account: Account, now: datetime) -> bool:
    """Whether an account has ended and another one has what it had left."""
    if account.window_end is None or account.window_end > now:
        return False
    return work.next_account(account) is not None or cut_into(work, account) is not None


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


def before(work: Work, account: Account) -> Account | None:
    """The account whose window ended before this one's began; where it was cut off, the one in which it goes on."""
    previous = work.previous_account(account.id)
    while previous is not None and (into := cut_into(work, previous)):
        known = work.account(into)
        previous = known[0] if known else None
    return previous


def _hand_on(work: Work, limit: Limit, before: Holding | None, after: Holding, now: datetime) -> None:
    account = after[0]
    if account.window_end is None or account.window_end > now:
        return
    if into := cut_into(work, account):
        was, is_now = (continued(*holding, now) if holding else Carry(0, ()) for holding in (before, after))
        if known := work.account(into):
            _give(work, limit, known[0], was, is_now, now, _transaction(CONTINUE, account, now))
        return
    following = work.next_account(account)
    if following is None:
        return
    if isinstance(limit, NotInForce) and before:
        _owe(work, before, after, following, now)
    was = carry(limit, *before, following.window_start, now) if before else Carry(0, ())
    is_now = carry(limit, *after, following.window_start, now)
    _give(work, limit, following, was, is_now, now, _transaction(CARRY, account, now))


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


def cut_into(work: Work, account: Account) -> str | None:
    """The account in which one goes on whose window was cut off where it ends now; `None` for one that ended by itself."""
    if account.window_end is None:
        return None
    booked = work.transaction(_cut_mark(account.id, account.window_end))
    return str(booked["usage"]["into"]) if booked else None


def _cut_mark(account: str, end: datetime) -> str:
    return f"{CONTINUE}/{account}/{format_time(end)}"


def go_on(work: Work, limit: Limit, old: Account, new: Account, now: datetime, was: Carry | None = None) -> Account:
    """Let what is in `old`, which ends now, go on in `new`, which counts from now on.

    `was` is what `new` handed on itself when it was cut off; without, nothing in it is from the other one but its grants.
    """
    is_now, end = continued(old, alive(work, old), now), now
    if was is None:
        was = Carry(0, continued(new, alive(work, new), now).shares)
        if work.below.account(new.id) is not None:
            # Its own windows may have rolled the same over before: what was put in is not given twice, what is used counts.
            is_now = replace(is_now, rolled_over=0)
    while work.booked_among([_cut_mark(old.id, end)]):
        end += _TICK
    work.put(replace(old, window_end=end), limit.unit)
    transaction = _transaction(CONTINUE, old, now, into=new.id)
    return _give(work, limit, new, was, is_now, now, transaction, (_cut_mark(old.id, end),))


def take_up(work: Work, limit: Limit, account: Account, was: Carry, now: datetime) -> Account:
    """An account comes back that handed on `was` when it was cut off, and what took it has ended by itself since: of its
    grants there is what the last one left."""
    head, _, unit = account.id.rsplit("@", 2)
    last = work.previous_account(f"{head}@{format_time(now)}@{unit}")
    if last is None or last.id == account.id:
        return account
    left = carry(limit, last, alive(work, last), now, now).shares
    return _give(work, limit, account, Carry(0, was.shares), Carry(0, left), now, _transaction(CARRY, last, now))


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
    ends, starts = closed[0].window_end, following[0].window_start
    was, is_now = (Carry(rolled(limit, own, ends, starts), ()) for own in told["own"])
    transaction = _transaction(CARRY, closed[0], now, owed=owed["id"])
    _give(work, limit, following[0], was, is_now, now, transaction, (paid,))
    return True
