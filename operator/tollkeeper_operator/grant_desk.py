"""Grants: each TokenGrant is booked once its budget is there and its time has come (R4, B8).

The ledger knows a grant by the object's UID, so asking again is harmless: that is how a restart, a conflict or a lost
answer is met, and how what is left of a grant is learned.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from tollkeeper.amounts import TooLarge
from tollkeeper.books import Books, Grant, GrantState
from tollkeeper.errors import InvalidValue, Unavailable
from tollkeeper.limits import Limit, LimitRef
from tollkeeper.policy import PolicySet
from tollkeeper.problems import ObjectRef
from tollkeeper.resources import TokenGrant
from tollkeeper.statuses import Fault

BUDGET = "TokenBudget"


@dataclass(frozen=True, slots=True)
class Standing:
    """How a grant stands: booked, or why it is not. `limit` is the one that the ledger was asked with."""

    state: GrantState | None = None
    limit: Limit | None = None
    fault: Fault | None = None

    @property
    def is_live(self) -> bool:
        """Whether it is booked, and what is left of it still counts."""
        return self.state is not None and not self.state.expired


def budget_of(grant: TokenGrant) -> LimitRef:
    """The budget that a grant tops up: of its own namespace (B8)."""
    return LimitRef(BUDGET, grant.namespace, grant.spec.budget_ref.name)


def obstacle(grant: TokenGrant, limit: Limit | None, now: datetime) -> Fault | None:
    """Why a grant cannot be booked now; None if it can."""
    ref = budget_of(grant)
    if limit is None:
        where = f"no TokenBudget {ref.name} is in force in namespace {ref.namespace}"
        message = f"spec.budgetRef.name: {where}; create it, and the grant is booked"
        return Fault("BudgetNotFound", message, waits=True)
    try:
        grant.spec.amount_in(limit.unit)
    except TooLarge as error:
        return Fault("TooLarge", str(error))
    except InvalidValue as error:
        return Fault("WrongUnit", f"{error}; create another grant in the budget's unit")
    effective = grant.spec.effective_from
    if effective is not None and effective > now:
        return Fault(
            "NotYetEffective", f"It is booked when its time has come: {effective:%Y-%m-%d %H:%M} UTC", waits=True
        )
    return None


def to_book(grant: TokenGrant, limit: Limit, now: datetime) -> Grant:
    """A grant as the ledger books it."""
    spec, metadata = grant.spec, grant.metadata
    return Grant(
        id=metadata.uid or str(grant),
        name=grant.name,
        ref=limit.ref,
        amount=spec.amount_in(limit.unit),
        reason=spec.reason.value,
        reference=spec.reference,
        priority=spec.priority,
        created=metadata.creation_timestamp or now,
        effective_from=spec.effective_from,
        expires_at=spec.expires_at,
    )


@dataclass(slots=True)
class GrantDesk:
    """Books grants, and knows how each stands."""

    books: Books
    _standing: dict[ObjectRef, Standing] = field(default_factory=dict)
    _grants: dict[ObjectRef, TokenGrant] = field(default_factory=dict)

    def adopt(self, grants: dict[ObjectRef, TokenGrant]) -> None:
        """Take the grants that are there now; what became of those that were known stays known."""
        self._grants = grants
        self._standing = {ref: standing for ref, standing in self._standing.items() if ref in grants}

    def standing(self, ref: ObjectRef) -> Standing | None:
        """How a grant stands; None until it was looked at."""
        return self._standing.get(ref)

    def to_look_at(self, policy: PolicySet, now: datetime) -> tuple[ObjectRef, ...]:
        """The grants that are not booked and could be, or whose time is over since they were."""
        return tuple(ref for ref, grant in self._grants.items() if self._wants_look(ref, grant, policy, now))

    def of_budget(self, budget: LimitRef) -> tuple[ObjectRef, ...]:
        """The booked grants of a budget: what is left of them changes with its balance."""
        return tuple(
            ref
            for ref, standing in self._standing.items()
            if standing.is_live and standing.limit is not None and standing.limit.ref == budget
        )

    async def look(self, ref: ObjectRef, policy: PolicySet, now: datetime) -> bool:
        """Book a grant if it can be, or learn what is left of it; whether anything changed. Raises `Unavailable`."""
        grant = self._grants.get(ref)
        if grant is None:
            return False
        before = self._standing.get(ref)
        self._standing[ref] = await self._look(grant, policy.limit(budget_of(grant)), now, before)
        return self._standing[ref] != before

    async def _look(self, grant: TokenGrant, limit: Limit | None, now: datetime, before: Standing | None) -> Standing:
        fault = obstacle(grant, limit, now)
        if fault is not None or limit is None:
            return before if before is not None and before.state is not None else Standing(fault=fault)
        try:
            state = await self.books.book_grant(to_book(grant, limit, now), limit, now)
        except Unavailable:
            raise
        except InvalidValue as error:
            return Standing(limit=limit, fault=Fault("BudgetNotGrantable", str(error)))
        return Standing(state, limit)

    def _wants_look(self, ref: ObjectRef, grant: TokenGrant, policy: PolicySet, now: datetime) -> bool:
        standing = self._standing.get(ref)
        if standing is None:
            return True
        if standing.state is not None:
            return standing.is_live and (grant.spec.expires_at or _NEVER) <= now
        limit = policy.limit(budget_of(grant))
        fault = obstacle(grant, limit, now)
        # Where nothing stands in the way and the ledger refused nevertheless, only another limit makes a difference.
        return fault != standing.fault if fault is not None else limit != standing.limit


_NEVER = datetime.max.replace(tzinfo=UTC)
