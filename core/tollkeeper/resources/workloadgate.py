"""WorkloadGate: whether new metered workloads may start in a namespace; read by the API server itself (I7, K1 to K3)."""

from typing import ClassVar, Literal

from pydantic import Field

from tollkeeper.resources.meta import AGE, API_VERSION, Column, Kind, Observed, Resource, Rule, Status
from tollkeeper.resources.wire import Time

GATE_NAME = "tollkeeper"
"""The name of the one gate of each governed namespace."""


class ClosingLimit(Observed):
    """A limit that closed the gate."""

    kind: str
    """TokenBudget or TokenQuota."""
    namespace: str
    """Where it is written."""
    name: str
    """Its object's name, and for a quota the limit's after a slash."""
    balance: str = ""
    """What is left; empty where the namespace's tenant may not know it."""
    minimum: str = ""
    """How far the balance may go; empty where the namespace's tenant may not know it."""
    resets: str = ""
    """When it begins again; empty where it never does."""


class WorkloadGateColumns(Observed):
    """What `kubectl get` shows."""

    limits: str = ""
    """The limits that closed the gate, joined."""
    since: str = ""
    """Since when the gate stands as it does."""


class WorkloadGateStatus(Status):
    """Whether the gate is open, and if not, what closed it and what to do."""

    open: bool | None = None
    """Whether new metered workloads may start."""
    message: str | None = None
    """What the refused are told: the budget, its balance, when it resets, what to do."""
    limits: tuple[ClosingLimit, ...] = Field(
        default=(), max_length=64, json_schema_extra={"x-kubernetes-list-type": "atomic"}
    )
    """The limits that closed it; the one that lasts longest first."""
    since: Time | None = None
    """Since when it stands as it does."""
    as_of: Time | None = None
    """How old the knowledge is that it stands on."""
    columns: WorkloadGateColumns = WorkloadGateColumns()
    """What `kubectl get` shows."""


class WorkloadGate(Resource):
    """The gate of a namespace: while it is closed, the API server refuses new metered pods and workloads in it.

    The operator alone writes it, one for each governed namespace. It has no spec: its status is the verdict.
    """

    api_version: Literal["tollkeeper.dev/v1alpha1"] = API_VERSION
    kind: Literal["WorkloadGate"] = "WorkloadGate"
    status: WorkloadGateStatus = WorkloadGateStatus()

    definition: ClassVar[Kind] = Kind(
        kind="WorkloadGate",
        plural="workloadgates",
        short_name="wg",
        namespaced=True,
        columns=(
            Column("Open", ".status.open", "boolean", "Whether new metered workloads may start"),
            Column("Limits", ".status.columns.limits", says="The limits that closed it"),
            Column("Since", ".status.columns.since", says="Since when it stands as it does"),
            AGE,
        ),
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            says="a namespace has one gate, named tollkeeper",
            cel="self.metadata.name == 'tollkeeper'",
            holds=lambda self: self.name == GATE_NAME,
            path="metadata.name",
        ),
    )
