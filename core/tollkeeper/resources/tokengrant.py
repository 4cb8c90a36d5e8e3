"""TokenGrant: a top-up, payment, credit, refund or promotion; booked once, never undone (R4, B8)."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from tollkeeper.amounts import TooLarge, Unit, parse_stated
from tollkeeper.errors import InvalidValue
from tollkeeper.resources.meta import (
    AGE,
    API_VERSION,
    Column,
    Kind,
    ObjectReference,
    Observed,
    Part,
    Resource,
    Rule,
    Status,
)
from tollkeeper.resources.wire import TIME, PositiveAmount, ShortLine, Time, WholeNumber, cel_matches


class GrantReason(StrEnum):
    """Why the amount is granted."""

    TOP_UP = "TopUp"
    PAYMENT = "Payment"
    CREDIT = "Credit"
    REFUND = "Refund"
    PROMOTION = "Promotion"


class TokenGrantSpec(Part):
    """What is granted to which budget. It cannot be changed: deleting the object does not undo what was booked."""

    budget_ref: ObjectReference
    """The TokenBudget in this namespace that is topped up. Until it exists, the grant waits."""
    amount: PositiveAmount
    """How much, in the budget's unit and above zero: for USD a quoted decimal string such as "25.00", for Tokens 2000000
    or 2M."""
    reason: GrantReason = GrantReason.TOP_UP
    """TopUp, Payment, Credit, Refund or Promotion."""
    reference: ShortLine | None = None
    """What it is known by elsewhere, such as an invoice number."""
    effective_from: Time | None = None
    """From when it counts; left out: at once."""
    expires_at: Time | None = None
    """When what is left of it lapses; left out: never."""
    priority: Annotated[int, WholeNumber(0, 1000)] = 10
    """Grants with a lower number are used up first; among equals the one that expires first."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            says="a grant cannot be changed: create another one",
            cel="self == oldSelf",
            holds=None,
        ),
        Rule(
            says="must be later than effectiveFrom: a grant that never counts is no grant",
            # What is no time is said by its own rule.
            cel="!has(self.expiresAt) || !has(self.effectiveFrom)"
            f" || !{cel_matches(TIME, 'self.expiresAt')} || !{cel_matches(TIME, 'self.effectiveFrom')}"
            " || timestamp(self.expiresAt) > timestamp(self.effectiveFrom)",
            holds=lambda self: _later(self.expires_at, self.effective_from),
            path="expiresAt",
        ),
    )

    def amount_in(self, unit: Unit) -> int:
        """The amount in nano-dollars or tokens. Raises `InvalidValue` when it is not written in that unit (B8), of which
        `TooLarge` is one: more than a resource may state."""
        try:
            return parse_stated(self.amount, unit)
        except TooLarge as cause:
            raise TooLarge(f"spec.amount: {cause}") from cause
        except InvalidValue as cause:
            raise InvalidValue(f"spec.amount: {cause}; the budget's unit is {unit}") from cause


def _later(end: datetime | None, start: datetime | None) -> bool:
    return end is None or start is None or end > start


class TokenGrantColumns(Observed):
    """What `kubectl get` shows."""

    expires: str = ""
    """When what is left lapses."""


class TokenGrantStatus(Status):
    """What became of the grant."""

    booked: bool | None = None
    """Whether it is in the ledger; once true, always true."""
    transaction: str | None = None
    """The ledger's transaction that booked it."""
    remaining: str | None = None
    """What is left of it, in the budget's unit."""
    booked_at: Time | None = None
    """When it was booked."""
    columns: TokenGrantColumns = TokenGrantColumns()
    """What `kubectl get` shows."""


class TokenGrant(Resource):
    """An amount put into a TokenBudget of the same namespace: a top-up, payment, credit, refund or promotion.

    It is booked exactly once and cannot be changed. Deleting the object undoes nothing.
    """

    api_version: Literal["tollkeeper.dev/v1alpha1"] = API_VERSION
    kind: Literal["TokenGrant"] = "TokenGrant"
    spec: TokenGrantSpec
    status: TokenGrantStatus = TokenGrantStatus()

    definition: ClassVar[Kind] = Kind(
        kind="TokenGrant",
        plural="tokengrants",
        short_name="tg",
        namespaced=True,
        columns=(
            Column("Budget", ".spec.budgetRef.name", says="The budget that is topped up"),
            Column("Amount", ".spec.amount", says="How much was granted"),
            Column("Remaining", ".status.remaining", says="What is left of it"),
            Column("Booked", ".status.booked", "boolean", "Whether it is in the ledger"),
            Column("Expires", ".status.columns.expires", says="When what is left lapses"),
            AGE,
        ),
    )
