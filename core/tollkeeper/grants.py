"""How grants are burned, expire and go over into the next window. Pure arithmetic.

- Burn order (B8): allocation and rollover first, then grants by priority (a smaller one first), then by expiry, then by
  age. What burns depends on the sum that was used alone, so the order of bookings never matters.
- A grant expires with what is neither used nor held: what was burned of it before stays burned, and what is held was
  admitted while it was good; of that, what turns out not to be used expires then. Its burned part counts like allocation.
- What is left of an unexpired grant goes over into the next window, whole; of the rest of the balance as much goes over
  as the limit's rollover permits. What is still held goes over when it turns out not to be used.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from tollkeeper.accounts import Account
from tollkeeper.limits import Limit

LONGEST_GAP = 1000
"""How many windows without an account a rollover is followed through."""

_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Share:
    """What one grant put into one account. `amount` is in the account's unit; a smaller priority burns first."""

    grant: str
    amount: int
    priority: int
    created: datetime
    expires_at: datetime | None

    def is_over(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and self.expires_at <= now


def remaining(shares: Sequence[Share], *, base: int, used: int) -> dict[str, int]:
    """What is left of each grant when `used` is spent out of `base` (allocation and rollover) first, then of the grants."""
    over = max(0, used - max(0, base))
    left: dict[str, int] = {}
    for share in sorted(shares, key=lambda s: (s.priority, s.expires_at or _NEVER, s.created, s.grant)):
        burned = min(over, share.amount)
        left[share.grant] = share.amount - burned
        over -= burned
    return left


@dataclass(frozen=True, slots=True)
class Purse:
    """An account's own credit by where it comes from: `base` burns first, then the `shares` of unexpired grants.

    What is borrowed is spent last, when all of these are gone.
    """

    base: int
    used: int
    shares: tuple[Share, ...]

    @classmethod
    def of(cls, account: Account, shares: Iterable[Share], *, with_held: bool = False) -> "Purse":
        """The purse of an account whose unexpired grants are `shares`; what expired ones burned is part of the base."""
        alive = tuple(shares)
        used = account.spent + account.unreconciled + (account.held if with_held else 0)
        return cls(account.own_credit - sum(share.amount for share in alive), used, alive)

    def left(self) -> dict[str, int]:
        """What is left of each grant."""
        return remaining(self.shares, base=self.base, used=self.used)

    def lapsing(self, now: datetime) -> dict[str, int]:
        """What is taken out of each grant whose time is over, 0 included."""
        left = self.left()
        return {share.grant: left[share.grant] for share in self.shares if share.is_over(now)}

    def expired(self, now: datetime) -> "Purse":
        """The purse without the grants whose time is over: what they burned is base now."""
        over = self.lapsing(now)
        burned = sum(share.amount - over[share.grant] for share in self.shares if share.grant in over)
        return Purse(self.base + burned, self.used, tuple(s for s in self.shares if s.grant not in over))

    def run(self, usages: Iterable[tuple[datetime, int]], until: datetime) -> "Purse":
        """The purse at `until`, after usages in the order of their times; a run equals two over its halves."""
        purse = self
        for at, amount in usages:
            purse = purse.expired(at)
            purse = replace(purse, used=purse.used + amount)
        return purse.expired(until)


@dataclass(frozen=True, slots=True)
class Carry:
    """What goes over from one window's account into the next one's."""

    rolled_over: int
    shares: tuple[Share, ...]
    used: int = 0
    """What is used up of it and of the allocation already: of a window that was cut off (`continued`)."""

    @property
    def amounts(self) -> dict[str, int]:
        """What goes over of each grant."""
        return {share.grant: share.amount for share in self.shares}


def carry(limit: Limit, previous: Account, shares: Iterable[Share], start: datetime | None, now: datetime) -> Carry:
    """What goes over from `previous`, whose unexpired grants are `shares`, into the window that begins at `start`.

    Windows between them in which nothing was counted give their allocation to the rollover, which never exceeds the
    limit's.
    """
    alive = tuple(shares)
    own = own_left(previous, alive)
    return Carry(
        rolled(limit, own, previous.window_end, start), _going_on(Purse.of(previous, alive, with_held=True), now)
    )


def carries(limit: Limit) -> bool:
    """Whether anything may go from one window of a limit into the next: a grant names a budget, and no key."""
    takes_grants = limit.ref.kind == "TokenBudget" and not (limit.per or limit.each_tenant)
    return limit.rollover > 0 or takes_grants


def own_left(account: Account, shares: Iterable[Share]) -> int:
    """What an account has left of its own credit without its unexpired grants; what is held counts as used."""
    left = Purse.of(account, shares, with_held=True).left()
    return account.own_balance - account.held - sum(left.values())


def rolled(limit: Limit, own: int, end: datetime | None, start: datetime | None) -> int:
    """What rolls over of what a window that ended at `end` has left of its own, into the one that begins at `start`."""
    amount, at = min(limit.rollover, max(0, own)), end
    for _ in range(LONGEST_GAP):
        if limit.rollover == 0 or at is None or start is None or at >= start:
            break
        amount = min(limit.rollover, amount + limit.allocation)
        at = limit.calendar.window_at(at).end
    return amount


def continued(account: Account, shares: Iterable[Share], now: datetime) -> Carry:
    """What goes on in another account where a window is cut off by one that overlaps it (B7): everything.

    Grants go on whole, and what was burned of them in what is used (spent, unreconciled or held): so it burns in the other
    account as it would have in this one, whatever comes late. What is held of a grant whose time is over goes on nowhere.
    """
    alive = tuple(shares)
    purse = Purse.of(account, alive, with_held=True)
    left = purse.left()
    over = sum(share.amount - left[share.grant] for share in alive if share.is_over(now))
    unexpired = tuple(share for share in alive if not share.is_over(now))
    return Carry(purse.base - account.allocation, unexpired, purse.used - over)


def _going_on(purse: Purse, now: datetime) -> tuple[Share, ...]:
    left = purse.left()
    return tuple(
        replace(share, amount=left[share.grant])
        for share in purse.shares
        if left[share.grant] > 0 and not share.is_over(now)
    )
