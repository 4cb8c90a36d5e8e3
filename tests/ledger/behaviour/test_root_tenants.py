"""No transaction touches two root tenants, so that a distributed engine can keep each tree of tenants by itself."""

from collections.abc import Iterator

import orjson
import pytest

from tests.ledger.builders import NOW, record
from tests.ledger.families import (
    KINDS,
    Family,
    budgets_of,
    everything_that_happens,
    of_tenant,
    root_of,
    usage,
    wants,
)
from tollkeeper.amounts import Unit
from tollkeeper.limits import Enforcement
from tollkeeper.providerfile import ProviderRow
from tollkeeper.reconciliation import compare
from tollkeeper.usage import Buckets, Caller, Charge
from tollkeeper_ledger.history import read_history
from tollkeeper_ledger.storage import LedgerAt

TENANTS = {"one": "top", "far": "crown"}
"""A tenant of each tree, and its root."""


@pytest.fixture
def family(ledger: LedgerAt) -> Iterator[Family]:
    family = Family(ledger, *budgets_of(TENANTS))
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


def test_no_step_of_a_holder_operator_or_bookkeeper_touches_two_root_tenants(family: Family) -> None:
    for step in everything_that_happens(family, TENANTS):
        step()
    assert kinds_by_roots(family) == dict.fromkeys(KINDS, 1)


def test_a_report_of_several_trees_is_a_transaction_for_each(family: Family) -> None:
    family.desk.lease("g", *wants(family, TENANTS, 50))
    family.desk.charge(*(usage(family, *pair, 50) for pair in TENANTS.items()))
    assert kinds_by_roots(family)["usage"] == 1


def test_a_providers_difference_over_several_trees_is_a_correction_for_each(family: Family) -> None:
    soft = [of_tenant(name, 10**9, unit=Unit.USD, enforcement=Enforcement.SOFT) for name in TENANTS]
    family.within(*soft)
    for tenant in TENANTS:
        family.desk.charge(record("g", Charge(family.id(tenant), 50, 0), caller=Caller(tenant), cost=50))
    row = ProviderRow("line 2", None, NOW.date(), "gpt-5", 120, Buckets())
    fixes = compare(read_history(family.desk.export()), [row]).fixes
    assert [len({root_of(account) for account in fix.changes}) for fix in fixes] == [1, 1]
