"""Statuses: what each object says of itself, computed whole from what is known (R11, K1, K6, B8).

Pure: the same values and instant make the same status. Each function answers the JSON of `.status`; fields that cannot
be known are left out, never guessed. Conditions: `Ready` (in force), `WithinLimit` (room is left), `UsageFresh` (the
numbers are recent, I5), `Stalled` where a person must change the object, `AsWritten` where a part of it has no effect,
`Priced` where models without a price are used (M6).

Here: what all have in common, and tenants, grants, price books and gates; `limit_statuses` has budgets and quotas.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tollkeeper.accounts import Account, Phase
from tollkeeper.amounts import Unit, format_amount
from tollkeeper.books import GrantState
from tollkeeper.conditions import Condition, to_second, written
from tollkeeper.gates import GateVerdict
from tollkeeper.limits import Limit
from tollkeeper.policy import TenantNode
from tollkeeper.problems import Problem
from tollkeeper.resources import PriceBook, TokenGrant
from tollkeeper.resources.meta import Observed, Status
from tollkeeper.resources.pricebook import PriceBookColumns, PriceBookStatus
from tollkeeper.resources.tenant import TenantColumns, TenantEnforcement, TenantStatus
from tollkeeper.resources.tokengrant import TokenGrantColumns, TokenGrantStatus
from tollkeeper.resources.workloadgate import WorkloadGateColumns, WorkloadGateStatus
from tollkeeper.unbuilt import CODE as NOT_AVAILABLE
from tollkeeper.windows import format_column_time

NOTHING_TO_SAY = "-"
"""What a column shows where there is nothing to say."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an object is not in force: a CamelCase reason, and a message with field path and remedy.

    One that `waits` may come right without anybody changing the object.
    """

    reason: str
    message: str
    waits: bool = False


WAITING = frozenset({"TenantNotFound", "ParentNotFound", "NamespaceNotOwned", "BudgetNotFound"})
"""Codes of problems that end when another object appears."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The object that a status is made for: its generation, the status that it carries, and what is wrong with it."""

    generation: int = 0
    status: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    @classmethod
    def of(cls, raw: Mapping[str, Any], problems: tuple[Problem, ...] = ()) -> "Subject":
        """A raw object with its problems."""
        return cls(int(raw["metadata"].get("generation") or 0), raw.get("status") or {}, problems)

    @property
    def fault(self) -> Fault | None:
        """The problems that keep it from being in force, as one; what is merely not available yet is none of them."""
        blocking = [problem for problem in self.problems if problem.refuses and problem.code != NOT_AVAILABLE]
        if not blocking:
            return None
        waits = all(problem.code in WAITING for problem in blocking)
        return Fault(blocking[0].code, "; ".join(problem.says for problem in blocking), waits)

    def standing(self, reason: str, message: str) -> tuple[Condition, ...]:
        """The conditions that every object has: `Ready` for this reason, unless its problems keep it from that."""
        fault = self.fault
        ready = _not_ready(fault) if fault else (Condition("Ready", True, reason, message),)
        rest = [problem for problem in self.problems if not problem.refuses or problem.code == NOT_AVAILABLE]
        if not rest:
            return ready
        return (*ready, Condition("AsWritten", False, rest[0].code, "; ".join(problem.says for problem in rest)))


@dataclass(frozen=True, slots=True)
class Freshness:
    """When the numbers were read (`as_of`), and what kept them from being read again, if anything (I5).

    `lacks_since` is when the oldest request ended that is not in them because it could not be booked for too long.
    """

    as_of: datetime
    stale_because: str | None = None
    lacks_since: datetime | None = None

    def condition(self) -> Condition:
        """The `UsageFresh` condition."""
        if self.stale_because is not None:
            return Condition("UsageFresh", False, "LedgerUnreadable", self.stale_because)
        if self.lacks_since is not None:
            told = (
                f"Usage since {to_second(self.lacks_since)} is not in the numbers: it waits in the gateway's spool to be "
                "booked; the gateway's log says what keeps it from that"
            )
            return Condition("UsageFresh", False, "UsageUnreported", told)
        return Condition("UsageFresh", True, "UpToDate", "The numbers are those of the ledger")


def finished(status: Observed, conditions: Iterable[Condition], subject: Subject, now: datetime) -> dict[str, Any]:
    """The JSON of a status, with its conditions and the generation that it speaks of."""
    standing = written(
        conditions, before=subject.status.get("conditions") or (), generation=subject.generation, now=now
    )
    return {**status.to_wire(), "observedGeneration": subject.generation, "conditions": standing}


def faulty_status(subject: Subject, fault: Fault, now: datetime) -> dict[str, Any]:
    """The status of any object that is not in force: why, and what to do; no numbers, for none are counted."""
    return finished(Status(), _not_ready(fault), subject, now)


