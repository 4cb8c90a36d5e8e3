"""Tenant: a node in the tree of organizations, departments, teams, projects and workspaces (R1)."""

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, StrictBool
from pydantic_core import CoreSchema, core_schema

from tollkeeper.captures import KeptBodies
from tollkeeper.detectors import UNLESS_STATED, BuiltIn
from tollkeeper.errors import InvalidValue, shown
from tollkeeper.patterns import LONGEST_PATTERN, check_pattern
from tollkeeper.redaction import OwnPattern, Redaction
from tollkeeper.resources.meta import (
    AGE,
    API_VERSION,
    Column,
    Kind,
    LabelSelector,
    Observed,
    Part,
    Reference,
    Resource,
    Rule,
    Status,
)
from tollkeeper.resources.wire import AsSet, CallerName, DurationText, Glob, Line, MapBy, Name, ShortLine
from tollkeeper.windows import parse_duration


class Level(StrEnum):
    """The level of a tenant in its organization."""

    ORGANIZATION = "Organization"
    DEPARTMENT = "Department"
    TEAM = "Team"
    PROJECT = "Project"
    WORKSPACE = "Workspace"


class MemberKind(StrEnum):
    """What a member is."""

    USER = "User"
    GROUP = "Group"
    SERVICE_ACCOUNT = "ServiceAccount"


class Role(StrEnum):
    """What a member may do: Admins limits and members, Members requests and keys, Users their own, Viewers look."""

    OWNER = "Owner"
    ADMIN = "Admin"
    MEMBER = "Member"
    USER = "User"
    VIEWER = "Viewer"


class OutputLimit(StrEnum):
    """What is done with a request's own output limit (H2)."""

    LOWER = "Lower"
    KEEP = "Keep"


class Unmetered(StrEnum):
    """What is done with endpoints whose usage cannot be known in the answer (H3)."""

    REFUSE = "Refuse"
    ALLOW = "Allow"


class Bodies(StrEnum):
    """Whether the bodies of requests and answers are kept (R27)."""

    NEVER = "Never"
    ALWAYS = "Always"


class TenantEnforcement(StrEnum):
    """What stands against a tenant's requests now."""

    OPEN = "Open"
    WARNED = "Warned"
    BLOCKED = "Blocked"


