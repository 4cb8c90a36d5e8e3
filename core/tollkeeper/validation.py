"""What only the sight of all objects shows wrong with a new one: the webhook's cross-object rules (R12).

The rules are those of `compile` itself, so that nothing is admitted that the operator then cannot use. Three more
speak of a change: what it does to what was counted already (`changes`, B7); it is not blamed for what was wrong
before it; and what it breaks in other objects is told, not refused. What a change makes odd about tenants is told as well,
once (`oddities`). One speaks of what is new:
a grant that has lapsed already is admitted with a warning, once. It is not refused: files that are kept and applied
again, to a rebuilt cluster too, hold grants whose time is over.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime

from tollkeeper.changes import changes
from tollkeeper.compile import compile_policy
from tollkeeper.oddities import oddities
from tollkeeper.prices import PriceList
from tollkeeper.problems import ObjectRef, Problem, Severity, problems_of
from tollkeeper.references import Resources, ref_of
from tollkeeper.resources import AnyResource, Tenant, TokenGrant
from tollkeeper.tenants import Namespace, resolve
from tollkeeper.windows import format_time

_NOBODY_ELSE = PriceList()


def check(
    new: AnyResource, resources: Resources, namespaces: Mapping[str, Namespace], now: datetime
) -> tuple[Problem, ...]:
    """What is wrong with `new` among `resources` (which may hold its former self), each fault with path and remedy.

    Those that refuse (`Problem.refuses`) are the object's own and new with this change; the others are warnings:
    the object's own, and what it breaks in others.
    """
    ref = ref_of(new)
    former = resources.find(ref)
    before = _problems(resources, namespaces)
    after = _problems(resources.having(new), namespaces)
    own = problems_of(after, ref)
    known = {(problem.path, problem.code, problem.reason) for problem in problems_of(before, ref)}
    told = [_as_warning(one) if _key(one) in known else one for one in own]
    broken = [_in_others(problem) for problem in after if problem.ref != ref and problem not in before]
    tree = resolve(resources.tenants, namespaces)
    changed = changes(former, new, tree) if former is not None else _lapsed_at_birth(new, now)
    odd = _odd_by_it(new, resources, namespaces) if isinstance(new, Tenant) else ()
    return (*told, *changed, *odd, *(problem for problem in broken if problem is not None))


def check_removal(ref: ObjectRef, resources: Resources, namespaces: Mapping[str, Namespace]) -> tuple[Problem, ...]:
    """What deleting an object breaks in others, as warnings."""
    before = _problems(resources, namespaces)
    after = _problems(resources.without(ref), namespaces)
    broken = (_in_others(problem) for problem in after if problem.ref != ref and problem not in before)
    return tuple(problem for problem in broken if problem is not None)


def _problems(resources: Resources, namespaces: Mapping[str, Namespace]) -> tuple[Problem, ...]:
    return compile_policy(resources, namespaces, (), _NOBODY_ELSE, 0).problems


def _key(problem: Problem) -> tuple[str, str, str]:
    return problem.path, problem.code, problem.reason


def _as_warning(problem: Problem) -> Problem:
    return Problem(problem.ref, problem.path, problem.code, problem.reason, problem.remedy, Severity.WARN)


def _in_others(problem: Problem) -> Problem | None:
    """What a change does to another object; a merely shifted warning there is nobody's news."""
    return _as_warning(problem) if problem.refuses else None


def _odd_by_it(new: Tenant, resources: Resources, namespaces: Mapping[str, Namespace]) -> tuple[Problem, ...]:
    """What a change makes odd, of the tenant itself or of those below it."""
    known = oddities(resources.tenants, namespaces)
    return tuple(one for one in oddities(resources.having(new).tenants, namespaces) if one not in known)


def _lapsed_at_birth(new: AnyResource, now: datetime) -> Iterator[Problem]:
    """A grant that is applied after its end; one that was applied in time may be applied again whenever."""
    if isinstance(new, TokenGrant) and new.spec.expires_at is not None and new.spec.expires_at <= now:
        reason = f"{format_time(new.spec.expires_at)} has passed already, so nothing of the grant can be spent"
        remedy = "create another grant with a later expiresAt, or without one"
        yield Problem(ref_of(new), "spec.expiresAt", "ExpiredAlready", reason, remedy, Severity.WARN)
