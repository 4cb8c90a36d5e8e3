"""Of whom an authority has heard, and when: who is silent for a lease time has gone. Pure; times are the wall clock's.

Only time in which the authority could hear counts as silence:

- A holder has one call open at a time, so a call counts from when it comes until it is answered, however long that takes.
- A holder that talks to another authority is heard of by its sequence number in the ledger: silence counts from when the
  ledger has answered, not from when it was asked.
- Beats say that this process runs. One that comes late says for how long it did not, or that the clock was set. What else
  is done meanwhile, however slow, delays no beat.
"""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from tollkeeper.leases import LEASE_TIME

ALWAYS_LATE = timedelta(seconds=5)
"""A beat that comes so much later than it should is no sign that nobody could be heard of."""


class Silent(NamedTuple):
    """A holder that was not heard of for a lease time, with the last number that was heard of it."""

    holder: str
    seen: datetime
    sequence: int


class Hearing:
    """What one authority has heard, since it began to at `now`."""

    def __init__(self, now: datetime) -> None:
        self._beat = now
        self._seen: dict[str, datetime] = {}
        self._sequences: dict[str, int] = {}

    @property
    def holders(self) -> Collection[str]:
        """Whoever was heard of and has not ended."""
        return self._seen.keys()

    def called(self, holder: str, sequence: int, now: datetime) -> bool:
        """A call comes; whether it says that its holder lives: one that comes late or again says nothing of that."""
        tells = sequence > self._sequences.get(holder, 0)
        if tells:
            self._seen[holder] = now
        return tells

    def ended(self, holder: str, now: datetime) -> None:
        """A call that said that its holder lives is answered, or failed."""
        if holder in self._seen:
            self._seen[holder] = now

    def booked(self, holder: str, sequence: int) -> None:
        """The ledger has heard this number."""
        self._sequences[holder] = max(sequence, self._sequences.get(holder, 0))

    def live(self, sequences: Mapping[str, int], now: datetime) -> None:
        """The ledger has answered, by `now`, who has leases, each with the last number that any authority heard of it."""
        for holder, sequence in sequences.items():
            if holder not in self._seen or sequence > self._sequences.get(holder, 0):
                self._seen[holder] = now
                self._sequences[holder] = sequence

    def beat(self, now: datetime, period: timedelta) -> None:
        """This process runs. By so much as it is more than a `period` since the last beat nobody could be heard of, for
        the process stood still, or the clock was set."""
        late = now - self._beat - period
        self._beat = now
        if abs(late) > ALWAYS_LATE:
            self.leave_out(late, now)

    def leave_out(self, away: timedelta, now: datetime) -> None:
        """Nobody could be heard of in this time.

        Where a clock was set back, whoever was heard of before is taken to be heard of now; all others stand right already.
        """
        left_out = max(away, timedelta(0))
        self._seen = {holder: min(now, seen + left_out) for holder, seen in self._seen.items()}

    def silent(self, now: datetime) -> Collection[Silent]:
        """Whoever was not heard of for a lease time."""
        return [
            Silent(holder, seen, self._sequences.get(holder, 0))
            for holder, seen in self._seen.items()
            if now - seen > LEASE_TIME
        ]

    def is_still(self, silent: Silent) -> bool:
        """Whether nothing was heard of a silent holder since, and it has not ended."""
        return self._seen.get(silent.holder) is silent.seen

    def forget(self, holder: str) -> None:
        """A holder has ended."""
        self._seen.pop(holder, None)
        self._sequences.pop(holder, None)
