"""Fields that a resource may state and that this version does not carry out yet: the one list of them.

The webhook refuses a field whose absence would be unsafe or misleading (`Severity.REFUSE`): whoever writes it relies
on something that would not happen. It admits with a warning one whose absence errs on the strict side: nothing is
spent, kept or let through that the author did not want. The operator says the same in a condition, for objects that
came in while no webhook ran.
"""

from collections.abc import Iterator

from tollkeeper.problems import Problem, Severity
from tollkeeper.references import ref_of
from tollkeeper.resources import AnyResource, PriceBook, Tenant, TokenBudget
from tollkeeper.resources.tokenbudget import WorkloadAction

CODE = "NotAvailable"


def unbuilt(resource: AnyResource) -> tuple[Problem, ...]:
    """What of this object has no effect in this version."""
    match resource:
        case Tenant():
            found = _in_tenant(resource)
        case TokenBudget():
            found = _in_budget(resource)
        case PriceBook():
            found = _in_price_book(resource)
        case _:
            return ()
    return tuple(found)


def _in_tenant(tenant: Tenant) -> Iterator[Problem]:
    spec = tenant.spec
    if spec.members:
        yield _warned(tenant, "spec.members", "roles of members", "nobody gets access by them")


def _in_budget(budget: TokenBudget) -> Iterator[Problem]:
    spec = budget.spec
    if spec.on_exhausted.workloads is not WorkloadAction.NONE:
        effect = "running workloads would go on, though their requests are refused"
        yield _refused(budget, "spec.onExhausted.workloads", "acting on running workloads", effect, "write None")


def _in_price_book(book: PriceBook) -> Iterator[Problem]:
    if book.spec.tools:
        effect = "calls of tools would be charged nothing"
        yield _refused(book, "spec.tools", "pricing tools", effect, "leave the prices of tools out")


def _refused(resource: AnyResource, path: str, feature: str, effect: str, remedy: str) -> Problem:
    reason = f"{feature} is not available in this version: {effect}"
    return Problem(ref_of(resource), path, CODE, reason, remedy, Severity.REFUSE)


def _warned(resource: AnyResource, path: str, feature: str, effect: str) -> Problem:
    verb = "are" if feature.startswith("roles") else "is"
    reason = f"{feature} {verb} not available in this version: {effect}"
    return Problem(ref_of(resource), path, CODE, reason, "the field is kept and otherwise ignored", Severity.WARN)
