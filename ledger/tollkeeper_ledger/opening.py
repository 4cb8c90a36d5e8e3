"""Opening accounts and putting credit into them: allocation, rollover, grants and what is carried of them.

What a window that has ended hands on later is in `handing`. At each moment one account counts for a limit, key and unit:
where one is opened, or comes back, whose window overlaps that of another one that counts, it goes on with everything that
the other one has in it, and the other one ends there (B7).
"""

from dataclasses import replace
from datetime import datetime

from tollkeeper import accounts as rules
from tollkeeper.accounts import Account
from tollkeeper.amounts import LARGEST, format_amount
from tollkeeper.books import Grant, GrantState
from tollkeeper.errors import InvalidValue
from tollkeeper.grants import Carry, Purse, Share, carries, carry
from tollkeeper.identity import new_id
from tollkeeper.limits import Limit
from tollkeeper.windows import Window
from tollkeeper_ledger.chain import Transaction, transfer
from tollkeeper_ledger.handing import (
    alive,
    come_back,
    counting_until,
    credited_entries,
    follow,
    go_on,
    keep_heir,
)
from tollkeeper_ledger.handing import settle_carry as settle_carry
from tollkeeper_ledger.heirs import before, cut_into, last_ended
from tollkeeper_ledger.state import BookedGrant, BookedShare, Booking, ChargeLine
from tollkeeper_ledger.work import Work

MOST_CREDIT = LARGEST // 2
"""No account is granted more: sums of balances must fit 64 bits, whatever allocation and rollover add in later windows."""


def open_account(work: Work, limit: Limit, key: tuple[str, ...], now: datetime, *, cuts: bool = True) -> Account:
    """The account that counts `key` at `now`; opened if it is new; with the limit's amounts and grants as they are.

    A window that is over by now, opened for what comes late, `cuts` off none that counts.
    """
    identity, window = limit.account_at(key, now)
    known = work.account(identity.text)
    if known is None:
        begins = window.start if window.end else None
        fresh = Account(identity.text, begins, window.end, allocation=0, minimum=limit.minimum)
        return _opened_now(work, limit, fresh, now) if cuts else _opened_late(work, limit, fresh, now)
    return kept_up(work, limit, known[0], window, now)


def _opened_now(work: Work, limit: Limit, fresh: Account, now: datetime) -> Account:
    if limit.rollover:
        keep_heir(work, fresh, now)
    if overlapped := _cut_off_by(work, fresh, now):
        opened = _credit(work, limit, fresh, allocation=limit.allocation, now=now)
        return go_on(work, limit, expire_due(work, limit, overlapped, now), opened, now)
    last = last_ended(work, fresh, now) if carries(limit) else None
    if last is None or not _began_before_the_end(fresh, last):
        return _opened_in_turn(work, limit, fresh, last, now)
    opened = _credit(work, limit, fresh, allocation=limit.allocation, now=now)
    return follow(work, limit, expire_due(work, limit, last, now), opened, now)


def _opened_late(work: Work, limit: Limit, fresh: Account, now: datetime) -> Account:
    return _opened_in_turn(work, limit, fresh, before(work, fresh) if carries(limit) else None, now)


def _opened_in_turn(work: Work, limit: Limit, fresh: Account, previous: Account | None, now: datetime) -> Account:
    carried = None
    if previous is not None:
        previous = expire_due(work, limit, previous, now)
        carried = carry(limit, previous, alive(work, previous), fresh.window_start, now)
    return _credit(work, limit, fresh, allocation=limit.allocation, carried=carried, now=now)


def _began_before_the_end(account: Account, last: Account) -> bool:
    """Whether a window began before that of the last account ended: so it is where its object had another window then."""
    return account.window_start is None or last.window_end is None or account.window_start < last.window_end


def kept_up(work: Work, limit: Limit, account: Account, window: Window, now: datetime) -> Account:
    """An account of the present `window` with the limit's amounts and grants as they are now."""
    account = expire_due(work, limit, account, now)
    if account.window_end != window.end:
        # Its object was deleted and written again with another period that began at the same time: it goes on (B7). Or
        # with another window and then with this one again.
        account = _counting_again(work, limit, account, window, now)
    if account.minimum != limit.minimum:
        account = rules.with_minimum(account, limit)
        work.put(account, limit.unit)
    if account.allocation != limit.allocation:
        account = _credit(work, limit, account, allocation=limit.allocation - account.allocation, now=now)
    return account


