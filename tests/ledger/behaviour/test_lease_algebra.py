"""Leases, charges, returns, deaths and restarts in any order: nothing is overspent, nothing is lost."""

from collections import deque
from pathlib import Path

import orjson
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.ledger.behaviour.test_bookkeeping import ACCOUNT, account
from tests.ledger.builders import Desk, budget, record
from tests.ledger.conftest import NewLedger
from tollkeeper.leases import LeaseReply, Want
from tollkeeper.limits import Limit
from tollkeeper.usage import Charge
from tollkeeper_ledger.export import verify
from tollkeeper_ledger.storage import LedgerAt


class LeaseAlgebra(RuleBasedStateMachine):
    """Whatever holders do, in whatever order, and whichever writer they ask: nothing is overspent, nothing is lost, and
    the chain adds up."""

    def __init__(self, ledger: LedgerAt) -> None:
        super().__init__()
        self.ledger = ledger
        self.limit: Limit = budget(minimum=-12)
        # Where a storage lets several write, two writers take turns, each with a memory of its own.
        writers = 1 if isinstance(ledger, Path) else 2
        self.desks = deque(Desk(ledger, self.limit) for _ in range(writers))
        self.sequence = 0
        self.outstanding: dict[str, int] = {}
        self.dead: dict[str, int] = {}
        self.reported: list[int] = []

    @property
    def desk(self) -> Desk:
        self.desks.rotate()
        return self.desks[0]

    def lease(self, holder: str, *wants: Want, returns: dict[str, int] | None = None) -> LeaseReply:
        self.sequence += 1
        return self.desk.lease(holder, *wants, returns=returns, sequence=self.sequence)

    @initialize()
    def open(self) -> None:
        self.desk.open(self.limit)

    @rule(holder=st.sampled_from("abc"), need=st.integers(1, 400), more=st.integers(0, 400), ahead=st.integers(0, 400))
    def ask(self, holder: str, need: int, more: int, ahead: int) -> None:
        if holder in self.dead:
            return
        for granted in self.lease(holder, Want(ACCOUNT, need, need + more, ahead)).granted:
            assert granted.amount >= need
            self.outstanding[holder] = self.outstanding.get(holder, 0) + granted.amount

    @precondition(lambda self: any(self.outstanding.values()))
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        holder = data.draw(st.sampled_from(sorted(h for h, amount in self.outstanding.items() if amount)))
        held = data.draw(st.integers(1, self.outstanding[holder]))
        used = data.draw(st.integers(0, held))
        usage = record(holder, Charge(ACCOUNT, used, held))
        for _ in range(data.draw(st.integers(1, 2))):
            self.desk.charge(usage)
        self.outstanding[holder] -= used
        self.reported.append(used)

    @precondition(lambda self: any(self.outstanding.values()))
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        holder = data.draw(st.sampled_from(sorted(h for h, amount in self.outstanding.items() if amount)))
        amount = data.draw(st.integers(1, self.outstanding[holder]))
        if holder not in self.dead:
            self.lease(holder, returns={ACCOUNT: amount})
            self.outstanding[holder] -= amount

    @rule(holder=st.sampled_from("abc"), share=st.integers(0, 100))
    def die(self, holder: str, share: int) -> None:
        kept = self.outstanding.get(holder, 0) * share // 100
        self.desk.close(holder, {ACCOUNT: kept})
        self.dead[holder] = kept
        self.outstanding[holder] = 0

    @rule()
    def restart(self) -> None:
        before = account(self.desk)
        self.desk.reopen()
        assert account(self.desks[0]) == before

    @invariant()
    def nothing_is_overspent(self) -> None:
        known = self.desk.known(ACCOUNT)
        if known is None:
            return
        now = known[0]
        assert now.spent + now.unreconciled + now.held <= now.cap(self.limit)
        assert now.overshoot == 0

    @invariant()
    def nothing_is_lost(self) -> None:
        known = self.desk.known(ACCOUNT)
        if known is None:
            return
        assert known[0].spent == sum(self.reported)
        assert known[0].held == sum(self.outstanding.values())

    def teardown(self) -> None:
        for desk in self.desks:
            desk.store.close()
        lines = self.desks[0].export()
        verify(lines)
        with self.desks[0].reader() as reader:
            known = reader.account(ACCOUNT)
        assert sum_of_balance(lines, ACCOUNT) == (known.balance if known else 0)


def sum_of_balance(lines: list[bytes], account: str) -> int:
    entries = (entry for line in lines for entry in orjson.loads(line)["entries"])
    return sum(entry["amount"] for entry in entries if entry["account"] == f"{account}#balance")


def test_the_algebra_of_leases_holds_whatever_happens(new_ledger: NewLedger) -> None:
    class OnNewLedger(LeaseAlgebra):
        def __init__(self) -> None:
            super().__init__(new_ledger())

    examples = 40 if isinstance(new_ledger(), Path) else 8
    run_state_machine_as_test(
        OnNewLedger,
        settings=settings(
            max_examples=examples, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
