"""Windows of time: the spans in which a limit counts, and when they begin again (rules B6 and R2).

- Half open: an instant at a boundary belongs to the window that starts there.
- A calendar partitions time: its windows touch, never overlap, and every instant lies in exactly one.
- Days, weeks (from Monday, B6) and months begin when the local clock first reaches that date's midnight. A midnight
  that a clock change skips is the moment of the change; one that comes twice is its first coming. So a day has 23, 24
  or 25 hours, and a date that a zone skipped as a whole has no window.
- Hours and minutes are elapsed ones that begin on the local clock's full hour or minute. A clock change by a part of
  them (Lord Howe's half hour) ends one window early; after it the new clock's full hours count.
- Custom windows are counted from an anchor in elapsed time, before it too.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import ClassVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tollkeeper.errors import InvalidValue

_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)
_FOREVER = "forever"
_BEGINNING = datetime.min.replace(tzinfo=UTC)
ZONE_NAME = re.compile(r"[A-Z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*")
NOT_ZONES = frozenset({"Local", "Factory"})
_DURATION = re.compile(r"(?:([0-9]{1,6})d)?(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,6})s)?")


class Every(StrEnum):
    """A span of the local calendar or clock."""

    MINUTE = "Minute"
    HOUR = "Hour"
    DAY = "Day"
    WEEK = "Week"
    MONTH = "Month"


@dataclass(frozen=True, slots=True)
class Window:
    """`[start, end)`, both aware and in UTC. `end` is None where a window never ends (prepaid, B6)."""

    start: datetime
    end: datetime | None

    def contains(self, now: datetime) -> bool:
        """Whether an aware instant lies in the window."""
        return self.start <= now and (self.end is None or now < self.end)

    def key(self) -> str:
        """The window's stable name in an account's identity (B7): its start in RFC 3339, or `forever`."""
        return _FOREVER if self.end is None else format_time(self.start)


def start_of(key: str) -> datetime | None:
    """The start of the window that `Window.key` named; `None` for one without an end."""
    return None if key == _FOREVER else datetime.fromisoformat(key)


@dataclass(frozen=True, slots=True)
class Calendar:
    """What splits time into windows. Build one with `every`, `custom`, or take `FOREVER`; equal calendars are equal."""

    FOREVER: ClassVar["Calendar"]

    period: Every | None = None
    zone: str = "UTC"
    duration: timedelta | None = None
    anchor: datetime | None = None

    @classmethod
    def every(cls, period: Every, zone: str = "UTC") -> "Calendar":
        """Each minute, hour, day, week or month of an IANA zone's clock. Raises `InvalidValue` for an unknown zone."""
        zone_named(zone)
        return cls(period=Every(period), zone=zone)

    @classmethod
    def custom(cls, duration: timedelta, anchor: datetime) -> "Calendar":
        """Windows of one elapsed length, one of which starts at `anchor` (aware). Raises `InvalidValue`."""
        if duration <= timedelta(0):
            raise InvalidValue(f"a window of {duration} has no length: write a duration above zero, such as 36h")
        return cls(duration=duration, anchor=_utc(anchor))

    def window_at(self, now: datetime) -> Window:
        """The one window that holds `now` (aware). Raises `InvalidValue` for a time without zone."""
        instant = _utc(now)
        if self.duration is not None and self.anchor is not None:
            start = self.anchor + (instant - self.anchor) // self.duration * self.duration
            return Window(start, start + self.duration)
        if self.period is None:
            return Window(_BEGINNING, None)
        zone = zone_named(self.zone)
        if self.period in _CLOCK:
            return _clock_window(instant, zone, _CLOCK[self.period])
        return _date_window(instant, zone, *_DATES[self.period])

    def fits_in(self, other: "Calendar") -> bool:
        """Whether windows of this calendar can lie within windows of another one: they are no longer, as a rule."""
        if other.length is None:
            return True
        return self.length is not None and self.length <= other.length

    @property
    def length(self) -> timedelta | None:
        """How long its longest windows are, but for changes of the clock; `None` where one never ends."""
        return self.duration if self.period is None else _LENGTHS[self.period]

    def next(self, window: Window) -> Window:
        """The window that starts where `window` ends. Raises `InvalidValue` for one that never ends."""
        if window.end is None:
            raise InvalidValue("a prepaid window never ends: there is no next one")
        return self.window_at(window.end)


Calendar.FOREVER = Calendar()


