"""Accounts: the balance of one limit, one key and one window, and every way it may change.

All transitions are pure: they take an account and return the next one. The invariant of hard accounts (I1),
`spent + unreconciled + held <= cap`, is kept by `Account.available`: nothing is held beyond it.

    balance   = allocation + rolled_over + granted + borrowed - spent - unreconciled   (B-rules; holds do not count, B2)
    room      = balance - minimum                                                      (B1)
    available = room - held                                                            what may still be set aside

What is lent is not taken off a lender's balance: what a borrower spends is charged to its lender too, at the same moment.
See `tollkeeper.loans`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import cached_property

from tollkeeper.amounts import LARGEST
from tollkeeper.limits import Limit

_new, _set = object.__new__, object.__setattr__

RECENT_REQUESTS = 100
"""How many settled requests the mean cost of rule B3 looks back on."""


class Phase(StrEnum):
    """The state of a balance, worst last."""

    SUFFICIENT = "Sufficient"
    LOW = "Low"
    INSUFFICIENT = "Insufficient"

    @property
    def severity(self) -> int:
        """0 for Sufficient, 2 for Insufficient."""
        return list(Phase).index(self)


@dataclass(frozen=True)  # without slots: `holding` copies all fields at once
class Account:
    """One balance. Integers of the limit's unit; `recent` are the amounts of the last settled requests, newest last.

    `blocked` is B3's latch: once Insufficient, an account stays so until its room grows.
    `overshoot` is what requests used beyond their holds, as far as each passed the cap, added up: what the bound (I1) did not
    hold. It only grows: no correction changes what requests did.
    `minimum` is the limit's as it was last seen: lowering it makes room.
    `borrowed` is what the account of `lender` lends this one, `lent` what this one lends to others.
    """

    id: str
    window_start: datetime | None
    window_end: datetime | None
    allocation: int
    rolled_over: int = 0
    granted: int = 0
    spent: int = 0
    held: int = 0
    unreconciled: int = 0
    overshoot: int = 0
    requests: int = 0
    recent: tuple[int, ...] = ()
    blocked: bool = False
    last_usage: datetime | None = None
    minimum: int = 0
    borrowed: int = 0
    lent: int = 0
    lender: str = ""

    def holds(self, now: datetime) -> bool:
        """Whether an instant lies in its window."""
        begun = self.window_start is None or self.window_start <= now
        return begun and (self.window_end is None or now < self.window_end)

    @property
    def own_credit(self) -> int:
        """What was put in for good: allocation, rollover and grants."""
        return self.allocation + self.rolled_over + self.granted

    @cached_property
    def credit(self) -> int:
        """Everything that was put in: allocation, rollover, grants and what is borrowed."""
        return self.allocation + self.rolled_over + self.granted + self.borrowed

    @cached_property
    def balance(self) -> int:
        """What is left of the credit; reservations in flight do not change it (B2)."""
        return self.credit - self.spent - self.unreconciled

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in it and nothing was used: a prepaid budget before its first grant."""
        return not (self.credit or self.spent or self.unreconciled)

    @property
    def own_balance(self) -> int:
        """The balance without what is borrowed: nothing borrowed goes over into another window."""
        return self.balance - self.borrowed

    @cached_property
    def mean_cost(self) -> int:
        """The mean of the recent requests rounded up, at least one unit (B3)."""
        return max(1, -(-sum(self.recent) // len(self.recent))) if self.recent else 1

    def cap(self, limit: Limit) -> int:
        """The most that may be spent (B1)."""
        return self.credit - limit.minimum

    def room(self, limit: Limit) -> int:
        """What may still be spent (B1)."""
        return self.balance - limit.minimum

    def available(self, limit: Limit) -> int:
        """What may still be set aside; never negative."""
        return max(0, self.balance - limit.minimum - self.held)

    def utilization(self, limit: Limit) -> int:
        """Percent of the cap that is gone, rounded down (M1). An account with nothing in it is used up."""
        cap = self.cap(limit)
        return 100 * (self.spent + self.unreconciled) // cap if cap > 0 else 100

    def phase(self, limit: Limit) -> Phase:
        """The phase by rules B3 and B4."""
        balance = self.balance
        room = balance - limit.minimum
        if room < 0 or (limit.is_hard and (self.blocked or room < self.mean_cost)):
            return Phase.INSUFFICIENT
        return Phase.LOW if balance < limit.low_threshold else Phase.SUFFICIENT


def hold(account: Account, amount: int) -> Account:
    """Set `amount` aside; the caller has checked `available`."""
    return holding(account, account.held + amount)


def release(account: Account, amount: int) -> Account:
    """Give back what was set aside and not used."""
    return holding(account, account.held - amount)


def holding(account: Account, held: int) -> Account:
    """The account with so much set aside in all.

    `replace(account, held=held)`, which sets each field anew and is most of what a grant would cost.

    What an account has worked out about itself goes along: none of it depends on what is held (B2).
    """
    fields = account.__dict__.copy()
    fields["held"] = held
    changed = _new(Account)
    _set(changed, "__dict__", fields)
    return changed


def charge(
    account: Account, limit: Limit, amount: int, *, from_held: int, from_unreconciled: int, now: datetime
) -> Account:
    """Replace what stood for a request, held or unreconciled, by what it really used."""
    charged = replace(
        account,
        spent=account.spent + amount,
        held=account.held - from_held,
        unreconciled=account.unreconciled - from_unreconciled,
        requests=account.requests + 1,
        recent=(*account.recent, amount)[-RECENT_REQUESTS:],
        last_usage=max(now, account.last_usage or now),
    )
    charged = _with_overshoot(charged, limit, amount - from_held - from_unreconciled)
    return latched(charged, limit, room_before=account.room(limit))


def charge_all(
    account: Account, limit: Limit, amounts: Sequence[int], *, from_held: int, now: datetime
) -> Account | None:
    """What `charge` of one amount after the other comes to, at once; `from_held` is what was held for all of them.

    None where only one by one tells: near the cap of a hard limit, where one of them may pass it or set B3's latch.
    """
    charged = replace(
        account,
        spent=account.spent + sum(amounts),
        held=account.held - from_held,
        requests=account.requests + len(amounts),
        recent=(*account.recent, *amounts[-RECENT_REQUESTS:])[-RECENT_REQUESTS:],
        last_usage=max(now, account.last_usage or now),
    )
    # Room only falls, and no mean on the way is above the largest amount: what is true at the end was true all along.
    if limit.is_hard and charged.room(limit) < max(1, *account.recent, *amounts):
        return None
    return charged


def lapse(account: Account, limit: Limit, amount: int) -> Account:
    """A holder vanished: what it held counts as spent until somebody knows better (I2)."""
    lapsed = replace(account, held=account.held - amount, unreconciled=account.unreconciled + amount)
    return latched(lapsed, limit, room_before=account.room(limit))


def reconcile(account: Account, limit: Limit, amount: int) -> Account:
    """Unreconciled usage turned out not to have happened."""
    return latched(replace(account, unreconciled=account.unreconciled - amount), limit, room_before=account.room(limit))


def correct(account: Account, limit: Limit, amount: int) -> Account:
    """Give back `amount` of what was spent, or with a negative one charge what was not: a refund or a correction.

    A correction changes `spent` and nothing else, so the balance keeps its formula and grants that it frees burn again
    in their order. Its limits (`amount <= spent`) are the caller's to check. A charge may pass the cap: somebody decided it
    after the fact, and no request used more than was set aside for it, so that is no overshoot.
    """
    return latched(replace(account, spent=account.spent - amount), limit, room_before=account.room(limit))


def credit(account: Account, limit: Limit, *, allocation: int = 0, rolled_over: int = 0, granted: int = 0) -> Account:
    """Put in, or with negative amounts take out."""
    credited = replace(
        account,
        allocation=account.allocation + allocation,
        rolled_over=account.rolled_over + rolled_over,
        granted=account.granted + granted,
    )
    return latched(credited, limit, room_before=account.room(limit))


def take_over(account: Account, limit: Limit, used: int) -> Account:
    """Count as spent what was used in the window that this one cut off; what that passes the cap by is no overshoot (B7)."""
    return latched(replace(account, spent=account.spent + used), limit, room_before=account.room(limit))


def borrow(account: Account, limit: Limit, amount: int, lender: str) -> Account:
    """Borrow `amount` from the account `lender`, or with a negative amount give it back. It makes room (B3)."""
    owes = account.borrowed + amount
    changed = replace(account, borrowed=owes, lender=lender if owes else "")
    return latched(changed, limit, room_before=account.room(limit))


def lend(account: Account, amount: int) -> Account:
    """Lend `amount` to another account, or with a negative amount take it back; the balance stays as it is."""
    return replace(account, lent=account.lent + amount)


def with_minimum(account: Account, limit: Limit) -> Account:
    """Take over the limit's minimum as it is now; one that was lowered makes room (B3)."""
    room_before = account.balance - account.minimum
    return latched(replace(account, minimum=limit.minimum), limit, room_before=room_before)


def _with_overshoot(account: Account, limit: Limit, beyond: int) -> Account:
    """Count what was just spent `beyond` its hold, as far as it passed the cap.

    A sum of which nothing is ever given back: it ends at what a column holds, for no usage may be kept from the books by it.
    """
    passed = max(0, account.spent - account.cap(limit)) if limit.is_hard else 0
    return replace(account, overshoot=min(LARGEST, account.overshoot + min(passed, max(0, beyond))))


def latched(account: Account, limit: Limit, *, room_before: int) -> Account:
    """Set B3's latch when the room became too small; lift it only when the room grew enough."""
    grew = account.room(limit) > room_before
    too_small = limit.is_hard and account.room(limit) < account.mean_cost
    return replace(account, blocked=too_small or (account.blocked and not grew))
