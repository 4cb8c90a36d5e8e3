"""What a Tenant says of the bodies of its requests: whether they are kept, how long, and what is taken out before (R27)."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from tollkeeper.captures import KeptBodies
from tollkeeper.errors import InvalidValue, shown
from tollkeeper.patterns import LONGEST_PATTERN, check_pattern
from tollkeeper.redactionrules import UNLESS_STATED, BuiltIn, OwnPattern, Redaction
from tollkeeper.resources.meta import Part, Rule
from tollkeeper.resources.wire import AsSet, DurationText, MapBy, Name
from tollkeeper.windows import parse_duration


class Bodies(StrEnum):
    """Whether the bodies of requests and answers are kept (R27)."""

    NEVER = "Never"
    ALWAYS = "Always"


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A regular expression as RE2 reads it. The API server's CEL reads the same, so its verdict comes from trying it out."""

    says: ClassVar[str] = (
        f"a regular expression of RE2 with at most {LONGEST_PATTERN} characters that does not match the empty text, "
        "such as EMP-[0-9]{6}"
    )

    def check(self, value: Any) -> str:
        """The pattern itself. Raises `InvalidValue` with what to write."""
        if not isinstance(value, str) or not 0 < len(value) <= LONGEST_PATTERN:
            raise InvalidValue(f"{shown(value)} is not {self.says}")
        check_pattern(value)
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        # What CEL cannot read fails the rule as what is false does.
        rule = {"rule": "!''.matches(self)", "message": f"must be {self.says}"}
        return {"type": "string", "maxLength": LONGEST_PATTERN, "x-kubernetes-validations": [rule]}


class RedactionPattern(Part):
    """A pattern of the tenant's own; what it finds is redacted under its name."""

    name: Name
    """What stands in place of what is found: [redacted:name]."""
    pattern: Annotated[str, _Pattern()]
    """A regular expression in the syntax of RE2 (https://github.com/google/re2/wiki/Syntax), such as EMP-[0-9]{6}."""


class RedactionRules(Part):
    """What is taken out of bodies before they are kept: what is found is replaced, in memory, and never written."""

    built_in: Annotated[tuple[BuiltIn, ...], AsSet()] = Field(default=UNLESS_STATED, max_length=len(BuiltIn))
    """Kinds of personal data and secrets that are known by name: EmailAddresses, PhoneNumbers, CardNumbers, BankAccounts,
    SocialSecurityNumbers and Secrets, which are the default, and IPAddresses. An empty list leaves all of them in."""
    patterns: Annotated[tuple[RedactionPattern, ...], MapBy(("name",))] = Field(default=(), max_length=16)
    """Patterns of the tenant's own."""


SHORTEST_RETENTION = timedelta(minutes=1)
LONGEST_RETENTION = timedelta(days=3650)


def _cel_seconds(text: str) -> str:
    """The CEL expression of a duration's seconds. A part that is left out is none; `int('030')` is thirty."""
    factors = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
    parts = (f"int('0' + {text}.find('[0-9]+{u}').replace('{u}', '')) * {factor}" for u, factor in factors.items())
    return " + ".join(parts)


class Capture(Part):
    """Whether the bodies of requests and answers are kept, how long, and what is taken out of them before (R27).

    Each tenant says so for itself alone: nothing of this comes from the tenants above it, so that nobody's bodies are kept
    because of what somebody else wrote.
    """

    bodies: Bodies = Bodies.NEVER
    """Never, unless the tenant asks for it. Always: the bodies of metered requests and of their answers are kept, encrypted."""
    retention: DurationText = "30d"
    """How long a body is kept, such as 30d: at least 1m, at most 3650d. A shorter one holds for what is kept already, too."""
    redact: RedactionRules = RedactionRules()
    """What is taken out of bodies before they are kept."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            says="bodies are kept for at least 1m and at most 3650d (ten years): write a duration between them",
            cel="!has(self.retention) || !self.retention.matches('^([0-9]+[dhms])+$')"  # its own rule has the words then
            f" || [{_cel_seconds('self.retention')}].all(s, s >= 60 && s <= 315360000)",
            holds=lambda self: SHORTEST_RETENTION <= self.retained_for <= LONGEST_RETENTION,
            path="retention",
        ),
    )

    @property
    def retained_for(self) -> timedelta:
        """How long a body is kept."""
        return parse_duration(self.retention)

    def compiled(self) -> KeptBodies | None:
        """What the gateway goes by; `None` where nothing is kept."""
        if self.bodies is Bodies.NEVER:
            return None
        patterns = tuple(OwnPattern(one.name, one.pattern) for one in self.redact.patterns)
        return KeptBodies(self.retained_for, Redaction(self.redact.built_in, patterns))
