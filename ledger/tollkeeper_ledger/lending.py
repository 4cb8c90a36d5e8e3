"""Loans between accounts, in the steps that need them: see `tollkeeper.loans` for the rules.

A loan is one transaction over two accounts of one root tenant: the borrower's `#borrowed` pays its `#balance`, and of the
lender's `#lendable` so much becomes `#lent`. `before_grant` borrows for a request; `settle`, at the end of a step, gives
back what is not needed any more and borrows what keeps an account open (B3).
"""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import NamedTuple

from tollkeeper import accounts as rules
from tollkeeper import loans
from tollkeeper.accounts import Account, Phase
from tollkeeper.errors import InvalidValue
from tollkeeper.identity import new_id
from tollkeeper.leases import Want
from tollkeeper.limits import Limit
from tollkeeper.policy import PolicySet
from tollkeeper_ledger.chain import Transaction, transfer
from tollkeeper_ledger.limiting import limit_of, parse_account
from tollkeeper_ledger.opening import open_account
from tollkeeper_ledger.state import Booking
from tollkeeper_ledger.work import Work

LOAN, REPAY = "loan", "repay"


class Later(NamedTuple):
    """What no loan can add now but may soon: so much, once others give back what they hold; `lent_to` are those of them that
    borrowed for it."""

    lendable: int = 0
    lent_to: tuple[str, ...] = ()


NOTHING_LATER = Later()


def before_grant(
    work: Work, policy: PolicySet, holder: str, limit: Limit, account: Account, want: Want, now: datetime
) -> tuple[Account, Later]:
    """The account after it borrowed for a want what it is short of, and what may be had later.

    What the same holder has set aside on the lender counts as free there: it is set aside for the same requests.
    """
    if not limit.borrowing or loans.needed(limit, account, holding=want.desired) <= account.borrowed:
        return account, NOTHING_LATER
    found = _lender_of(work, policy, limit, account, now)
    if found is None:
        return account, NOTHING_LATER
    lender_limit, lender = found
    lease = work.lease(holder, lender.id)
    room = lender.available(lender_limit) + (0 if lease.lapsed else lease.outstanding)
    most = loans.possible(limit, account, lender_limit, lender, room=room)
    amount = loans.more(limit, account, most, need=want.need, desired=want.desired)
    if amount:
        return _book(work, limit, account, lender, amount, now), NOTHING_LATER
    return account, _later(work, limit, account, lender_limit, lender, want)


def _later(work: Work, limit: Limit, account: Account, lender_limit: Limit, lender: Account, want: Want) -> Later:
    """What the lender's room may yield, and where that does not do, what it lent to others for what they hold."""
    room = lender.room(lender_limit)
    most = loans.possible(limit, account, lender_limit, lender, room=room)
    lendable = loans.lendable(limit, account, most)
    may_open = lendable > 0 or account.phase(limit) is not Phase.INSUFFICIENT
    if not lender.lent or (may_open and account.room(limit) + lendable >= want.need):
        return Later(lendable)
    elsewhere = loans.lent_elsewhere(account.id, work.held_out_of_loans(lender.id))
    back = rules.lend(lender, -min(lender.lent, sum(elsewhere.values())))
    more = loans.lendable(limit, account, loans.possible(limit, account, lender_limit, back, room=room))
    return Later(more, tuple(elsewhere)) if more > lendable else Later(lendable)


def settle(work: Work, policy: PolicySet, now: datetime, *, also: Collection[str] = ()) -> None:
    """Bring the loans of all accounts that this step changed to what they need: first what goes back, then what is had.

    `also` are accounts that it only looked at: their lender may have room now that it had not.
    """
    if not policy.lends and not any(work.accounts[name][0].borrowed for name in work.touched):
        return
    changed = {*work.touched, *also}
    for name in _with_windows_before(work, policy, sorted(changed)):
        _give_back(work, policy, name, now)
    for name in sorted(changed, key=lambda name: (generation(policy, name), name)):
        known = work.account(name)
        if known is not None:
            _kept_open(work, policy, limit_of(policy, name, *known), known[0], now)


def open_settled(work: Work, policy: PolicySet, limit: Limit, key: tuple[str, ...], now: datetime) -> Account:
    """`open_account` as a step of its own: what its lender can lend keeps the account open (B3)."""
    account = open_account(work, limit, key, now)
    settle(work, policy, now, also=(account.id,))
    known = work.account(account.id)
    return known[0] if known else account


def generation(policy: PolicySet, account: str) -> int:
    """How many lenders stand above an account, one above the other: who lends has its turn before who borrows of it."""
    identity, hops = parse_account(account), 0
    limit, key = policy.limit(identity.ref), identity.key
    while limit is not None and (ref := limit.lender_for(key)) is not None:
        limit, key, hops = policy.limit(ref), (), hops + 1
    return hops


def _with_windows_before(work: Work, policy: PolicySet, names: Iterable[str]) -> Iterable[str]:
    """The accounts, and before each one that this step opened the one of the window before: its loan ends."""
    for name in names:
        limit = policy.limit(parse_account(name).ref)
        if limit is not None and limit.borrowing and work.below.account(name) is None:
            previous = work.previous_account(name)
            if previous is not None:
                yield previous.id
        yield name


def _give_back(work: Work, policy: PolicySet, name: str, now: datetime) -> None:
    known = work.account(name)
    if known is None or not known[0].borrowed:
        return
    account, unit = known
    limit = limit_of(policy, name, account, unit)
    going_on = limit.is_hard and limit.borrowing > 0 and loans.goes_on(account, now)
    amount = loans.superfluous(limit, account, going_on=going_on)
    lender = work.account(account.lender)
    if amount and lender is not None:
        _book(work, limit, account, lender[0], -amount, now)


def _kept_open(work: Work, policy: PolicySet, limit: Limit, account: Account, now: datetime) -> Account:
    """The account, with as much borrowed as keeps it from being Insufficient, if that can be had (B3)."""
    short = limit.borrowing and loans.needed(limit, account) > account.borrowed
    found = _lender_of(work, policy, limit, account, now) if short else None
    if found is None:
        return account
    lender_limit, lender = found
    most = loans.possible(limit, account, lender_limit, lender, room=lender.available(lender_limit))
    amount = loans.more(limit, account, most)
    return _book(work, limit, account, lender, amount, now) if amount else account


def _lender_of(
    work: Work, policy: PolicySet, limit: Limit, account: Account, now: datetime
) -> tuple[Limit, Account] | None:
    lends = loans.lender_at(policy, limit, account, now)
    if lends is None:
        return None
    try:
        lender = open_account(work, lends, (), now)
        return lends, _kept_open(work, policy, lends, lender, now)
    except InvalidValue:
        # One budget's amounts that fit no column must not take the batch of all others along.
        return None


def _book(work: Work, limit: Limit, account: Account, lender: Account, amount: int, now: datetime) -> Account:
    """Lend `amount`, or with a negative one take it back."""
    changed = rules.borrow(account, limit, amount, lender.id)
    work.put(changed, limit.unit)
    work.put(rules.lend(lender, amount), limit.unit)
    entries = (
        *transfer(account.id, limit.unit, amount, source="borrowed", target="balance"),
        *transfer(lender.id, limit.unit, amount, source="lendable", target="lent"),
    )
    work.book(Booking(Transaction(new_id(), now.isoformat(), LOAN if amount > 0 else REPAY, entries)))
    return changed
