"""All resources at one moment, and how they refer to each other."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from tollkeeper.problems import ObjectRef, Problem
from tollkeeper.resources import (
    AnyResource,
    InvalidResource,
    PriceBook,
    Tenant,
    TokenBudget,
    TokenGrant,
    TokenQuota,
    parse,
)

R = TypeVar("R", bound=AnyResource)


def ref_of(resource: AnyResource) -> ObjectRef:
    """How problems name a resource."""
    return ObjectRef(resource.kind, resource.namespace, resource.name)


@dataclass(frozen=True, slots=True)
class Resources:
    """Every resource that policy is made of. Gates are not among them: they are its result."""

    tenants: tuple[Tenant, ...] = ()
    quotas: tuple[TokenQuota, ...] = ()
    budgets: tuple[TokenBudget, ...] = ()
    grants: tuple[TokenGrant, ...] = ()
    price_books: tuple[PriceBook, ...] = ()

    @classmethod
    def of(cls, resources: Iterable[AnyResource]) -> "Resources":
        """These resources by kind."""
        given = tuple(resources)

        def those(kind: type[R]) -> tuple[R, ...]:
            return tuple(resource for resource in given if isinstance(resource, kind))

        return cls(those(Tenant), those(TokenQuota), those(TokenBudget), those(TokenGrant), those(PriceBook))

    def having(self, new: AnyResource) -> "Resources":
        """The same with `new` in place of the object of its kind and name, or beside all others."""
        rest = self.without(ref_of(new))
        match new:
            case Tenant():
                return replace(rest, tenants=(*rest.tenants, new))
            case TokenQuota():
                return replace(rest, quotas=(*rest.quotas, new))
            case TokenBudget():
                return replace(rest, budgets=(*rest.budgets, new))
            case TokenGrant():
                return replace(rest, grants=(*rest.grants, new))
            case PriceBook():
                return replace(rest, price_books=(*rest.price_books, new))
            case _:
                return rest

    def without(self, ref: ObjectRef) -> "Resources":
        """The same without one object."""
        return Resources.of(resource for resource in self.all() if ref_of(resource) != ref)

    def all(self) -> tuple[AnyResource, ...]:
        """Every resource."""
        return (*self.tenants, *self.quotas, *self.budgets, *self.grants, *self.price_books)

    def find(self, ref: ObjectRef) -> AnyResource | None:
        """One resource."""
        return next((resource for resource in self.all() if ref_of(resource) == ref), None)

    def budget(self, namespace: str, name: str) -> TokenBudget | None:
        """One budget."""
        named = (budget for budget in self.budgets if (budget.namespace, budget.name) == (namespace, name))
        return next(named, None)


def read(objects: Iterable[Mapping[str, Any]]) -> tuple[Resources, tuple[Problem, ...]]:
    """The resources that API objects state. One that cannot be read is left out, and each of its faults is a problem.

    Statuses are left aside: they are our own, and must never keep an object from being read.
    """
    resources: list[AnyResource] = []
    problems: list[Problem] = []
    for raw in objects:
        try:
            resources.append(parse(stated(raw)))
        except InvalidResource as invalid:
            problems += [_unreadable(raw, fault.path, fault.says) for fault in invalid.faults]
    return Resources.of(resources), tuple(problems)


def stated(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What people wrote of an object: all but its status."""
    return {name: value for name, value in raw.items() if name != "status"}


def _unreadable(raw: Mapping[str, Any], path: str, says: str) -> Problem:
    about = raw.get("metadata") or {}
    ref = ObjectRef(str(raw.get("kind")), str(about.get("namespace") or ""), str(about.get("name")))
    return Problem(ref, path, "Invalid", says, "correct it; until then the object has no effect")
