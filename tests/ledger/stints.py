"""What must be left of a budget whose object is written again with other windows: worked out anew from what belongs where.

A stint is a time in which one account counted without another one between. It begins

- where another one was cut off, with all that one has left (B7);
- where the last one had ended by itself, with what that one has left of grants; and of its own with a whole allocation and
  what rolls over, or, in an account that was there before, with what that one had left when it last counted, as it is
  known when it comes back: what is held then is used.

A usage belongs to the last stint of its account, at the time when it is booked; what is held and not settled, to the last
one at any time: a lease counts where its account counts, and where that has ended, in all that goes on from it. Grants
burn after what is a window's own. What is overdrawn goes on where a window is cut off, and ends where one ends by itself.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from typing import NamedTuple

from tests.ledger.builders import account_of
from tollkeeper.grants import rolled
from tollkeeper.limits import Limit


class Begun(Enum):
    """How a stint began."""

    CUTTING_OFF = auto()
    IN_TURN = auto()
    COMING_BACK = auto()


class Left(NamedTuple):
    """What is left: a window's own, negative where it is overdrawn, and of all grants."""

    own: int
    grants: int

    def used(self, amount: int) -> "Left":
        burned = min(max(0, amount - self.own), self.grants)
        return Left(self.own - amount + burned, self.grants - burned)


@dataclass
class Stint:
    account: str
    limit: Limit
    begun: Begun
    start: datetime | None
    end: datetime | None
    used: int = 0
    granted: int = 0
    own: int = 0
    """Where its account came back: what that one had left of its own by then."""


@dataclass
class Stints:
    """All stints of one budget, and what is held in each account."""

    line: list[Stint] = field(default_factory=list)
    held: Counter[str] = field(default_factory=Counter)

    def count(self, limit: Limit, now: datetime) -> str:
        """The account that counts from now on, which is looked at now."""
        account, window = account_of(limit, now), limit.calendar.window_at(now)
        start = window.start if window.end else None
        last = self.line[-1] if self.line else None
        if last and last.account == account:
            last.end = window.end
        else:
            same = self._last_of(account)
            self.line.append(Stint(account, limit, self._begun(account, now), start, window.end))
            self.line[-1].own = 0 if same is None else max(0, self._left(same).own)
        return account

    def _begun(self, account: str, now: datetime) -> Begun:
        if self.line and (self.line[-1].end is None or now < self.line[-1].end):
            return Begun.CUTTING_OFF
        return Begun.COMING_BACK if self._last_of(account) is not None else Begun.IN_TURN

    def use(self, account: str, amount: int) -> None:
        """Book a usage: out of what is held as far as that goes."""
        self.held[account] -= min(amount, self.held[account])
        self.adjust(account, amount)

    def adjust(self, account: str, amount: int) -> None:
        """Charge what nobody held."""
        number = self._last_of(account)
        assert number is not None
        self.line[number].used += amount

    def grant(self, amount: int) -> None:
        """Book a grant where it counts now."""
        self.line[-1].granted += amount

    @property
    def left(self) -> Left:
        """What is left where it counts now; what is held is used."""
        return self._left(len(self.line) - 1)

    @property
    def spare(self) -> int:
        """How much may be used late, anywhere, so that nothing is overdrawn that was not before."""
        return max(0, min(self._left(number).own for number in range(len(self.line))))

    def _left(self, number: int) -> Left:
        stint = self.line[number]
        begins = self._begins_with(number)
        held = self.held[stint.account] if self._last_of(stint.account) == number else 0
        return begins._replace(grants=begins.grants + stint.granted).used(stint.used + held)

    def _begins_with(self, number: int) -> Left:
        stint = self.line[number]
        if number == 0:
            return Left(stint.limit.allocation, 0)
        before = self._left(number - 1)
        if stint.begun is Begun.CUTTING_OFF:
            return before
        if stint.begun is Begun.COMING_BACK:
            return Left(stint.own, before.grants)
        over = rolled(stint.limit, before.own, self.line[number - 1].end, stint.start)
        return Left(stint.limit.allocation + over, before.grants)

    def _last_of(self, account: str) -> int | None:
        return max((number for number, stint in enumerate(self.line) if stint.account == account), default=None)