def _not_ready(fault: Fault) -> tuple[Condition, ...]:
    ready = Condition("Ready", False, fault.reason, fault.message)
    return (ready,) if fault.waits else (ready, Condition("Stalled", True, fault.reason, fault.message))


def tenant_status(
    node: TenantNode, subject: Subject, binding: Iterable[tuple[Limit, Account]], now: datetime
) -> dict[str, Any]:
    """The status of a Tenant in its place; `binding` are the accounts that all its requests count in."""
    namespaces = tuple(sorted(node.namespaces))
    status = TenantStatus(
        path=node.path,
        namespaces=namespaces,
        enforcement=tenant_enforcement(binding),
        columns=TenantColumns(namespaces=",".join(namespaces) or NOTHING_TO_SAY),
    )
    owned = "1 namespace" if len(namespaces) == 1 else f"{len(namespaces)} namespaces"
    return finished(status, subject.standing("Resolved", f"{node.path} owns {owned}"), subject, now)


def tenant_enforcement(binding: Iterable[tuple[Limit, Account]]) -> TenantEnforcement:
    """Blocked: a limit that closes gates is used up. Warned: one is low, or used up without blocking workloads."""
    phases = [(limit.blocks_workloads, account.phase(limit)) for limit, account in binding]
    if any(blocks and phase is Phase.INSUFFICIENT for blocks, phase in phases):
        return TenantEnforcement.BLOCKED
    warned = any(phase is not Phase.SUFFICIENT for _, phase in phases)
    return TenantEnforcement.WARNED if warned else TenantEnforcement.OPEN


def grant_status(grant: TokenGrant, subject: Subject, state: GrantState, unit: Unit, now: datetime) -> dict[str, Any]:
    """The status of a TokenGrant that is booked; when it was seen to be booked first stays."""
    remaining = format_amount(state.remaining, unit)
    status = TokenGrantStatus(
        booked=True,
        transaction=state.transaction,
        remaining=remaining,
        booked_at=_kept_time(subject.status.get("bookedAt"), now),
        columns=_expiry(grant),
    )
    if state.expired:
        ready = Condition("Ready", True, "Expired", f"Booked as {state.transaction}; what was left has lapsed")
    else:
        ready = Condition("Ready", True, "Booked", f"Booked as {state.transaction}; {remaining} {unit} is left")
    return finished(status, (ready,), subject, now)


def waiting_grant_status(grant: TokenGrant, subject: Subject, fault: Fault, now: datetime) -> dict[str, Any]:
    """The status of a TokenGrant that is not booked: its budget is missing, or its time has not come (B8)."""
    return finished(TokenGrantStatus(booked=False, columns=_expiry(grant)), _not_ready(fault), subject, now)


def _expiry(grant: TokenGrant) -> TokenGrantColumns:
    return TokenGrantColumns(expires=format_column_time(grant.spec.expires_at) or NOTHING_TO_SAY)


def price_book_status(book: PriceBook, subject: Subject, now: datetime) -> dict[str, Any]:
    """The status of a PriceBook."""
    models, tools = len(book.spec.models), len(book.spec.tools)
    status = PriceBookStatus(columns=PriceBookColumns(models=models, tools=tools))
    told = "1 price of a model is in force" if models == 1 else f"{models} prices of models are in force"
    return finished(status, subject.standing("InForce", told), subject, now)


def gate_status(verdict: GateVerdict, subject: Subject, as_of: datetime, now: datetime) -> dict[str, Any]:
    """The status of a WorkloadGate; `since` stays while it stands as it does (K3)."""
    same = subject.status.get("open") is verdict.open
    since = _kept_time(subject.status.get("since") if same else None, now)
    names = ",".join(f"{limit.kind} {limit.namespace}/{limit.name}" for limit in verdict.limits)
    status = WorkloadGateStatus(
        open=verdict.open,
        message=verdict.message,
        limits=verdict.limits,
        since=since,
        as_of=to_the_second(as_of),
        columns=WorkloadGateColumns(limits=names or NOTHING_TO_SAY, since=format_column_time(since)),
    )
    ready = Condition("Ready", True, "Decided", "The gate is open" if verdict.open else "The gate is closed")
    return finished(status, (ready,), subject, now)


def to_the_second(when: datetime | None) -> datetime | None:
    """As statuses show times: the API server's own have no fractions either."""
    return when.replace(microsecond=0) if when else None


def _kept_time(written_before: object, now: datetime) -> datetime:
    """A time that a status carries already, else now."""
    if isinstance(written_before, str):
        return datetime.fromisoformat(written_before)
    return now.replace(microsecond=0)