class TenantNamespaces(Part):
    """The namespaces a tenant owns, by name, by label, or both. A namespace belongs to one tenant alone."""

    names: Annotated[tuple[Name, ...], AsSet()] = Field(default=(), max_length=256)
    """Namespaces by name; they need not exist yet."""
    selector: LabelSelector | None = None
    """Namespaces by their labels."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            says="an empty selector would take every namespace of the cluster: name at least one label",
            cel="!has(self.selector) || (has(self.selector.matchLabels) && size(self.selector.matchLabels) > 0)"
            " || (has(self.selector.matchExpressions) && size(self.selector.matchExpressions) > 0)",
            holds=lambda self: self.selector is None or not self.selector.is_empty,
            path="selector",
        ),
    )


_SERVICE_ACCOUNT = "[a-z0-9-]+:[a-z0-9.-]+"


class Member(Part):
    """Somebody with a role in the tenant and in all tenants below it."""

    kind: MemberKind
    """User, Group or ServiceAccount."""
    name: Line
    """The name as the cluster's authentication gives it; a ServiceAccount as namespace:name."""
    role: Role
    """What the member may do."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            says="a ServiceAccount is written namespace:name, such as ci:runner",
            cel=f"self.kind != 'ServiceAccount' || self.name.matches('^{_SERVICE_ACCOUNT}$')",
            holds=lambda self: (
                self.kind is not MemberKind.SERVICE_ACCOUNT or re.fullmatch(_SERVICE_ACCOUNT, self.name) is not None
            ),
            path="name",
        ),
    )


class AssistantSpec(Part):
    """An assistant that callers may name in the header Tollkeeper-Assistant (R55)."""

    name: CallerName
    """What callers write."""
    models: Annotated[tuple[Glob, ...], AsSet()] = Field(default=("*",), min_length=1, max_length=64)
    """The models it may use, by name or glob."""
    active: StrictBool = True
    """An assistant that is not active is refused, with this as the reason."""


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
    """Kinds of personal data and secrets that are known by name. An empty list leaves all of them in."""
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


class TenantSpec(Part):
    """Where the tenant stands in the tree, what it owns, who belongs to it, and how its requests are treated."""

    level: Level
    """Organization, Department, Team, Project or Workspace."""
    display_name: ShortLine | None = None
    """The name that people are shown."""
    parent_ref: Reference | None = None
    """The tenant above. Its limits, and those of all above it, hold for this one too. Left out: the top of a tree."""
    namespaces: TenantNamespaces = TenantNamespaces()
    """The namespaces whose requests are charged to this tenant."""
    members: Annotated[tuple[Member, ...], MapBy(("kind", "name"))] = Field(default=(), max_length=256)
    """Who may see and do what."""
    assistants: Annotated[tuple[AssistantSpec, ...], MapBy(("name",))] = Field(default=(), max_length=256)
    """The assistants that callers of this tenant may name."""
    cost_center: ShortLine | None = None
    """The cost center that reports and exports carry."""
    capture: Capture = Capture()
    """Whether bodies are kept; no tenant above or below is asked."""
    output_limit: OutputLimit = OutputLimit.LOWER
    """Lower: a request's output limit is set or lowered to what is held for it. Keep: it is left as it is, and the
    stream is cut when no more can be had."""
    unmetered: Unmetered = Unmetered.REFUSE
    """Batches, background answers, realtime and the like: refused as not_metered, or allowed unmetered."""


class TenantColumns(Observed):
    """What `kubectl get` shows."""

    namespaces: str = ""
    """The namespaces, joined."""


class TenantStatus(Status):
    """What the operator found out about the tenant."""

    path: str | None = None
    """The way from the top of the tree: acme/research."""
    namespaces: tuple[str, ...] = Field(default=(), json_schema_extra={"x-kubernetes-list-type": "atomic"})
    """The namespaces it owns, by name."""
    enforcement: TenantEnforcement | None = None
    """Open: requests pass. Warned: a limit runs low. Blocked: a limit that binds it is used up."""
    columns: TenantColumns = TenantColumns()
    """What `kubectl get` shows."""


class Tenant(Resource):
    """A tenant: an organization, department, team, project or workspace whose AI use is limited and charged.

    Tenants form a tree by `parentRef`. A request is charged to the tenant that owns its namespace or key, and to every
    tenant above it; the tightest limit decides.
    """

    api_version: Literal["tollkeeper.dev/v1alpha1"] = API_VERSION
    kind: Literal["Tenant"] = "Tenant"
    spec: TenantSpec
    status: TenantStatus = TenantStatus()

    definition: ClassVar[Kind] = Kind(
        kind="Tenant",
        plural="tenants",
        short_name="tnt",
        namespaced=False,
        columns=(
            Column("Path", ".status.path", says="The way from the top of the tree"),
            Column("Level", ".spec.level", says="The level in the organization"),
            Column("Namespaces", ".status.columns.namespaces", says="The namespaces it owns"),
            Column("Enforcement", ".status.enforcement", says="Open, Warned or Blocked"),
            AGE,
        ),
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            says="a tenant's name has at most 63 characters and no dots: it is part of paths and keys",
            cel="self.metadata.name.matches('^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$')",
            holds=lambda self: len(self.name) <= 63 and "." not in self.name,
            path="metadata.name",
        ),
        Rule(
            says="a tenant cannot be its own parent: name another tenant, or leave parentRef out",
            cel="!has(self.spec.parentRef) || self.spec.parentRef.name != self.metadata.name",
            holds=lambda self: self.spec.parent_ref is None or self.spec.parent_ref.name != self.name,
            path="spec.parentRef.name",
        ),
    )
