"""Thresholds, told at a bounded rate: the crossings of a series are gathered, and told as one Event that counts.

A limit with a key for each user, or by the minute, may be crossed thousands of times an hour. The first crossing of a
series is told at once, as any other is, and what follows every `PAUSE_SECONDS`: as often as client-go's recorder lets one
source tell of one object that is always in trouble.

What could not be told (too much at once, an API server that is away or refuses) counts with what follows, until a series
could not be told for an hour, in which its Event would have gone as well: it is given up then. One that is told by itself
and cannot be stays untold, as any notice does, and so does what a restart finds untold; status says how things stand.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tollkeeper.accounts import Account
from tollkeeper.limits import Limit, LimitRef
from tollkeeper.notices import Notice, Series, series_of, threshold_notice

PAUSE_SECONDS = 300.0

MISSES = 12
"""A series that could not be told so often, one after the other, is given up."""


@dataclass(slots=True)
class _Told:
    """A series as far as it was told: how often it was reached since, and by whom last.

    `telling` is how much of that is being told, and `missed` how often it could not be.
    """

    series: Series
    latest: Account
    untold: int = 0
    telling: int = 0
    missed: int = 0
    next_at: float = 0.0


@dataclass(slots=True)
class ThresholdEvents:
    """The crossings that are to be told. Times are monotonic seconds."""

    _single: list[tuple[LimitRef, Notice]] = field(default_factory=list)
    _series: dict[str, _Told] = field(default_factory=dict)

    def crossed(self, threshold: int, limit: Limit, account: Account) -> None:
        """An account has reached a threshold for the first time."""
        series = series_of(threshold, limit, account)
        if series is None:
            self._single.append((limit.ref, threshold_notice(threshold, limit, account)))
            return
        told = self._series.setdefault(series.identity, _Told(series, account))
        told.series, told.latest = series, account
        told.untold += 1

    def due(
        self, at: float, accounts_of: Callable[[Limit, Account], Sequence[Account]]
    ) -> Iterator[tuple[LimitRef, Notice]]:
        """What is to be told now, each with its limit: `ended` must follow. `accounts_of` are those of the limit in an
        account's window.

        A series is forgotten when its pause is over and nothing followed: its Event remembers the count.
        """
        yield from self._single
        self._single.clear()
        for identity, told in [(identity, told) for identity, told in self._series.items() if at >= told.next_at]:
            if told.untold and not told.telling:
                accounts = accounts_of(told.series.limit, told.latest)
                told.telling, told.untold, told.next_at = told.untold, 0, at + PAUSE_SECONDS
                yield told.series.limit.ref, told.series.notice(told.latest, accounts, told.telling)
            elif not told.telling:
                del self._series[identity]

    def ended(self, notice: Notice, *, told: bool) -> None:
        """A notice that was due was written, or could not be as far as is known: it counts with the next one then."""
        known = self._series.get(notice.identity)
        if known is None:
            return
        known.missed = 0 if told else known.missed + 1
        if not told and known.missed < MISSES:
            known.untold += known.telling
        known.telling = 0
