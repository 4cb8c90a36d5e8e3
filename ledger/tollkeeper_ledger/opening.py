"""Opening accounts and putting credit into them: allocation, rollover, grants and what is carried of them."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from tollkeeper import accounts as rules
from tollkeeper.accounts import Account
from tollkeeper.amounts import LARGEST, format_amount
from tollkeeper.books import Grant, GrantState
from tollkeeper.errors import InvalidValue
from tollkeeper.grants import Share, remaining
from tollkeeper.identity import new_id
from tollkeeper.limits import Limit
from tollkeeper_ledger.chain import Entry, Transaction, transfer
from tollkeeper_ledger.work import BookedGrant, BookedShare, Booking, ChargeLine, Work

MOST_CREDIT = LARGEST // 2
"""No account is granted more: sums of balances must fit 64 bits, whatever allocation and rollover add in later windows."""

LONGEST_GAP = 1000
"""How many windows without an account a rollover is followed through."""


def open_account(work: Work, limit: Limit, key: tuple[str, ...], now: datetime) -> Account:
    """The account that counts `key` at `now`; opened if it is new; with the limit's allocation as it is now."""
    identity, window = limit.account_at(key, now)
    known = work.account(identity.text)
    if known is None:
        begins = window.start if window.end else None
        fresh = Account(identity.text, begins, window.end, allocation=0, minimum=limit.minimum)
        previous = work.previous_account(identity.text) if _carries(limit) else None
        carried = _carried(work, previous, now) if previous else ()
        rolled = _rolled_over(work, limit, previous, fresh) if previous else 0
        granted = sum(share.amount for share in carried)
        return _credit(
            work,
            limit,
            fresh,
            allocation=limit.allocation,
            rolled_over=rolled,
            granted=granted,
            carried=carried,
            now=now,
        )
    account, _ = known
    if account.minimum != limit.minimum:
        account = rules.with_minimum(account, limit)
        work.put(account, limit.unit)
    if account.allocation != limit.allocation:
        account = _credit(work, limit, account, allocation=limit.allocation - account.allocation, now=now)
    return _carry_late(work, limit, account, now) if _takes_grants(limit) else account


def _takes_grants(limit: Limit) -> bool:
    """A grant names no key and a budget: other limits have none."""
    return limit.ref.kind == "TokenBudget" and not (limit.per or limit.each_tenant)


def _carries(limit: Limit) -> bool:
    """Whether anything may go from one window of a limit into the next."""
    return limit.rollover > 0 or _takes_grants(limit)


def _carry_late(work: Work, limit: Limit, account: Account, now: datetime) -> Account:
    """What of a grant was held when its window ended goes along once it turns out not to have been used."""
    previous = work.previous_account(account.id)
    if previous is None:
        return account
    here = {booked.share.grant: booked for booked in work.shares_of(account.id)}
    late = [share for share in _carried(work, previous, now) if not _is_settled(share, here.get(share.grant))]
    more = sum(share.amount - (here[share.grant].share.amount if share.grant in here else 0) for share in late)
    return _credit(work, limit, account, carried=late, granted=more, now=now) if late else account


def _is_settled(share: Share, here: BookedShare | None) -> bool:
    return here is not None and (here.expired or here.share.amount >= share.amount)


def _carried(work: Work, previous: Account, now: datetime) -> tuple[Share, ...]:
    """What is left of unexpired grants goes along into the next window; what is held there may still be used there."""
    left = remaining_of(work, previous, held=previous.held)
    alive = (b.share for b in work.shares_of(previous.id) if not b.expired and not _is_over(b.share, now))
    return tuple(replace(share, amount=left[share.grant]) for share in alive if left[share.grant] > 0)


def _is_over(share: Share, now: datetime) -> bool:
    return share.expires_at is not None and share.expires_at <= now


def remaining_of(work: Work, account: Account, *, held: int = 0) -> dict[str, int]:
    """What is left of each grant of an account, if `held` were used too."""
    shares = [booked.share for booked in work.shares_of(account.id)]
    base = account.allocation + account.rolled_over
    return remaining(shares, base=base, used=account.spent + account.unreconciled + held)


def _rolled_over(work: Work, limit: Limit, previous: Account, fresh: Account) -> int:
    """What goes over from the window before, through windows without an account, at most the limit's rollover.

    What is held there may still be used there, and what is left of grants goes its own way, or ends with them.
    """
    of_grants = sum(remaining_of(work, previous, held=previous.held).values())
    rolled = min(limit.rollover, max(0, previous.balance - previous.held - of_grants))
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
    granted: int = 0,
    carried: Iterable[Share] = (),
) -> Account:
    credited = rules.credit(account, limit, allocation=allocation, rolled_over=rolled_over, granted=granted)
    work.put(credited, limit.unit)
    for share in carried:
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
    is_new = booked is None
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
    left = _expire(work, limit, account, grant.id, now, whole=is_new)
    return GrantState(grant.id, booked.transaction, left, expired=left == 0)


def _book_new(work: Work, grant: Grant, limit: Limit, now: datetime) -> BookedGrant:
    account = open_account(work, limit, (), now)
    credited = rules.credit(account, limit, granted=grant.amount)
    if credited.credit > MOST_CREDIT:
        raise InvalidValue(
            f"TokenGrant {grant.ref.namespace}/{grant.name}: {limit.ref} would hold more than "
            f"{format_amount(MOST_CREDIT, limit.unit)}; grant less"
        )
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


def _expire(work: Work, limit: Limit, account: Account, grant: str, now: datetime, *, whole: bool) -> int:
    """Take out what is left of a grant whose time is over; what was burned of it stays booked.

    What is held out of it stays as well until it is settled or given back, so that nothing in flight passes the cap (I1);
    the answer is how much that is. At 0 the grant is expired for good. `whole`: it was over before it was booked, so
    nothing was ever spent or held out of it, and it pays for nothing that was spent before.
    """
    share = next((s for s in work.shares_of(account.id) if s.share.grant == grant and not s.expired), None)
    if share is None:
        return 0
    left, free = (remaining_of(work, account, held=held)[grant] for held in (0, account.held))
    if whole:
        left = free = share.share.amount
    if free == 0 and left > 0:
        return left
    lessened = rules.credit(account, limit, granted=-free)
    work.put(lessened, limit.unit)
    kept = replace(share.share, amount=share.share.amount - free)
    work.shares[account.id, grant] = replace(share, share=kept, expired=left == free)
    entries = transfer(account.id, limit.unit, free, source="balance", target="grants") if free else ()
    line = ChargeLine(account.id, -free, lessened.balance)
    transaction = Transaction(new_id(), now.isoformat(), "expire", entries, {"grant": grant})
    work.book(Booking(transaction, payments=((line, grant),) if free else ()))
    return left - free
