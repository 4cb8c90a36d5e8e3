"""Loans under whatever happens, on both storages: I1 on both levels, both limits, nothing idle, and books that add up."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import Phase as Generating
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.ledger.builders import NOW, grant, record
from tests.ledger.conftest import NewLedger
from tests.ledger.families import DAILY, Family, of_tenant, root_of
from tests.ledger.test_replay import as_table
from tollkeeper import loans
from tollkeeper.accounts import Account, Phase
from tollkeeper.leases import LeaseReply, Want
from tollkeeper.limits import Limit
from tollkeeper.usage import Charge
from tollkeeper_ledger import corrections, lending
from tollkeeper_ledger.corrections import Change
from tollkeeper_ledger.export import verify
from tollkeeper_ledger.replay import Replayed
from tollkeeper_ledger.storage import LedgerAt

LENDER = {"one": "top", "two": "top", "far": "crown"}
BORROWERS = tuple(LENDER)


@dataclass
class Held:
    """What a holder has of a request's two accounts, in the window of its admission."""

    tenant: str
    holder: str
    at: datetime
    left: int


class LoanAlgebra(RuleBasedStateMachine):
    """Requests of three teams under two tops; holders that lapse, end, come back and report late; windows that end."""

    borrowed = 0
    """The most that was ever borrowed: a machine without loans proves nothing."""

    def __init__(self, ledger: LedgerAt) -> None:
        super().__init__()
        self.ledger = ledger

    @initialize(
        top=st.integers(50, 600), lending_=st.integers(1, 300), own=st.integers(0, 150), borrowing=st.integers(1, 250),
        minimum=st.sampled_from([0, 0, -12]), rollover=st.sampled_from([0, 50]),
    )  # fmt: skip
    def start(self, top: int, lending_: int, own: int, borrowing: int, minimum: int, rollover: int) -> None:
        changes = {"borrowing": borrowing, "minimum": minimum, "rollover": rollover}
        self.family = Family(
            self.ledger,
            of_tenant("top", top, lending=lending_, rollover=rollover),
            of_tenant("crown", top, lending=lending_),
            of_tenant("one", own, calendar=DAILY, **changes),
            of_tenant("two", own, **changes),
            of_tenant("far", own, calendar=DAILY, **changes),
        )
        self.desk, self.now, self.named = self.family.desk, NOW, 0
        self.held: list[Held] = []
        self.gone: list[Held] = []
        self.times = [NOW]

    def limit(self, tenant: str) -> Limit:
        return self.family.limits[tenant]

    def ids(self, tenant: str, at: datetime) -> tuple[str, str]:
        return self.family.id(tenant, at), self.family.id(LENDER[tenant], at)

    def known(self, tenant: str) -> list[Account]:
        """All accounts of a tenant, in the windows that there were."""
        names = dict.fromkeys(self.family.id(tenant, at) for at in self.times)
        return [found[0] for name in names if (found := self.desk.known(name))]

    @rule(
        tenant=st.sampled_from(BORROWERS), holder=st.sampled_from("abc"), need=st.integers(1, 200),
        more=st.integers(0, 200), ahead=st.sampled_from([0, 0, 100]), swapped=st.booleans(),
    )  # fmt: skip
    def ask(self, tenant: str, holder: str, need: int, more: int, ahead: int, swapped: bool) -> None:
        name = f"{holder}{self.named}"
        wants = [Want(one, need, need + more, ahead) for one in self.ids(tenant, self.now)]
        reply = self.desk.lease(name, *(reversed(wants) if swapped else wants), now=self.now)
        granted = {one.account: one.amount for one in reply.granted}
        both = [granted.get(one, 0) for one in self.ids(tenant, self.now)]
        self._check_refusal(tenant, reply)
        # What one level has more of than the other serves no request: it goes back.
        spare = {one: have - min(both) for one, have in zip(self.ids(tenant, self.now), both, strict=True)}
        if any(spare.values()):
            self.desk.lease(name, returns=spare, now=self.now)
        if min(both):
            self.held.append(Held(tenant, name, self.now, min(both)))

    def _check_refusal(self, tenant: str, reply: LeaseReply) -> None:
        """While the lender can lend, the borrower is not insufficient (B3)."""
        mine, above = (self.desk.account(one) for one in self.ids(tenant, self.now))
        limit, lender = self.limit(tenant), self.limit(LENDER[tenant])
        refused = any(one.account == mine.id for one in reply.refused)
        if refused and mine.phase(limit) is Phase.INSUFFICIENT and mine.lender in ("", above.id):
            most = loans.possible(limit, mine, lender, above, room=above.available(lender))
            assert loans.more(limit, mine, most) == 0

    @precondition(lambda self: self.held)
    @rule(data=st.data(), percent=st.integers(0, 100), part=st.integers(1, 100))
    def settle(self, data: st.DataObject, percent: int, part: int) -> None:
        one = data.draw(st.sampled_from(self.held))
        held = max(1, one.left * part // 100)
        used = held * percent // 100
        charges = [Charge(name, used, held) for name in self.ids(one.tenant, one.at)]
        self.desk.charge(record(one.holder, *charges), now=self.now)
        one.left -= used
        if not one.left:
            self.held.remove(one)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.held))
        self.held.remove(one)
        self.desk.lease(one.holder, returns=dict.fromkeys(self.ids(one.tenant, one.at), one.left), now=self.now)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), keeps=st.integers(0, 100), ends=st.booleans())
    def lapse(self, data: st.DataObject, keeps: int, ends: bool) -> None:
        one = data.draw(st.sampled_from(self.held))
        if not ends:
            self.desk.lapse(one.holder, now=self.now)
            return
        mine = [other for other in self.held if other.holder == one.holder]
        kept: Counter[str] = Counter()
        for other in mine:
            self.held.remove(other)
            other.left = other.left * keeps // 100
            kept.update(dict.fromkeys(self.ids(other.tenant, other.at), other.left))
        self.desk.close(one.holder, dict(kept), now=self.now)
        self.named += 1  # a holder that ended does not come back
        self.gone += [other for other in mine if other.left]

    @precondition(lambda self: self.gone)
    @rule(percent=st.integers(0, 100))
    def find_out_later(self, percent: int) -> None:
        one = self.gone.pop(0)
        charges = [Charge(name, one.left * percent // 100, one.left) for name in self.ids(one.tenant, one.at)]
        self.desk.charge(record(one.holder, *charges), now=self.now)

    @rule(
        tenant=st.sampled_from(BORROWERS),
        amount=st.integers(1, 100),
        above=st.booleans(),
        days=st.sampled_from([1, 40]),
    )
    def top_up(self, tenant: str, amount: int, above: bool, days: int) -> None:
        self.named += 1
        limit = self.limit(LENDER[tenant] if above else tenant)
        expires = self.now + timedelta(days=days)
        given = grant(amount, f"g{self.named}", ref=limit.ref, created=self.now, expires_at=expires)
        self.desk.book_grant(given, limit, self.now)
        self.open(limit)

    @rule(tenant=st.sampled_from(BORROWERS), percent=st.integers(1, 100))
    def refund(self, tenant: str, percent: int) -> None:
        for name in self.ids(tenant, self.now):
            known = self.desk.known(name)
            amount = known[0].spent * percent // 100 if known else 0
            if amount:
                correct = partial(corrections.adjust, policy=self.desk.policy, change=Change(name, amount))
                self.desk.do(partial(correct, reason="x", reference=None, now=self.now))

    @rule(days=st.sampled_from([1, 1, 12]))
    def wait(self, days: int) -> None:
        self.now += timedelta(days=days)
        self.times.append(self.now)
        self.named += 1
        for limit in self.family.limits.values():
            self.open(limit)

    def open(self, limit: Limit) -> None:
        self.desk.do(partial(lending.open_settled, policy=self.desk.policy, limit=limit, key=(), now=self.now))

    @invariant()
    def nothing_is_overspent_on_any_level(self) -> None:
        for tenant, limit in self.family.limits.items():
            for account in self.known(tenant):
                assert account.spent + account.unreconciled + account.held <= account.cap(limit)
                assert min(account.spent, account.held, account.unreconciled, account.borrowed, account.lent) >= 0

    @invariant()
    def both_limits_hold_and_both_sides_agree(self) -> None:
        owed: Counter[str] = Counter()
        beyond: Counter[str] = Counter()
        for tenant in BORROWERS:
            limit = self.limit(tenant)
            for account in self.known(tenant):
                LoanAlgebra.borrowed = max(LoanAlgebra.borrowed, account.borrowed)
                assert account.borrowed <= limit.borrowing
                owed[account.lender] += account.borrowed
                reserved = account.spent + account.unreconciled + account.held
                beyond[account.lender] += max(0, reserved - account.own_credit + limit.minimum)
        for name in ("top", "crown"):
            for account in self.known(name):
                assert account.lent == owed[account.id] <= self.limit(name).lending
                assert beyond[account.id] <= self.limit(name).lending  # the guaranteed part is everybody else's

    @invariant()
    def nothing_borrowed_is_idle(self) -> None:
        for tenant in BORROWERS:
            limit = self.limit(tenant)
            for account in self.known(tenant):
                going_on = account.window_end is None or self.now < account.window_end
                least = loans.needed(limit, account, going_on=going_on)
                most = least + 2 * loans.spare(limit, account) if least and going_on else least
                assert account.borrowed <= most

    def teardown(self) -> None:
        if not hasattr(self, "family"):
            return
        try:
            lines = self.desk.export()
            accounts = [one for tenant in self.family.limits for one in self.known(tenant)]
            balances = dict(verify(lines).balances) if lines else {}
            for one in accounts:
                assert balances.pop(one.id, Replayed("Tokens")) == as_table(one, "Tokens")
            assert not balances
            for line in lines:
                touched = {root_of(entry["account"]) for entry in orjson.loads(line)["entries"]}
                assert len(touched) <= 1, line
        finally:
            self.desk.store.close()


@pytest.mark.slow
def test_loans_keep_their_promises_whatever_happens(new_ledger: NewLedger) -> None:
    first = new_ledger()
    examples, steps = (40, 30) if isinstance(first, Path) else (6, 20)
    run_state_machine_as_test(
        lambda: LoanAlgebra(new_ledger()),  # type: ignore[arg-type]
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )  # fmt: skip
    assert LoanAlgebra.borrowed > 20


def lend_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        loans, "possible", lambda limit, account, *_, room: min(limit.borrowing - account.borrowed, room)
    )


def keep_what_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loans, "superfluous", lambda *_, **__: 0)


@pytest.mark.parametrize("plant", [lend_beyond_the_limit, keep_what_is_not_needed])
def test_the_machine_finds_planted_faults(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plant(monkeypatch)
    numbers = count()
    generated = settings(
        max_examples=60, stateful_step_count=25, deadline=None, phases=[Generating.generate], database=None,
        report_multiple_bugs=False,
    )  # fmt: skip
    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            lambda: LoanAlgebra(tmp_path / f"{next(numbers)}.db"),  # type: ignore[arg-type]
            settings=generated,
        )
