"""No transaction touches two root tenants, so that a distributed engine can keep each tree of tenants by itself."""

from collections.abc import Iterator
from datetime import timedelta
from functools import partial

import orjson
import pytest

from tests.ledger.builders import NOW, grant, record
from tests.ledger.families import DAILY, Family, of_tenant, root_of
from tollkeeper.amounts import Unit
from tollkeeper.leases import Want
from tollkeeper.limits import Enforcement
from tollkeeper.reconciliation import ProviderRow, compare
from tollkeeper.usage import Buckets, Caller, Charge, UsageRecord
from tollkeeper_ledger import corrections, lending
from tollkeeper_ledger.corrections import Change
from tollkeeper_ledger.history import read_history
from tollkeeper_ledger.storage import LedgerAt

TENANTS = {"one": "top", "far": "crown"}
"""A tenant of each tree, and its root."""
TOMORROW = NOW + timedelta(days=1)
BUDGETS = [
    limit
    for tenant, root in TENANTS.items()
    for limit in (
        of_tenant(root, 10_000, lending=300, enforcement=Enforcement.HARD),
        of_tenant(tenant, 100, borrowing=200, calendar=DAILY, rollover=100),
    )
]


@pytest.fixture
def family(ledger: LedgerAt) -> Iterator[Family]:
    family = Family(ledger, *BUDGETS)
    yield family
    family.desk.store.close()


def kinds_by_roots(family: Family) -> dict[str, int]:
    """The most root tenants that a transaction of each kind touches."""
    most: dict[str, int] = {}
    for line in family.desk.export():
        transaction = orjson.loads(line)
        roots = {root_of(entry["account"]) for entry in transaction["entries"]}
        most[transaction["kind"]] = max(len(roots), most.get(transaction["kind"], 0))
    return most


def wants(family: Family, amount: int) -> list[Want]:
    return [Want(family.id(name), amount, amount) for pair in TENANTS.items() for name in pair]


def usage(family: Family, tenant: str, amount: int, **changes: object) -> UsageRecord:
    charges = [Charge(family.id(name), amount, amount) for name in (tenant, TENANTS[tenant])]
    return record("g", *charges, caller=Caller(tenant), **changes)  # type: ignore[arg-type]


def test_no_step_of_a_holder_operator_or_bookkeeper_touches_two_root_tenants(family: Family) -> None:
    desk = family.desk
    for tenant in TENANTS:
        budget = family.limits[tenant]
        desk.book_grant(grant(5, f"for-{tenant}", ref=budget.ref, expires_at=NOW + timedelta(hours=1)), budget, now=NOW)
    desk.lease("g", *wants(family, 150))
    for tenant in TENANTS:
        desk.charge(usage(family, tenant, 100, request=f"request-{tenant}"))
    desk.lapse("g")
    desk.lease("g", returns=dict.fromkeys((want.account for want in wants(family, 0)), 10))
    for tenant in TENANTS:
        change = Change(family.id(tenant), 20)
        desk.do(partial(corrections.adjust, policy=desk.policy, change=change, reason="x", reference=None, now=NOW))
        again = f"request-{tenant}"
        desk.do(partial(corrections.refund, policy=desk.policy, request=again, cost=50, reason="x", now=NOW))
        limit = family.limits[tenant]
        desk.do(partial(lending.open_settled, policy=desk.policy, limit=limit, key=(), now=TOMORROW))
    desk.close("g", now=TOMORROW)
    assert kinds_by_roots(family) == dict.fromkeys(
        ("grant", "allocate", "loan", "usage", "lapse", "reconcile", "adjust", "refund", "repay", "expire", "carry"), 1
    )


@pytest.mark.xfail(strict=True, reason="a report is one transaction, whatever trees its usages are of")
def test_a_report_of_several_trees_is_a_transaction_for_each(family: Family) -> None:
    family.desk.lease("g", *wants(family, 50))
    family.desk.charge(*(usage(family, tenant, 50) for tenant in TENANTS))
    assert kinds_by_roots(family)["usage"] == 1


@pytest.mark.xfail(strict=True, reason="a difference of a day and model is one transaction over all that used it")
def test_a_providers_difference_over_several_trees_is_a_correction_for_each(family: Family) -> None:
    soft = [of_tenant(name, 10**9, unit=Unit.USD, enforcement=Enforcement.SOFT) for name in TENANTS]
    family.within(*soft)
    for tenant in TENANTS:
        family.desk.charge(record("g", Charge(family.id(tenant), 50, 0), caller=Caller(tenant), cost=50))
    row = ProviderRow("line 2", None, NOW.date(), "gpt-5", 120, Buckets())
    fixes = compare(read_history(family.desk.export()), [row]).fixes
    assert [len({root_of(account) for account in fix.changes}) for fix in fixes] == [1, 1]
