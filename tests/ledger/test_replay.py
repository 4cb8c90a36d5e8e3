"""I6: balances do not depend on where one begins to count. Real ledgers, whatever happens on them, and what no ledger books."""

from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ledger.builders import NOW, Desk, account_of, budget, grant, record
from tollkeeper.accounts import Account
from tollkeeper.leases import Want
from tollkeeper.usage import Charge
from tollkeeper_ledger import opening
from tollkeeper_ledger.errors import ChainBroken
from tollkeeper_ledger.export import verify
from tollkeeper_ledger.replay import Replayed, replay

LIMIT = budget(rollover=300)
ACCOUNT = account_of(LIMIT)
STEPS = ("lease", "charge", "late", "return", "lapse", "close", "grant", "expire", "month", "raise")


def as_table(account: Account, unit: str = "USD") -> Replayed:
    return Replayed(
        unit,
        allocation=account.allocation,
        rollover=account.rolled_over,
        grants=account.granted,
        borrowed=account.borrowed,
        lent=account.lent,
        spent=account.spent,
        unreconciled=account.unreconciled,
        balance=account.balance,
    )


def happen(desk: Desk, steps: list[tuple[str, int]]) -> None:
    """A history of one budget: odd ones, too, as long as the ledger takes them."""
    now, holder, alive = NOW, "g0", 0
    for number, (step, amount) in enumerate(steps):
        account = account_of(desk.policy.limits[0], now)
        if step == "lease":
            desk.lease(holder, Want(account, 1, amount), now=now)
        elif step in ("charge", "late"):
            by = holder if step == "charge" else f"g{max(0, alive - 1)}"
            desk.charge(record(by, Charge(account, amount, amount + 5)), now=now)
        elif step == "return":
            desk.lease(holder, returns={account: amount}, now=now)
        elif step == "lapse":
            desk.lapse(holder)
        elif step == "close":
            desk.close(holder, {account: amount})
            alive, holder = alive + 1, f"g{alive + 1}"
        elif step in ("grant", "expire"):
            expires = now if step == "expire" else now + timedelta(days=60)
            name = f"grant-{number if step == 'grant' else 0}"
            granted = grant(amount, name, expires_at=expires)
            desk.do(partial(opening.book_grant, grant=granted, limit=desk.policy.limits[0], now=now))
        elif step == "month":
            now += timedelta(days=31)
            desk.open(desk.policy.limits[0], now)
        else:
            raised = budget(rollover=300, allocation=500 + amount)
            desk.policy = type(desk.policy)(2, desk.policy.tenants, (raised,), desk.policy.prices)


@settings(max_examples=40)
@given(
    before=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(1, 400)), max_size=15),
    after=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(1, 400)), max_size=15),
)
def test_a_replayed_chain_gives_the_balances_of_the_table_from_any_snapshot(
    before: list[tuple[str, int]], after: list[tuple[str, int]]
) -> None:
    with TemporaryDirectory() as folder:
        desk = Desk(Path(folder) / "ledger.db", LIMIT)
        desk.open(LIMIT)
        happen(desk, before + after)
        lines = desk.export()
        replayed = replay(lines)
        tables = {name: desk.known(name) for name in replayed}
        desk.store.close()
    assert replayed == {name: as_table(table[0], table[1]) for name, table in tables.items() if table}
    assert verify(lines).balances == replayed
    middle = len(lines) // 2
    assert replay(lines[middle:], replay(lines[:middle])) == replayed


def test_the_table_at_one_moment_and_the_entries_after_it_give_the_table_of_later(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "ledger.db", LIMIT)
    desk.lease("g1", Want(ACCOUNT, 300, 300))
    desk.charge(record("g1", Charge(ACCOUNT, 60, 100)))
    seen = len(desk.export())
    snapshot = {ACCOUNT: as_table(desk.account(ACCOUNT))}
    desk.lapse("g1")
    desk.charge(record("g1", Charge(ACCOUNT, 70, 100)))
    assert replay(desk.export()[seen:], snapshot) == {ACCOUNT: as_table(desk.account(ACCOUNT))}
    desk.store.close()


def test_a_balance_that_moved_to_another_account_is_found() -> None:
    entries = [
        {"account": "a#balance", "unit": "USD", "amount": 5},
        {"account": "b#allocation", "unit": "USD", "amount": -5},
    ]
    with pytest.raises(ChainBroken, match="transaction 7: the balance of a is not what was put in less what was taken"):
        replay([orjson.dumps({"seq": 7, "entries": entries})])


def test_a_side_that_no_account_has_is_named() -> None:
    entries = [{"account": "a#pocket", "unit": "USD", "amount": 5}]
    with pytest.raises(ChainBroken, match="transaction 7: its entry on 'a#pocket' is none of an account's sides"):
        replay([orjson.dumps({"seq": 7, "entries": entries})])
