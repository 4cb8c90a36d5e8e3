"""Opening accounts and putting credit into them: allocation, rollover, grants and what is carried of them."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from tollkeeper import accounts as rules
from tollkeeper.accounts import Account
from tollkeeper.books import Grant, GrantState
from tollkeeper.errors import InvalidValue
from tollkeeper.grants import Share, remaining
from tollkeeper.limits import Limit
from tollkeeper_ledger.chain import Entry, Transaction, transfer
from tollkeeper_ledger.identity import new_id
from tollkeeper_ledger.work import BookedGrant, BookedShare, Booking, ChargeLine, Work

LONGEST_GAP = 1000
"""How many windows without an account a rollover is followed through."""


def open_account(work: Work, limit: Limit, key: tuple[str, ...], now: datetime) -> Account:
    """The account that counts `key` at `now`; opened if it is new; with the limit's allocation as it is now."""
    identity, window = limit.account_at(key, now)
    known = work.account(identity.text)
    if known is None:
        fresh = Account(identity.text, window.start if window.end else None, window.end, allocation=0)
        previous = work.previous_account(identity.text)
        carried = _carried(work, previous, now) if previous else ()
        rolled = _rolled_over(limit, previous, sum(remaining_of(work, previous).values()), fresh) if previous else 0
        return _credit(work, limit, fresh, allocation=limit.allocation, rolled_over=rolled, carried=carried, now=now)
    account, _ = known
    if account.allocation != limit.allocation:
        return _credit(work, limit, account, allocation=limit.allocation - account.allocation, now=now)
    return account


def _carried(work: Work, previous: Account, now: datetime) -> tuple[Share, ...]:
    """What is left of unexpired grants goes along into the next window."""
    left = remaining_of(work, previous)
    alive = (b.share for b in work.shares_of(previous.id) if not b.expired and not _is_over(b.share, now))
    return tuple(replace(share, amount=left[share.grant]) for share in alive if left[share.grant] > 0)


def _is_over(share: Share, now: datetime) -> bool:
    return share.expires_at is not None and share.expires_at <= now


def remaining_of(work: Work, account: Account, *, held: int = 0) -> dict[str, int]:
    """What is left of each grant of an account; less what `held` may still take of it."""
    shares = [booked.share for booked in work.shares_of(account.id)]
    base = account.allocation + account.rolled_over
    return remaining(shares, base=base, used=account.spent + account.unreconciled + held)


def _rolled_over(limit: Limit, previous: Account, grants: int, fresh: Account) -> int:
    """What goes over from the window before, through windows without an account, at most the limit's rollover.

    What is left of `grants` is never part of it: it is carried as such, or its time is over.
    """
    rolled = min(limit.rollover, max(0, previous.balance - grants))
    at = previous.window_end
    for _ in range(LONGEST_GAP):
        if limit.rollover == 0 or at is None or fresh.window_start is None or at >= fresh.window_start:
            break
        rolled = min(limit.rollover, rolled + limit.allocation)
        at = limit.calendar.window_at(at).end
    return rolled


def _credit(
    work: Work,
    limit: Limit,
    account: Account,
    *,
    now: datetime,
    allocation: int = 0,
    rolled_over: int = 0,
    carried: Iterable[Share] = (),
) -> Account:
    shares = tuple(carried)
    granted = sum(share.amount for share in shares)
    credited = rules.credit(account, limit, allocation=allocation, rolled_over=rolled_over, granted=granted)
    work.put(credited, limit.unit)
    for share in shares:
        work.shares[account.id, share.grant] = BookedShare(account.id, share)
    entries: list[Entry] = []
    for side, amount in (("allocation", allocation), ("rollover", rolled_over), ("grants", granted)):
        if amount:
            entries += transfer(account.id, limit.unit, amount, source=side, target="balance")
    work.book(Booking(Transaction(new_id(), now.isoformat(), "allocate", tuple(entries))))
    return credited


def book_grant(work: Work, grant: Grant, limit: Limit, now: datetime) -> GrantState:
    """Book a grant once; one that is booked answers how it stands. Raises `InvalidValue` for budgets counted `per:`."""
    booked = work.grant(grant.id)
    if booked is None:
        if limit.per or limit.each_tenant:
            raise InvalidValue(
                f"TokenGrant {grant.ref.namespace}/{grant.name}: {limit.ref} has an account for each key, "
                "and a grant names no key; grant to a budget without per: and without tenantSelector:"
            )
        booked = _book_new(work, grant, limit, now)
    account = open_account(work, limit, (), now)
    if grant.expires_at is None or grant.expires_at > now:
        return GrantState(grant.id, booked.transaction, remaining_of(work, account).get(grant.id, 0), expired=False)
    left = _expire(work, limit, account, grant.id, now)
    return GrantState(grant.id, booked.transaction, left, expired=left == 0)


def _book_new(work: Work, grant: Grant, limit: Limit, now: datetime) -> BookedGrant:
    account = open_account(work, limit, (), now)
    credited = rules.credit(account, limit, granted=grant.amount)
    work.put(credited, limit.unit)
    share = Share(grant.id, grant.amount, grant.priority, grant.created, grant.expires_at)
    work.shares[account.id, grant.id] = BookedShare(account.id, share)
    entries = transfer(account.id, limit.unit, grant.amount, source="grants", target="balance")
    details = {"grant": grant.id, "name": grant.name, "reason": grant.reason, "reference": grant.reference}
    transaction = Transaction(new_id(), now.isoformat(), "grant", entries, details)
    line = ChargeLine(account.id, grant.amount, credited.balance)
    work.book(Booking(transaction, payments=((line, grant.id),)))
    work.grants[grant.id] = BookedGrant(grant, transaction.id)
    return work.grants[grant.id]


def _expire(work: Work, limit: Limit, account: Account, grant: str, now: datetime) -> int:
    """Take out what is left of a grant whose time is over; what was burned of it stays booked.

    What is held out of it stays as well until it is settled or given back, so that nothing in flight passes the cap (I1);
    the answer is how much that is. At 0 the grant is expired for good.
    """
    share = next((s for s in work.shares_of(account.id) if s.share.grant == grant and not s.expired), None)
    if share is None:
        return 0
    left, free = (remaining_of(work, account, held=held)[grant] for held in (0, account.held))
    if free == 0 and left > 0:
        return left
    work.put(rules.credit(account, limit, granted=-free), limit.unit)
    kept = replace(share.share, amount=share.share.amount - free)
    work.shares[account.id, grant] = replace(share, share=kept, expired=left == free)
    entries = transfer(account.id, limit.unit, free, source="balance", target="grants") if free else ()
    work.book(Booking(Transaction(new_id(), now.isoformat(), "expire", entries, {"grant": grant})))
    return left - free
