"""What all resources share: how they are read, how rules across fields are stated, and the fields every object has.

A `Rule` states one rule three times side by side: in words, in CEL for the API server, in Python for us. The tests feed
both sides the same objects and demand the same verdict.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictStr, model_validator
from pydantic.alias_generators import to_camel

from tollkeeper.errors import InvalidValue
from tollkeeper.resources.wire import AsSet, Line, Name, ObjectName, Text, Time

API_GROUP = "tollkeeper.dev"
VERSION = "v1alpha1"
API_VERSION: Final = "tollkeeper.dev/v1alpha1"
CATEGORY = "tollkeeper"
SYSTEM_NAMESPACE = "tollkeeper-system"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule across the fields of one object. `path` is the field it speaks of, relative to the object.

    `holds` is None for a rule about a change (`oldSelf` in CEL), which only the API server can see.
    """

    says: str
    cel: str
    holds: Callable[[Any], bool] | None
    path: str = ""


class BrokenRules(InvalidValue):
    """An object broke rules across its fields; `rules` are all of them."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        super().__init__("; ".join(rule.says for rule in rules))
        self.rules = rules


class Part(BaseModel):
    """A part of a resource: frozen, camelCase on the wire, unknown fields refused, a null read as a field left out."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        use_attribute_docstrings=True,
        arbitrary_types_allowed=True,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, raw: Any) -> Any:
        # As the API server does before it validates: it drops nulls of fields that are not nullable, and none of ours is.
        if not isinstance(raw, Mapping):
            return raw
        known = {name for field, info in cls.model_fields.items() for name in (field, info.alias)}
        return {key: value for key, value in raw.items() if value is not None or key not in known}

    @model_validator(mode="after")
    def _keeps_its_rules(self) -> Self:
        broken = tuple(rule for rule in self.rules if rule.holds is not None and not rule.holds(self))
        if broken:
            raise BrokenRules(broken)
        return self

    def to_wire(self) -> dict[str, Any]:
        """JSON values under the wire's names; what is not set is left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Observed(Part):
    """A part of a status. Fields that a later version wrote are left aside, never refused."""

    model_config = ConfigDict(extra="ignore")


class Reference(Part):
    """The name of a tenant."""

    name: Name
    """Name of the Tenant that is meant."""


class ObjectReference(Part):
    """The name of another object of the same namespace."""

    name: ObjectName
    """Name of the object that is meant."""


class Operator(StrEnum):
    """How a label selector's expression compares."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


LabelValue = Annotated[
    str, Text(r"([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?", 63, "a label's value: write letters, digits, . _ and -")
]
LabelKey = Annotated[
    str,
    Text(
        r"([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", 317, "a label's key such as team"
    ),
]


class Expression(Part):
    """One comparison of a label."""

    key: LabelKey
    """The label's key."""
    operator: Operator
    """In and NotIn compare with `values`; Exists and DoesNotExist only ask for the key."""
    values: Annotated[tuple[LabelValue, ...], AsSet()] = Field(default=(), max_length=32)
    """The values of In and NotIn."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            says="In and NotIn need values, Exists and DoesNotExist take none: give or remove values",
            cel="(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
            holds=lambda self: (self.operator in (Operator.IN, Operator.NOT_IN)) == bool(self.values),
            path="values",
        ),
    )

    def takes(self, labels: Mapping[str, str]) -> bool:
        """Whether labels fulfil the comparison; NotIn holds where the key is missing, as in Kubernetes."""
        match self.operator:
            case Operator.IN:
                return labels.get(self.key) in self.values
            case Operator.NOT_IN:
                return labels.get(self.key) not in self.values
            case Operator.EXISTS:
                return self.key in labels
            case Operator.DOES_NOT_EXIST:
                return self.key not in labels


def _without_null_values(labels: Any) -> Any:
    # As the API server does, for values of a map as for fields.
    if not isinstance(labels, Mapping):
        return labels
    return {key: value for key, value in labels.items() if value is not None}


class LabelSelector(Part):
    """Objects by their labels: all of `matchLabels` and all of `matchExpressions` must hold. Empty, it takes all."""

    match_labels: Annotated[dict[StrictStr, LabelValue], BeforeValidator(_without_null_values)] = Field(
        default={}, max_length=32
    )
    """Labels that must be there with exactly these values."""
    match_expressions: tuple[Expression, ...] = Field(
        default=(), max_length=32, json_schema_extra={"x-kubernetes-list-type": "atomic"}
    )
    """Comparisons that must all hold."""

    @property
    def is_empty(self) -> bool:
        """Whether it would take every object."""
        return not self.match_labels and not self.match_expressions

    def takes(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels is meant."""
        equal = all(labels.get(key) == value for key, value in self.match_labels.items())
        return equal and all(expression.takes(labels) for expression in self.match_expressions)


class Condition(Observed):
    """One observation of the object's state, as the Kubernetes API conventions define it."""

    type: Line
    """What is observed: Ready, WithinLimit, UsageFresh, …"""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Line
    """One CamelCase word that says why."""
    message: str = ""
    """A sentence for people: what is, and what to do."""
    last_transition_time: Time
    """When `status` last changed."""
    observed_generation: int | None = Field(default=None, json_schema_extra={"format": "int64"})
    """The generation of the object that this was observed on."""


class Status(Observed):
    """What every status has."""

    observed_generation: int | None = Field(default=None, json_schema_extra={"format": "int64"})
    """The generation of the object that this status speaks of."""
    conditions: tuple[Condition, ...] = Field(
        default=(), json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
    )
    """Observations by type; `Ready` sums them up."""

    def condition(self, kind: str) -> Condition | None:
        """The condition of a type, if it was ever observed."""
        return next((condition for condition in self.conditions if condition.type == kind), None)


class ObjectMeta(Observed):
    """The metadata that we read; Kubernetes owns and validates it."""

    name: StrictStr
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    generation: int | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`. Times are shown as strings: a date column shows the future as `<invalid>` (K6)."""

    name: str
    path: str
    type: Literal["string", "integer", "boolean", "date"] = "string"
    says: str = ""
    wide: bool = False


AGE = Column("Age", ".metadata.creationTimestamp", "date", "Time since the object was created")


@dataclass(frozen=True, slots=True)
class Kind:
    """How a resource is registered: its names, its scope and its columns."""

    kind: str
    plural: str
    short_name: str
    namespaced: bool
    columns: tuple[Column, ...]

    @property
    def crd_name(self) -> str:
        """The name of its CustomResourceDefinition."""
        return f"{self.plural}.{API_GROUP}"


class Resource(Part):
    """A custom resource of ours."""

    definition: ClassVar[Kind]

    metadata: ObjectMeta

    @property
    def name(self) -> str:
        """The object's name."""
        return self.metadata.name

    @property
    def namespace(self) -> str:
        """The object's namespace; empty for kinds of the whole cluster."""
        return self.metadata.namespace or ""

    @property
    def generation(self) -> int | None:
        """The generation of the spec, for `observedGeneration`."""
        return self.metadata.generation

    def __str__(self) -> str:
        return f"{self.definition.kind} {f'{self.namespace}/' if self.namespace else ''}{self.name}"
