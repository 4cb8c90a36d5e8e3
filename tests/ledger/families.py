"""Two trees of tenants, with budgets that lend at the top of each and borrowers below."""

from dataclasses import replace
from datetime import datetime

from tests.ledger.builders import MONTHLY, NOW, Desk, account_of
from tollkeeper.accounts import Account
from tollkeeper.amounts import Unit
from tollkeeper.lenders import with_lenders
from tollkeeper.limits import Limit, LimitRef
from tollkeeper.policy import PolicySet, TenantNode
from tollkeeper.prices import PriceList
from tollkeeper.windows import Calendar, Every
from tollkeeper_ledger.storage import LedgerAt

DAILY = Calendar.every(Every.DAY, "Europe/Madrid")
PARENTS = {"top": None, "one": "top", "two": "top", "crown": None, "far": "crown"}


def of_tenant(tenant: str, allocation: int, **changes: object) -> Limit:
    """A budget of a tenant, named after it."""
    values: dict[str, object] = {"unit": Unit.TOKENS, "calendar": MONTHLY, "tenants": frozenset({tenant})}
    return Limit(LimitRef("TokenBudget", tenant, tenant), allocation=allocation, **(values | changes))  # type: ignore[arg-type]


def node(name: str) -> TenantNode:
    chain, above = [name], PARENTS[name]
    while above is not None:
        chain.append(above)
        above = PARENTS[above]
    return TenantNode(name, "/".join(reversed(chain)), tuple(chain), "Team", frozenset(), {})


def root_of(account: str) -> str:
    """The root tenant whose tree an account of these budgets counts in."""
    return node(account.split("/")[1]).root


class Family:
    """A ledger under these budgets, by tenant; accounts are known by tenant and time."""

    def __init__(self, ledger: LedgerAt, *limits: Limit) -> None:
        self.desk = Desk(ledger)
        self.within(*limits)

    def within(self, *limits: Limit) -> None:
        """Put budgets in force."""
        found, _ = with_lenders(limits, {name: node(name) for name in PARENTS})
        tenants = {name: node(name) for name in PARENTS}
        self.desk.policy = PolicySet(1, tenants, found, PriceList.bundled())
        self.limits = {limit.ref.name: limit for limit in found}

    def id(self, tenant: str, now: datetime = NOW) -> str:
        return account_of(self.limits[tenant], now)

    def account(self, tenant: str, now: datetime = NOW) -> Account:
        return self.desk.account(self.id(tenant, now))

    def change(self, tenant: str, **changes: object) -> None:
        """Another version of one budget is in force from now on."""
        kept = [limit for name, limit in self.limits.items() if name != tenant]
        self.within(*kept, replace(self.limits[tenant], **changes))  # type: ignore[arg-type]
