"""Who lends to whom: for each budget that borrows, the nearest ancestor's budget that lends (see `tollkeeper.loans`).

- A lender is bound to one tenant above the borrower's, has one account (no `per:`, no selector), counts in the same unit,
  counts every request that the borrower counts, and has windows that can hold the borrower's.
- The nearest such tenant lends; of several budgets there, the first by namespace and name.
- Only Hard budgets borrow: the others refuse nothing, so they need nothing.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from tollkeeper.limits import Dimension, Limit, LimitRef, Match
from tollkeeper.policy import TenantNode
from tollkeeper.problems import ObjectRef, Problem, Severity

ALWAYS_KNOWN = frozenset({Dimension.MODEL, Dimension.PROVIDER, Dimension.TENANT})
"""Dimensions in which every request has a value, so that `*` takes all."""

_WARN = Severity.WARN


def with_lenders(
    limits: Sequence[Limit], tenants: Mapping[str, TenantNode]
) -> tuple[tuple[Limit, ...], tuple[Problem, ...]]:
    """The limits, each that borrows with its lenders, and what of borrowing and lending has no effect."""
    lending = sorted((limit for limit in limits if _lends(limit)), key=lambda limit: limit.ref)
    found = tuple(replace(limit, lenders=_lenders(limit, lending, tenants)) for limit in limits)
    return found, tuple(problem for limit in found for problem in _idle(limit))


def covers(wide: Match, narrow: Match) -> bool:
    """Whether every request that `narrow` takes is certain to be one that `wide` takes. Sound, not complete."""
    inner = {dimension: globs for dimension, globs in narrow.globs if globs}
    for dimension, globs in wide.globs:
        asked = inner.get(dimension, ())
        takes_all = "*" in globs and dimension in ALWAYS_KNOWN
        if globs and not takes_all and not (asked and all(_covers_glob(globs, one) for one in asked)):
            return False
    return True


def _covers_glob(globs: Iterable[str], asked: str) -> bool:
    # A `*` also takes whatever another wildcard may stand for; `?` and `[…]` do not.
    return any(glob == asked or (not set(glob) & set("?[") and fnmatchcase(asked, glob)) for glob in globs)


def _lends(limit: Limit) -> bool:
    return limit.lending > 0 and not limit.per and not limit.each_tenant and len(limit.tenants) == 1


def _lenders(limit: Limit, lending: Sequence[Limit], tenants: Mapping[str, TenantNode]) -> dict[str, LimitRef]:
    if not limit.borrowing or not limit.is_hard:
        return {}
    fitting = [one for one in lending if _fits(limit, one)]
    nearest = {name: _nearest(tenants[name], fitting) for name in limit.tenants if name in tenants}
    return {name: ref for name, ref in nearest.items() if ref is not None}


def _fits(limit: Limit, lender: Limit) -> bool:
    return (
        lender.unit is limit.unit
        and covers(lender.match, limit.match)
        and (lender.calendar == limit.calendar or limit.calendar.fits_in(lender.calendar))
    )


def _nearest(tenant: TenantNode, fitting: Sequence[Limit]) -> LimitRef | None:
    above = ((name, one) for name in tenant.chain[1:] for one in fitting)
    return next((one.ref for name, one in above if name in one.tenants), None)


def _idle(limit: Limit) -> Iterator[Problem]:
    """What is written and has no effect."""
    ref = ObjectRef(limit.ref.kind, limit.ref.namespace, limit.ref.name)
    if limit.lending and not _lends(limit):
        reason = "a budget with an account for each key or tenant lends nothing"
        yield Problem(
            ref, "spec.lending", "CannotLend", reason, "lend from a budget without per: and tenantSelector:", _WARN
        )
    if limit.borrowing and not limit.is_hard:
        reason = f"{limit.enforcement} enforcement refuses nothing, so nothing is borrowed"
        yield Problem(
            ref, "spec.borrowing", "NothingToBorrow", reason, "leave it out, or write enforcement: Hard", _WARN
        )
    elif limit.borrowing and (alone := sorted(limit.tenants - limit.lenders.keys())):
        reason = f"no tenant above {', '.join(alone)} has a budget that lends to this one"
        remedy = (
            f"write lending: into a TokenBudget above, in {limit.unit}, for the same requests and no shorter period"
        )
        yield Problem(ref, "spec.borrowing", "NoLender", reason, remedy, _WARN)
