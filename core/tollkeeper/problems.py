"""Problems: what is wrong between objects that are valid one by one. Each says what, where, why, and what to do (R12).

A problem is data: the webhook refuses with it or warns, the operator shows it as a condition, tests compare it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """`REFUSE`: the object must not be admitted. `WARN`: it is admitted, and its author is told."""

    REFUSE = "Refuse"
    WARN = "Warn"


@dataclass(frozen=True, slots=True, order=True)
class ObjectRef:
    """An object by kind, namespace (empty for kinds of the whole cluster) and name."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {f'{self.namespace}/' if self.namespace else ''}{self.name}"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong with `ref` at the field `path`.

    `code` is one CamelCase word, a condition's reason; `reason` and `remedy` are for people, without a final stop.
    """

    ref: ObjectRef
    path: str
    code: str
    reason: str
    remedy: str
    severity: Severity = Severity.REFUSE

    @property
    def refuses(self) -> bool:
        """Whether the object must not be admitted."""
        return self.severity is Severity.REFUSE

    @property
    def says(self) -> str:
        """`path: reason; remedy`, for whoever knows which object is meant."""
        return f"{self.path}: {self.reason}; {self.remedy}"

    def __str__(self) -> str:
        return f"{self.ref}: {self.says}"


def problems_of(problems: Iterable[Problem], ref: ObjectRef) -> tuple[Problem, ...]:
    """Those that concern one object."""
    return tuple(problem for problem in problems if problem.ref == ref)
