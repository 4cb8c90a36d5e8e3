"""What a change of a quota or budget does to what it has counted (B7): what is refused, and what is said of the rest.

An account is known by its limit, key and window, in one unit. A change after which other accounts would count begins
with a whole allocation and forgets what was used: unit, window and key are fixed, and another name counts anew for
everybody to see. A change after which the same account counts other requests forgets nothing, and there are good reasons
for it (a tenant that is renamed, a model that is new): it is admitted, and its author is told what stays.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias

from tollkeeper.compile import bind
from tollkeeper.errors import MOST_NAMED, listed
from tollkeeper.limits import Dimension
from tollkeeper.problems import Problem, Severity
from tollkeeper.references import ref_of
from tollkeeper.resources import AnyResource, TokenBudget, TokenQuota
from tollkeeper.resources.tokenbudget import TokenBudgetSpec
from tollkeeper.resources.tokenquota import QuotaLimit
from tollkeeper.tenants import TenantTree

_Owner: TypeAlias = TokenQuota | TokenBudget
_Spec: TypeAlias = QuotaLimit | TokenBudgetSpec


@dataclass(frozen=True, slots=True)
class _Pair:
    """A limit before and after a change, `path` in the object that is written, and how to begin anew."""

    owner: _Owner
    path: str
    anew: str

    def refused(self, path: str, code: str, reason: str, keep: str) -> Problem:
        return Problem(ref_of(self.owner), self.path + path, code, reason, f"{keep}, or {self.anew}")

    def told(self, path: str, code: str, reason: str) -> Problem:
        return Problem(ref_of(self.owner), self.path + path, code, reason, f"to begin anew, {self.anew}", Severity.WARN)


def changes(former: AnyResource, new: AnyResource, tree: TenantTree) -> Iterator[Problem]:
    """What is wrong with a change from `former`, and what its author should know; `tree` tells whom selectors take."""
    if isinstance(former, TokenBudget) and isinstance(new, TokenBudget):
        yield from _of_budget(former, new)
        yield from _of_binding(former, new, tree)
    if isinstance(former, TokenQuota) and isinstance(new, TokenQuota):
        before = {limit.name: limit for limit in former.spec.limits}
        for number, limit in enumerate(new.spec.limits):
            pair = _Pair(new, f"spec.limits[{number}]", "give the limit another name, which counts anew")
            yield from _of_limit(before.get(limit.name, limit), limit, pair)
        yield from _of_binding(former, new, tree)


def _of_budget(former: TokenBudget, new: TokenBudget) -> Iterator[Problem]:
    was, spec, pair = former.spec, new.spec, _Pair(new, "spec", "create another budget")
    if was.unit != spec.unit:
        yield _unit(pair, was.unit)
    if was.calendar() != spec.calendar():
        reason = "its balance and its grants stand in the period that they began in"
        yield pair.refused(".period", "PeriodChanged", reason, "keep the period as it was")
    yield from _of_key_and_match(was, spec, pair)


def _of_limit(was: QuotaLimit, limit: QuotaLimit, pair: _Pair) -> Iterator[Problem]:
    if was.unit != limit.unit:
        yield _unit(pair, was.unit)
    if was.window.calendar() != limit.window.calendar():
        reason = "what was used stands in the window that counts now, and one that overlaps it would forget that"
        yield pair.refused(".window", "WindowChanged", reason, "keep the window as it was")
    if was.unit == limit.unit and _weights(was) != _weights(limit):
        reason = "what was used stays counted by the former weights; from now on the new ones count"
        yield pair.told(".weights", "WeightsChanged", reason)
    yield from _of_key_and_match(was, limit, pair)


def _of_key_and_match(was: _Spec, now: _Spec, pair: _Pair) -> Iterator[Problem]:
    if was.per != now.per:
        reason = f"what was used stands in accounts kept {_by(was.per)}, and others would begin with nothing used"
        yield pair.refused(".per", "KeyChanged", reason, "keep per as it was, in its order")
    if _globs(was) != _globs(now):
        reason = "what the former match counted stays counted, and what it left out is not made up for"
        yield pair.told(".match", "MatchChanged", reason)


def _of_binding(former: _Owner, new: _Owner, tree: TenantTree) -> Iterator[Problem]:
    """Whom it binds: an account for each selected tenant, or one account, whosever requests it counts."""
    pair = _Pair(new, "spec", f"create another {new.kind}, which counts anew")
    was, now = former.spec.tenant_ref, new.spec.tenant_ref
    if (was is None) != (now is None):
        path = ".tenantSelector" if now is None else ".tenantRef"
        kept = "one account for each selected tenant" if was is None else "one account"
        reason = f"what was used stands in {kept}, and others would begin with nothing used"
        yield pair.refused(path, "BindingChanged", reason, f"keep tenant{'Selector' if was is None else 'Ref'}")
    elif was is not None and now is not None and was.name != now.name:
        reason = f"what {was.name} used stays counted, and {now.name} goes on in the same account"
        yield pair.told(".tenantRef.name", "TenantChanged", reason)
    elif now is None:
        yield from _of_selection(bind(former, tree).tenants, bind(new, tree).tenants, pair)


def _of_selection(were: frozenset[str], are: frozenset[str], pair: _Pair) -> Iterator[Problem]:
    parts = []
    if gone := were - are:
        parts.append(f"it limits {_names(gone)} no longer")
    if come := are - were:
        parts.append(f"it limits {_names(come)} from now on, with nothing used unless it was selected before")
    if parts:
        yield pair.told(".tenantSelector", "SelectionChanged", ", and ".join(parts))


def _unit(pair: _Pair, was: str) -> Problem:
    reason = f"its account counts {was}, and what it counted cannot become another unit"
    return pair.refused(".unit", "UnitChanged", reason, f"keep {was}")


def _by(per: Sequence[Dimension]) -> str:
    return f"per {', '.join(per)}" if per else "for all callers together"


def _names(tenants: Collection[str]) -> str:
    return listed(sorted(tenants)[:MOST_NAMED], len(tenants))


def _globs(spec: _Spec) -> dict[Dimension, frozenset[str]]:
    """The match, in whatever order it is written."""
    return {dimension: frozenset(globs) for dimension, globs in spec.match.compiled().globs}


def _weights(limit: QuotaLimit) -> dict[str, Decimal]:
    """The weights that are not 1, which is what a bucket without one counts (M5)."""
    return {bucket: weight for bucket, weight in limit.weight_by_bucket.items() if weight != 1}
