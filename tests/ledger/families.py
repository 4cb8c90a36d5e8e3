"""Two trees of tenants, with budgets that lend at the top of each and borrowers below."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from tests.ledger.builders import MONTHLY, NOW, Desk, account_of, grant, record
from tollkeeper.accounts import Account
from tollkeeper.amounts import Unit
from tollkeeper.leases import Want
from tollkeeper.lenders import with_lenders
from tollkeeper.limits import Limit, LimitRef
from tollkeeper.policy import PolicySet, TenantNode
from tollkeeper.prices import PriceList
from tollkeeper.usage import Caller, Charge, UsageRecord
from tollkeeper.windows import Calendar, Every
from tollkeeper_ledger import corrections, lending
from tollkeeper_ledger.corrections import Change
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


def policy_of(*limits: Limit) -> PolicySet:
    """These budgets in force, each with its lenders."""
    tenants = {name: node(name) for name in PARENTS}
    found, _ = with_lenders(limits, tenants)
    return PolicySet(1, tenants, found, PriceList.bundled())


class Family:
    """A ledger under these budgets, by tenant; accounts are known by tenant and time."""

    def __init__(self, ledger: LedgerAt, *limits: Limit) -> None:
        self.desk = Desk(ledger)
        self.within(*limits)

    def within(self, *limits: Limit) -> None:
        """Put budgets in force."""
        self.desk.policy = policy_of(*limits)
        self.limits = {limit.ref.name: limit for limit in self.desk.policy.limits}

    def id(self, tenant: str, now: datetime = NOW) -> str:
        return account_of(self.limits[tenant], now)

    def account(self, tenant: str, now: datetime = NOW) -> Account:
        return self.desk.account(self.id(tenant, now))

    def change(self, tenant: str, **changes: object) -> None:
        """Another version of one budget is in force from now on."""
        kept = [limit for name, limit in self.limits.items() if name != tenant]
        self.within(*kept, replace(self.limits[tenant], **changes))  # type: ignore[arg-type]


KINDS = ("grant", "allocate", "loan", "usage", "lapse", "reconcile", "adjust", "refund", "repay", "expire", "carry")
"""What `everything_that_happens` books; a reconciliation's `correct` is a correction like the others."""

Pairs = Mapping[str, str]
"""Tenants, and the root tenant of each."""


def budgets_of(pairs: Pairs) -> list[Limit]:
    """For each tenant a budget by the day that borrows of its root's."""
    lenders = [of_tenant(root, 10_000, lending=300) for root in pairs.values()]
    return lenders + [of_tenant(name, 100, borrowing=200, calendar=DAILY, rollover=100) for name in pairs]


def wants(family: Family, pairs: Pairs, amount: int) -> list[Want]:
    """So much of the budgets of all tenants and roots, as one holder asks in one call."""
    return [Want(family.id(name), amount, amount) for pair in pairs.items() for name in pair]


def usage(family: Family, tenant: str, root: str, amount: int, **changes: object) -> UsageRecord:
    """A request of a tenant that used what it held."""
    charges = [Charge(family.id(name), amount, amount) for name in (tenant, root)]
    return record("g", *charges, caller=Caller(tenant), **changes)  # type: ignore[arg-type]


def everything_that_happens(family: Family, pairs: Pairs) -> list[Callable[[], object]]:
    """Steps that book, one after the other, transactions of all `KINDS` for each tenant under `budgets_of`."""
    desk, tomorrow = family.desk, NOW + timedelta(days=1)
    steps: list[Callable[[], object]] = []
    for tenant in pairs:
        limit = family.limits[tenant]
        given = grant(5, f"for-{tenant}", ref=limit.ref, expires_at=NOW + timedelta(hours=1))
        steps.append(partial(desk.book_grant, given, limit))
    steps.append(partial(desk.lease, "g", *wants(family, pairs, 150)))
    steps += [partial(desk.charge, usage(family, *pair, 100, request=f"request-{pair[0]}")) for pair in pairs.items()]
    steps.append(partial(desk.lapse, "g"))
    steps.append(partial(desk.lease, "g", returns={want.account: 10 for want in wants(family, pairs, 0)}))
    for tenant in pairs:
        change, request, limit = Change(family.id(tenant), 20), f"request-{tenant}", family.limits[tenant]
        adjust = partial(corrections.adjust, policy=desk.policy, change=change, reason="x", reference=None, now=NOW)
        refund = partial(corrections.refund, policy=desk.policy, request=request, cost=50, reason="x", now=NOW)
        reopen = partial(lending.open_settled, policy=desk.policy, limit=limit, key=(), now=tomorrow)
        steps += [partial(desk.do, adjust), partial(desk.do, refund), partial(desk.do, reopen)]
    return [*steps, partial(desk.close, "g", now=tomorrow)]
