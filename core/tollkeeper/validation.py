"""What only the sight of all objects shows wrong with a new one: the webhook's cross-object rules (R12).

The rules are those of `compile` itself, so that nothing is admitted that the operator then cannot use. Three more
speak of a change: a budget or limit keeps its unit and its windows, since its account goes on counting (B7): a window that
overlaps the one that is counted would begin with a whole allocation and forget what was spent; a change is not blamed
for what was wrong before it; and what a change breaks in other objects is told, not refused. One speaks of what is new:
a grant that has lapsed already is admitted with a warning, once. It is not refused: files that are kept and applied
again, to a rebuilt cluster too, hold grants whose time is over.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime

from tollkeeper.compile import compile_policy
from tollkeeper.prices import PriceList
from tollkeeper.problems import ObjectRef, Problem, Severity, problems_of
from tollkeeper.references import Resources, ref_of
from tollkeeper.resources import AnyResource, TokenBudget, TokenGrant, TokenQuota
from tollkeeper.tenants import Namespace
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
    changed = _fixed_changes(former, new) if former is not None else _lapsed_at_birth(new, now)
    return (*told, *changed, *(problem for problem in broken if problem is not None))


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


def _fixed_changes(former: AnyResource, new: AnyResource) -> Iterator[Problem]:
    """What a change may not touch: units and windows. What is spent and granted stands in the window that counts now."""
    if isinstance(former, TokenBudget) and isinstance(new, TokenBudget):
        if former.spec.unit != new.spec.unit:
            yield _unit_change(new, "spec.unit", former.spec.unit, "create another budget")
        if former.spec.calendar() != new.spec.calendar():
            reason = "its balance and its grants stand in the period that they began in"
            remedy = "keep the period as it was, or create another budget"
            yield Problem(ref_of(new), "spec.period", "PeriodChanged", reason, remedy)
    if isinstance(former, TokenQuota) and isinstance(new, TokenQuota):
        before = {limit.name: limit for limit in former.spec.limits}
        for number, limit in enumerate(new.spec.limits):
            was, path = before.get(limit.name, limit), f"spec.limits[{number}]"
            if was.unit != limit.unit:
                yield _unit_change(new, f"{path}.unit", was.unit, "give the limit another name")
            if was.window.calendar() != limit.window.calendar():
                reason = (
                    "what was used stands in the window that counts now, and one that overlaps it would forget that"
                )
                remedy = "keep the window as it was, or give the limit another name, which counts anew"
                yield Problem(ref_of(new), f"{path}.window", "WindowChanged", reason, remedy)


def _lapsed_at_birth(new: AnyResource, now: datetime) -> Iterator[Problem]:
    """A grant that is applied after its end; one that was applied in time may be applied again whenever."""
    if isinstance(new, TokenGrant) and new.spec.expires_at is not None and new.spec.expires_at <= now:
        reason = f"{format_time(new.spec.expires_at)} has passed already, so nothing of the grant can be spent"
        remedy = "create another grant with a later expiresAt, or without one"
        yield Problem(ref_of(new), "spec.expiresAt", "ExpiredAlready", reason, remedy, Severity.WARN)


def _unit_change(new: AnyResource, path: str, was: str, remedy: str) -> Problem:
    reason = f"its account counts {was}, and what it counted cannot become another unit"
    return Problem(ref_of(new), path, "UnitChanged", reason, f"keep {was}, or {remedy}")
