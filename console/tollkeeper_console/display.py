"""How values are written for people: money with its last digit, tokens in groups, times on the limit's clock."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from tollkeeper.accounts import Phase
from tollkeeper.amounts import NANODOLLARS_PER_DOLLAR, Unit, format_money
from tollkeeper.costs import dollars
from tollkeeper.limits import Enforcement, Limit, LimitRef
from tollkeeper.prices import REQUEST
from tollkeeper.usage import BUCKETS
from tollkeeper.windows import zone_named

MINUS = "\N{MINUS SIGN}"

PART_WORDS = {REQUEST: "the request itself"}
"""What else than tokens has a price of its own."""

BUCKET_WORDS = {name: name.replace("_", " ") for name in BUCKETS} | {
    "input": "fresh input",
    "cache_write_5m": "cache write (5 min)",
    "cache_write_1h": "cache write (1 h)",
}


class Figure(NamedTuple):
    """An amount in two parts: what one reads, and the digits beyond cents that make it exact."""

    main: str
    rest: str


def figure(value: int, unit: Unit) -> Figure:
    """An amount of a unit: `$1,234.56` and `789`, or `1,234,567`."""
    if not unit.is_money:
        return Figure(number(value), "")
    sign = MINUS if value < 0 else ""
    whole, _, fraction = format_money(abs(value)).partition(".")
    return Figure(f"{sign}${int(whole):,}.{fraction[:2]}", fraction[2:])


def amount(value: int, unit: Unit) -> str:
    """An amount in one piece, exact."""
    return "".join(figure(value, unit))


def exact_dollars(value: Decimal) -> str:
    """`$0.0025`, as finely as it is known: a unit price, or what it came to."""
    whole, _, fraction = dollars(value).partition(".")
    return f"${int(whole):,}.{fraction}"


def price_words(label: str) -> str:
    """A price's name and version, as usages carry them, for people."""
    name, at, version = label.rpartition("@")
    return f"{name}, version {version}" if at else label


def rough(value: int, unit: Unit) -> str:
    """An estimate: whole cents, for more digits would claim what nobody knows; under a cent, what there is."""
    cent = NANODOLLARS_PER_DOLLAR // 100
    return amount(round(value / cent) * cent if unit.is_money and abs(value) >= cent else value, unit)


def percent(probability: float) -> str:
    """A probability (0 to 1) in words that never claim to be certain."""
    if probability < 0.01:
        return "under 1%"
    return "over 99%" if probability > 0.99 else f"{100 * probability:.0f}%"


def number(value: int) -> str:
    """A whole number in groups of three."""
    return f"{value:,}".replace("-", MINUS)


def unit_words(unit: Unit) -> str:
    """The unit's name in words."""
    return "US dollars" if unit.is_money else unit.words


def moment(when: datetime | None, zone: str) -> str:
    """`21 Nov 2026, 14:03:21` on the zone's clock."""
    return "" if when is None else when.astimezone(zone_named(zone)).strftime("%-d %b %Y, %H:%M:%S")


def minute(when: datetime | None, zone: str) -> str:
    """`21 Nov 2026, 14:03` on the zone's clock."""
    return "" if when is None else when.astimezone(zone_named(zone)).strftime("%-d %b %Y, %H:%M")


def machine(when: datetime) -> str:
    """For `<time datetime>` and JSON: RFC 3339 in UTC, to the millisecond."""
    return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def wall(when: datetime, zone: str) -> str:
    """The zone's clock reading without an offset: for axes that know no zones."""
    return when.astimezone(zone_named(zone)).replace(tzinfo=None).isoformat(timespec="seconds")


def span(length: timedelta) -> str:
    """A length in its two largest parts: `9 d 4 h`, `12 min`, `now`."""
    seconds = int(length.total_seconds())
    parts = [(seconds // 86400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "min")]
    named = [f"{count} {name}" for count, name in parts if count]
    return " ".join(named[:2]) or ("under a minute" if seconds > 0 else "now")


def phase_words(phase: Phase, limit: Limit) -> str:
    """What the phase means for whoever uses the budget."""
    if phase is Phase.SUFFICIENT:
        return "Requests and new workloads are admitted."
    if phase is Phase.LOW:
        return f"Still admitted. The balance is below the warning mark of {amount(limit.low_threshold, limit.unit)}."
    return {
        Enforcement.HARD: "Requests are refused until the balance grows or the period begins anew.",
        Enforcement.SOFT: "Past its limit. It warns and refuses nothing.",
        Enforcement.SHADOW: "Past its limit. It only records what it would have refused.",
    }[limit.enforcement]


def page_path(ref: LimitRef) -> str:
    """The limit's page; its parts are names that Kubernetes accepts, so nothing needs escaping."""
    if ref.kind == "TokenBudget":
        return f"/budgets/{ref.namespace}/{ref.name}"
    return f"/quotas/{ref.namespace}/{ref.name}/{ref.limit}"


def key_words(key: tuple[str, ...]) -> str:
    """An account's key for people."""
    return ", ".join(key) or "all callers"
