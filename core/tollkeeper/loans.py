"""Loans: what a budget uses beyond its own credit, out of the room of the nearest ancestor's budget that lends. Pure.

A request is charged on every level of the tree, so what a borrower spends of a loan is charged to its lender as well, at
the same moment. A loan therefore raises the borrower's cap and takes nothing off the lender's balance, where it would
count twice; the lender only counts it in `lent`. What follows:

- A loan is never idle: it is as large as what is used and set aside beyond the own credit (`needed`), and a little more
  (`spare`), so that not every request needs one; an account whose own credit suffices owes nothing.
- The lender's guaranteed part stays with all others below it: borrowers use no more than `lent` beyond their own credit,
  and `lent` is bounded by the lender's `lending`.
- I1 holds on both levels without looking at loans: the lender's account is held and charged for the same requests.
- A loan lives within one window of its lender and ends with the borrower's; what was spent of it stays lent in that window.
"""

from collections.abc import Mapping
from datetime import datetime
from heapq import nlargest

from tollkeeper.accounts import Account, Phase
from tollkeeper.leases import SHARE_AHEAD
from tollkeeper.limits import AccountId, Limit
from tollkeeper.policy import PolicySet

MOST_ASKED = 16
"""So many other borrowers are asked, at once, for what stands for a loan."""

SPARE_REQUESTS = 4
"""For how many mean requests more than it needs at the moment an account borrows."""


def needed(limit: Limit, account: Account, *, holding: int = 0, going_on: bool = True) -> int:
    """What an account must have borrowed to set `holding` more aside.

    While its window is `going_on` it must have as much as keeps it from being Insufficient, too (B3).
    """
    gone = account.spent + account.unreconciled
    reserved = gone + account.held + holding
    wanted = max(reserved, gone + account.mean_cost) if going_on else reserved
    return max(0, wanted - (account.own_credit - limit.minimum))


def spare(limit: Limit, account: Account) -> int:
    """How much more than it needs an account borrows: little of what it may, so that it keeps nothing from its siblings."""
    return min(SPARE_REQUESTS * account.mean_cost, limit.borrowing // SHARE_AHEAD)


def possible(limit: Limit, account: Account, lender_limit: Limit, lender: Account, *, room: int) -> int:
    """The most that the account may still borrow of the lender, of whose `room` so much is to be had. Never negative."""
    if lender.phase(lender_limit) is Phase.INSUFFICIENT:
        return 0
    return max(0, min(limit.borrowing - account.borrowed, lender_limit.lending - lender.lent, room))


def more(limit: Limit, account: Account, most: int, *, need: int = 0, desired: int = 0) -> int:
    """How much to borrow, `most` at most, so that `desired` can be set aside; 0 when not even `need` could be."""
    short = needed(limit, account, holding=desired) - account.borrowed
    least = needed(limit, account, holding=need) - account.borrowed
    return min(most, short + spare(limit, account)) if short > 0 and least <= most else 0


def superfluous(limit: Limit, account: Account, *, going_on: bool) -> int:
    """How much of its loan an account gives back: all of it as soon as its own credit suffices."""
    least = needed(limit, account, going_on=going_on)
    if not going_on or least == 0:
        return max(0, account.borrowed - least)
    extra = spare(limit, account)
    return account.borrowed - least - extra if account.borrowed > least + 2 * extra else 0


def lendable(limit: Limit, account: Account, most: int) -> int:
    """What a loan may add once others give back what they hold, when `most` is possible then; 0 if it would not reopen the
    account (B3)."""
    return most if account.room(limit) + most >= account.mean_cost else 0


def lent_elsewhere(account: str, held_out_of: Mapping[str, int]) -> dict[str, int]:
    """Of what a lender's borrowers hold out of their loans, by account: what of it may come back to be lent to this one.

    It is at most what these hold and at most what they borrowed. Of many, those that hold most.
    """
    others = [(amount, one) for one, amount in held_out_of.items() if one != account and amount > 0]
    return {one: amount for amount, one in nlargest(MOST_ASKED, others)}


def goes_on(account: Account, now: datetime) -> bool:
    """Whether `now` lies in the account's window."""
    begun = account.window_start is None or account.window_start <= now
    return begun and (account.window_end is None or now < account.window_end)


def lender_at(policy: PolicySet, limit: Limit, account: Account, now: datetime) -> Limit | None:
    """The limit that lends to an account now: its window is not outlasted by the borrower's, which owes nobody else."""
    ref = limit.lender_for(AccountId.parse(account.id).key)
    lends = policy.limit(ref) if ref else None
    if lends is None or lends.unit is not limit.unit or not limit.is_hard or not goes_on(account, now):
        return None
    identity, window = lends.account_at((), now)
    outlasts = window.end is not None and (account.window_end is None or account.window_end > window.end)
    return None if outlasts or account.lender not in ("", identity.text) else lends
