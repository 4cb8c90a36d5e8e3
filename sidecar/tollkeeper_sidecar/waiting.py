"""A request that waits for its hold, and how that may end."""

from dataclasses import dataclass, field

from tollkeeper.leases import Refusal, Standing
from tollkeeper.limits import Limit
from tollkeeper_sidecar.demand import AccountNeed, Demand, Hold


@dataclass(frozen=True, slots=True)
class Refused:
    """The limits that refuse a request, and the others that it falls under, each with its numbers."""

    refusals: tuple[Refusal, ...]
    others: tuple[Standing, ...] = ()


@dataclass(frozen=True, slots=True)
class Stale:
    """The authority cannot be reached, no lease is left, and this limit fails closed (I5)."""

    limit: Limit


Outcome = Hold | Refused | Stale


class TooManyWaiting(Exception):
    """As many requests wait for a lease as may."""


@dataclass(eq=False, slots=True)
class Waiting:
    """One request that waits for its hold; `outcome` is set once. `patient_until` stands from its first refusal on."""

    demand: Demand
    needs: tuple[AccountNeed, ...] = field(init=False)
    outcome: Outcome | None = None
    answered: bool = False
    asking: bool = False
    patient_until: float | None = None
    parked_until: float = 0.0

    def __post_init__(self) -> None:
        self.needs = self.demand.needs
