"""What quotas and budgets share: windows, matches, whom a limit binds, and what closes a gate."""

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, ClassVar

from pydantic import Field

from tollkeeper.errors import InvalidValue
from tollkeeper.limits import Dimension, Match
from tollkeeper.resources.meta import Part, Rule
from tollkeeper.resources.wire import AsSet, DurationText, Glob, Time, Weight, WholeNumber, ZoneText, cel_matches
from tollkeeper.windows import NOT_ZONES, ZONE_NAME, Calendar, Every, parse_duration, zone_named


def _zone_is_known(name: str) -> bool:
    try:
        zone_named(name)
    except InvalidValue:
        return False
    return True


class WindowSpec(Part):
    """When a limit counts and begins again: `every` a span of the calendar, or a `duration` counted from an `anchor`."""

    every: Every | None = None
    """A span of the zone's calendar. A Week begins on Monday."""
    time_zone: ZoneText | None = None
    """The IANA time zone whose clock `every` follows, such as Europe/Madrid. UTC where it is left out."""
    duration: DurationText | None = None
    """A length of elapsed time such as 36h, 30d or 1h30m, instead of `every`."""
    anchor: Time | None = None
    """A time at which one of the windows of `duration` begins; the others touch it on both sides."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            says="give either every, or duration together with anchor",
            cel="has(self.every) ? !has(self.duration) && !has(self.anchor) : has(self.duration) && has(self.anchor)",
            holds=lambda self: (
                self.duration is None and self.anchor is None
                if self.every
                else self.duration is not None and self.anchor is not None
            ),
        ),
        Rule(
            says="belongs to every: remove it beside duration, whose anchor carries its own offset",
            cel="!has(self.timeZone) || has(self.every)",
            holds=lambda self: self.time_zone is None or self.every is not None,
            path="timeZone",
        ),
        Rule(
            says='unknown time zone: write an IANA name such as "Europe/Madrid" or "UTC"',
            # The server's own zone database answers; a zone that it lacks is an error, which refuses the object.
            cel=f"!has(self.timeZone) || ({cel_matches(ZONE_NAME.pattern, 'self.timeZone')} && !(self.timeZone in ["
            + ", ".join(f"'{name}'" for name in sorted(NOT_ZONES))
            + "]) && timestamp('2026-01-01T00:00:00Z').getFullYear(self.timeZone) > 2000)",
            holds=lambda self: self.time_zone is None or _zone_is_known(self.time_zone),
            path="timeZone",
        ),
    )

    def calendar(self) -> Calendar:
        """The windows it describes."""
        if self.duration is not None and self.anchor is not None:
            return Calendar.custom(parse_duration(self.duration), self.anchor)
        return Calendar.every(self.every or Every.DAY, self.zone)

    @property
    def zone(self) -> str:
        """The zone whose clock its times are shown on."""
        return self.time_zone or "UTC"

    @property
    def is_a_day_or_longer(self) -> bool:
        """Whether exhausting it may close a namespace's gate (K3)."""
        if self.duration is not None:
            return parse_duration(self.duration) >= timedelta(days=1)
        return self.every in (Every.DAY, Every.WEEK, Every.MONTH)


Globs = Annotated[tuple[Glob, ...], AsSet()]
Thresholds = Annotated[tuple[Annotated[int, WholeNumber(1, 1000)], ...], AsSet()]
Per = Annotated[tuple[Dimension, ...], AsSet()]


def _globs(**extra: Any) -> Any:
    return Field(default=(), max_length=64, **extra)


class MatchSpec(Part):
    """Which requests a limit counts. Every list that is given must have one glob that fits; lists left out fit all."""

    models: Globs = _globs()
    """Models by name or glob, such as "gpt-5*"."""
    providers: Globs = _globs()
    """Providers by name or glob, such as openai."""
    features: Globs = _globs()
    """Features, as callers name them in Tollkeeper-Feature or workloads in an annotation."""
    assistants: Globs = _globs()
    """Assistants by the names that their Tenant declares."""
    users: Globs = _globs()
    """Users by name or glob."""
    api_keys: Globs = _globs()
    """API keys by their ids, never the keys themselves."""
    namespaces: Globs = _globs()
    """Namespaces that the requests come from."""
    workloads: Globs = _globs()
    """Workloads that the requests come from."""

    def compiled(self) -> Match:
        """The match that decisions are taken with."""
        lists = (
            (Dimension.MODEL, self.models),
            (Dimension.PROVIDER, self.providers),
            (Dimension.FEATURE, self.features),
            (Dimension.ASSISTANT, self.assistants),
            (Dimension.USER, self.users),
            (Dimension.API_KEY, self.api_keys),
            (Dimension.NAMESPACE, self.namespaces),
            (Dimension.WORKLOAD, self.workloads),
        )
        return Match(tuple((dimension, globs) for dimension, globs in lists if globs))


class Weights(Part):
    """How much a token of each bucket counts, as quoted decimal strings such as "0.1"; 1 where it is left out (M5)."""

    input: Weight | None = Field(default=None, alias="input")
    """Fresh input tokens."""
    cache_read: Weight | None = Field(default=None, alias="cache_read")
    """Input tokens read from the provider's cache."""
    cache_write_5m: Weight | None = Field(default=None, alias="cache_write_5m")
    """Input tokens written to the provider's cache for five minutes."""
    cache_write_1h: Weight | None = Field(default=None, alias="cache_write_1h")
    """Input tokens written to the provider's cache for an hour."""
    output: Weight | None = Field(default=None, alias="output")
    """Output tokens without reasoning."""
    reasoning: Weight | None = Field(default=None, alias="reasoning")
    """Reasoning tokens."""
    audio_input: Weight | None = Field(default=None, alias="audio_input")
    """Audio that went in."""
    audio_output: Weight | None = Field(default=None, alias="audio_output")
    """Audio that came out."""
    image: Weight | None = Field(default=None, alias="image")
    """Images."""

    def by_bucket(self) -> Mapping[str, Decimal]:
        """The weights that were given, exactly."""
        return {name: Decimal(weight) for name, weight in self.model_dump(exclude_none=True).items()}


BINDING_RULE = Rule(
    says="give either tenantRef or tenantSelector: one tenant by name, or all with a label",
    cel="has(self.tenantRef) != has(self.tenantSelector)",
    holds=lambda self: (self.tenant_ref is None) != (self.tenant_selector is None),
)
"""Whom a quota or budget binds (R5, W3)."""