def _counting_again(work: Work, limit: Limit, account: Account, window: Window, now: datetime) -> Account:
    overlapped = _cut_off_by(work, account, now)
    if overlapped:
        overlapped = expire_due(work, limit, overlapped, now)
    elif account.holds(now) and not cut_into(work, account):
        return counting_until(work, limit, account, window.end)
    return come_back(work, limit, overlapped, account, window.end, now)


def _cut_off_by(work: Work, account: Account, now: datetime) -> Account | None:
    """The account that counted until this one does. One that was cut off before goes on elsewhere already: it may be seen
    here where the window that is opened is a past one, for a usage that comes late."""
    overlapped = work.overlapping(account.id, now)
    return overlapped if overlapped and not cut_into(work, overlapped) else None


def remaining_of(work: Work, account: Account) -> dict[str, int]:
    """What is left of each unexpired grant of an account."""
    return Purse.of(account, alive(work, account)).left()


def _credit(
    work: Work,
    limit: Limit,
    account: Account,
    *,
    now: datetime,
    allocation: int = 0,
    carried: Carry | None = None,
) -> Account:
    shares = carried.shares if carried else ()
    granted, rolled_over = sum(share.amount for share in shares), carried.rolled_over if carried else 0
    credited = rules.credit(account, limit, allocation=allocation, rolled_over=rolled_over, granted=granted)
    work.put(credited, limit.unit)
    for share in shares:
        work.shares[account.id, share.grant] = BookedShare(account.id, share)
    entries = credited_entries(
        account, limit, (("allocation", allocation), ("rollover", rolled_over), ("grants", granted))
    )
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
    left = remaining_of(work, account).get(grant.id, 0)
    is_over = grant.expires_at is not None and grant.expires_at <= now
    return GrantState(grant.id, booked.transaction, left, expired=is_over and left == 0)


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
    transaction = Transaction(new_id(), now.isoformat(), "grant", entries, _details(grant))
    line = ChargeLine(account.id, grant.amount, credited.balance)
    work.book(Booking(transaction, payments=((line, grant.id),)))
    work.grants[grant.id] = BookedGrant(grant, transaction.id)
    if share.is_over(now):
        # It was over before it was booked: nothing was spent or held out of it, and it pays for nothing from before.
        _take_out(work, limit, credited, BookedShare(account.id, share), share.amount, now, ends=True)
    return work.grants[grant.id]


def _details(grant: Grant) -> dict[str, object]:
    """What the chain says of a grant: enough to burn it again in the same order."""
    return {
        "grant": grant.id,
        "name": grant.name,
        "reason": grant.reason,
        "reference": grant.reference,
        "priority": grant.priority,
        "created": grant.created.isoformat(),
        "expires_at": grant.expires_at.isoformat() if grant.expires_at else None,
    }


def expire_due(work: Work, limit: Limit, account: Account, now: datetime) -> Account:
    """Take out what is left of grants whose time is over; what was burned of them stays.

    What is held out of them stays as well until it is settled or given back, so that nothing in flight passes the cap (I1);
    a grant of which nothing is held any more has expired for good.
    """
    if not account.granted:
        return account
    shares = alive(work, account)
    if not any(share.is_over(now) for share in shares):
        return account
    due = Purse.of(account, shares, with_held=True).lapsing(now)
    left = Purse.of(account, shares).left()
    for booked in work.shares_of(account.id):
        grant = booked.share.grant
        if booked.expired or grant not in due or (due[grant] == 0 and left[grant] > 0):
            continue
        account = _take_out(work, limit, account, booked, due[grant], now, ends=left[grant] == due[grant])
    return account


def first_expiry(work: Work, account: Account) -> datetime | None:
    """When `expire_due` has something to do next, as long as the account does not change; None: never."""
    return min((share.expires_at for share in alive(work, account) if share.expires_at), default=None)


def _take_out(
    work: Work, limit: Limit, account: Account, booked: BookedShare, amount: int, now: datetime, *, ends: bool
) -> Account:
    """Take an amount of a grant whose time is over out of its account; `ends`: nothing is held of it any more."""
    lessened = rules.credit(account, limit, granted=-amount)
    work.put(lessened, limit.unit)
    kept = replace(booked.share, amount=booked.share.amount - amount)
    work.shares[account.id, kept.grant] = replace(booked, share=kept, expired=ends)
    entries = transfer(account.id, limit.unit, amount, source="balance", target="grants") if amount else ()
    transaction = Transaction(new_id(), now.isoformat(), "expire", entries, {"grant": kept.grant})
    line = ChargeLine(account.id, -amount, lessened.balance)
    work.book(Booking(transaction, payments=((line, kept.grant),) if amount else ()))
    return lessened
