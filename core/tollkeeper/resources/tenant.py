"""Tenant: a node in the tree of organizations, departments, teams, projects and workspaces (R1)."""

import re
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StrictBool

from tollkeeper.resources.capture import Capture
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
from tollkeeper.resources.wire import AsSet, CallerName, Glob, Line, MapBy, Name, ShortLine


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