def zone_named(name: str) -> ZoneInfo:
    """The IANA time zone of that name. Raises `InvalidValue` that names it where there is none."""
    refusal = f'{name!r} is not a known time zone: write an IANA name such as "Europe/Madrid" or "UTC"'
    if not ZONE_NAME.fullmatch(name) or name in NOT_ZONES:
        raise InvalidValue(refusal)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, OSError, ValueError) as cause:
        raise InvalidValue(refusal) from cause


def parse_duration(text: str) -> timedelta:
    """The length written as days, hours, minutes and seconds, in that order. Raises `InvalidValue`."""
    match = _DURATION.fullmatch(text)
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0, 0)
    duration = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    if not duration:
        raise InvalidValue(f"{text!r} is not a duration above zero: write it in d, h, m and s, such as 30d or 1h30m")
    return duration


def format_time(when: datetime) -> str:
    """RFC 3339 in UTC, with a fraction only where there is one: `2026-11-01T00:00:00Z`."""
    return _utc(when).isoformat().replace("+00:00", "Z")


def format_column_time(when: datetime | None, zone: str = "UTC") -> str:
    """As columns show a time: `2026-12-01 00:00` on the zone's clock; nothing for None (K6)."""
    return "" if when is None else _utc(when).astimezone(zone_named(zone)).strftime("%Y-%m-%d %H:%M")


def _utc(when: datetime) -> datetime:
    if when.tzinfo is None:
        raise InvalidValue(f"{when.isoformat()} has no time zone: write an offset, such as {when.isoformat()}Z")
    return when.astimezone(UTC)


def _first_of_month(day: date) -> date:
    return day.replace(day=1)


def _first_of_next_month(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


def _monday(day: date) -> date:
    return day - timedelta(days=day.weekday())


# For each span of dates: the first date of the span that holds a date, and the first date of the one after.
_Step = Callable[[date], date]
_DATES: dict[Every, tuple[_Step, _Step]] = {
    Every.DAY: (lambda day: day, lambda day: day + _DAY),
    Every.WEEK: (_monday, lambda day: _monday(day) + timedelta(days=7)),
    Every.MONTH: (_first_of_month, _first_of_next_month),
}
_LENGTHS = {
    Every.MINUTE: timedelta(minutes=1),
    Every.HOUR: timedelta(hours=1),
    Every.DAY: _DAY,
    Every.WEEK: timedelta(days=7),
    Every.MONTH: timedelta(days=31),
}
_CLOCK = {Every.MINUTE: timedelta(minutes=1), Every.HOUR: timedelta(hours=1)}


def _date_window(instant: datetime, zone: ZoneInfo, first: _Step, following: _Step) -> Window:
    # A clock set back over midnight shows yesterday's date again: that hour stays with the date that had begun.
    # So the search begins one span late and goes back to the last boundary that has come.
    begin = following(instant.astimezone(zone).date())
    while midnight(begin, zone) > instant:
        begin = first(begin - _DAY)
    end = following(begin)
    # A date that the zone skipped has the next one's boundary: no window of its own.
    while midnight(end, zone) <= instant:
        end = following(end)
    return Window(midnight(begin, zone), midnight(end, zone))


@lru_cache(maxsize=4096)
def midnight(day: date, zone: ZoneInfo) -> datetime:
    """The instant (UTC) at which a zone's clock first shows midnight of `day`, or first jumps over it."""
    early = datetime(day.year, day.month, day.day, tzinfo=zone)
    instant = early.astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) == early.replace(tzinfo=None):
        return instant
    # Midnight was skipped: the two readings of it enclose the moment of the change.
    return _change_between(early.replace(fold=1).astimezone(UTC), instant, zone)


@lru_cache(maxsize=1024)
def _change_between(low: datetime, high: datetime, zone: ZoneInfo) -> datetime:
    """The second in `(low, high]` at which the zone's offset became the one at `high`."""
    after = high.astimezone(zone).utcoffset()
    while high - low > _SECOND:
        middle = low + (high - low) // 2 // _SECOND * _SECOND
        low, high = (low, middle) if middle.astimezone(zone).utcoffset() == after else (middle, high)
    return high


def _clock_window(instant: datetime, zone: ZoneInfo, length: timedelta) -> Window:
    def phase(when: datetime) -> timedelta:
        return (when.astimezone(zone).utcoffset() or timedelta(0)) % length

    here = phase(instant)
    start = instant - (instant - _BEGINNING + here) % length
    end = start + length
    if phase(start) != here:
        start = _change_between(start, instant.replace(microsecond=0), zone)
    if phase(end - _SECOND) != here:
        end = _change_between(instant.replace(microsecond=0), end - _SECOND, zone)
    return Window(start, end)
