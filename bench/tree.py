"""A tree of tenants, four levels deep, with a monthly budget at each: what every measurement leases from and charges to.

Leaves share the levels above them: two projects a team, four a department, all one organization.
"""

from datetime import UTC, datetime

from tollkeeper.amounts import Unit
from tollkeeper.limits import Dimension, Limit, LimitRef
from tollkeeper.policy import BoundAccount, PolicySet
from tollkeeper.prices import PriceList
from tollkeeper.windows import Calendar, Every

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
CALENDAR = Calendar.every(Every.MONTH, "UTC")
LARGE = 10**16
LEVELS = 4


def limit(name: str, per: tuple[Dimension, ...] = ()) -> Limit:
    """A budget of one tenant, large enough for a whole run."""
    ref = LimitRef("TokenBudget", name, "monthly")
    return Limit(ref=ref, tenants=frozenset({name}), unit=Unit.USD, calendar=CALENDAR, allocation=LARGE, per=per)


def text(of: Limit, key: tuple[str, ...] = ()) -> str:
    """The account of a limit and key in the month that is now."""
    return of.account_at(key, NOW)[0].text


class Tree:
    """So many projects, and what stands above them."""

    def __init__(self, leaves: int) -> None:
        self.leaves = leaves
        names = {name for leaf in range(leaves) for name in _names(leaf)}
        self._limits = {name: limit(name) for name in sorted(names)}
        self._paths = [tuple(text(self._limits[name]) for name in _names(leaf)) for leaf in range(leaves)]
        self.policy = PolicySet(1, {}, tuple(self._limits.values()), PriceList.bundled())

    def path(self, leaf: int) -> tuple[str, ...]:
        """The accounts that a project's requests are charged to, the organization's first."""
        return self._paths[leaf % self.leaves]

    def bound(self, leaf: int) -> list[tuple[str, BoundAccount]]:
        """The same with limits and windows, as the gateway finds them."""
        limits = [self._limits[name] for name in _names(leaf % self.leaves)]
        return [(text(one), BoundAccount(one, *one.account_at((), NOW))) for one in limits]


def _names(leaf: int) -> tuple[str, ...]:
    return "org", f"department-{leaf // 4}", f"team-{leaf // 2}", f"project-{leaf}"
