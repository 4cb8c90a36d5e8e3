"""Which usages are asked for, read from an address (R34): the same names on pages and in the API.

A value that cannot be is refused by its parameter's name, never left out: a filter that was silently dropped would show
sums of other people's usages under one's own name.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from tollkeeper.usage import Outcome
from tollkeeper.views import UsageFilter
from tollkeeper.windows import zone_named
from tollkeeper_console.parameters import Parameter
from tollkeeper_console.problems import BadRequest

TEXTS = ("model", "tool", "assistant", "api_key", "user", "feature")
NAMES = (*TEXTS, "status", "outcome", "from", "to")
LONGEST_TEXT = 512

_STATUS = re.compile(r"[1-5](?:[0-9]{2}|xx)")
_CLOCK = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:[Zz]|[+-]\d\d:\d\d)")
_YEARS = range(1970, 9999)

FILTERS = (
    *(
        Parameter(name, f"Only usages with this {name.replace('api_key', 'API key')}.", {"type": "string"})
        for name in TEXTS
    ),
    Parameter(
        "status",
        "Only usages with this HTTP status, or of this class, such as 4xx.",
        {"type": "string", "pattern": "^[1-5]([0-9]{2}|xx)$"},
    ),
    Parameter("outcome", "Only usages that ended so.", {"type": "string", "enum": [one.value for one in Outcome]}),
    Parameter("from", "Only usages that finished at this time or later.", {"type": "string", "format": "date-time"}),
    Parameter("to", "Only usages that finished before this time.", {"type": "string", "format": "date-time"}),
)


class BadFilter(BadRequest):
    """A filter that cannot be; `name` is the parameter's."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


def filter_of(query: Mapping[str, str], zone: str | None = None) -> UsageFilter:
    """The filter that an address asks for. Raises `BadFilter`.

    Times are RFC 3339. With a `zone` they may also be its clock's reading, as fields of forms give it.
    """
    texts = {name: _text(name, query[name]) for name in TEXTS if name in query}
    since = _time("from", query["from"], zone) if "from" in query else None
    until = _time("to", query["to"], zone) if "to" in query else None
    if since and until and since >= until:
        raise BadFilter("to", f"to={query['to']!r} is not after from={query['from']!r}: nothing lies between them")
    return UsageFilter(
        **texts,
        status=_status(query["status"]) if "status" in query else None,
        outcome=_outcome(query["outcome"]) if "outcome" in query else None,
        since=since,
        until=until,
    )


def is_clock_reading(text: str) -> bool:
    """Whether a time is written as a clock shows it, without an offset: what a form's field can hold."""
    return _CLOCK.fullmatch(text) is not None


def _text(name: str, value: str) -> str:
    if not value:
        raise BadFilter(name, f"{name} is empty: name a value, or leave {name} out to see all")
    if len(value) > LONGEST_TEXT or not value.isprintable():
        raise BadFilter(name, f"{name} is not a name: write at most {LONGEST_TEXT} printable characters")
    return value


def _status(value: str) -> range:
    if not _STATUS.fullmatch(value):
        raise BadFilter(
            "status", f"status={value!r} is not an HTTP status: write one such as 429, or a class such as 4xx"
        )
    if value.endswith("xx"):
        return range(int(value[0]) * 100, int(value[0]) * 100 + 100)
    return range(int(value), int(value) + 1)


def _outcome(value: str) -> Outcome:
    try:
        return Outcome(value)
    except ValueError:
        known = ", ".join(Outcome)
        raise BadFilter("outcome", f"outcome={value!r} is not an outcome: write one of {known}") from None


def _time(name: str, value: str, zone: str | None) -> datetime:
    example = "2026-11-21T14:00" if zone else "2026-11-21T14:00:00Z"
    refusal = BadFilter(name, f"{name}={value!r} is not a time: write it as {example}")
    try:
        if _INSTANT.fullmatch(value):
            when = datetime.fromisoformat(value.upper()).astimezone(UTC)
        elif zone and is_clock_reading(value):
            when = _on_clock(datetime.fromisoformat(value), zone, is_start=name == "from")
        else:
            raise refusal
    except (ValueError, OverflowError) as error:
        raise refusal from error
    if when.year not in _YEARS:
        raise refusal
    return when


def _on_clock(reading: datetime, zone: str, *, is_start: bool) -> datetime:
    """The instant (UTC) of a clock's reading. One that comes twice, or never, is taken so that the range is the wider."""
    local = reading.replace(tzinfo=zone_named(zone))
    instants = [local.replace(fold=fold).astimezone(UTC) for fold in (0, 1)]
    return min(instants) if is_start else max(instants)
