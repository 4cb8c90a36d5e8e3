"""What the ledger promises of leases, charges, lapses and grants, on every storage."""

from collections import deque
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
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

from tests.ledger.builders import NOW, Desk, account_of, budget, grant, policy, record
from tests.ledger.conftest import NewLedger
from tollkeeper.accounts import Account, Phase
from tollkeeper.amounts import Unit
from tollkeeper.errors import InvalidValue
from tollkeeper.leases import LeaseReply, Reason, Want
from tollkeeper.limits import AccountId, Enforcement, Limit
from tollkeeper.usage import Charge
from tollkeeper.windows import Calendar, Every
from tollkeeper_ledger.export import verify
from tollkeeper_ledger.storage import LedgerAt

LIMIT = budget()
ACCOUNT = account_of(LIMIT)


def account(desk: Desk) -> Account:
    return desk.account(ACCOUNT)


def test_a_lease_is_held_before_it_is_granted(desk: Desk) -> None:
    reply = desk.lease("g1", Want(ACCOUNT, 100, 300))
    assert [grant.amount for grant in reply.granted] == [300]
    assert account(desk).held == 300


def test_a_lease_never_exceeds_what_is_left_and_then_is_refused_as_contended(desk: Desk) -> None:
    """R21."""
    assert desk.lease("g1", Want(ACCOUNT, 600, 600)).granted
    lowered = desk.lease("g2", Want(ACCOUNT, 300, 900))
    assert [grant.amount for grant in lowered.granted] == [400]
    refused = desk.lease("g3", Want(ACCOUNT, 1, 1)).refused
    assert [(refusal.reason, refusal.available) for refusal in refused] == [(Reason.CONTENDED, 0)]


def test_a_refusal_comes_with_the_numbers_of_the_limits_that_would_have_granted(ledger: LedgerAt) -> None:
    small, large = budget("small", 100), budget("large", 1000)
    both = Desk(ledger, small, large)
    wants = [Want(account_of(one), 200, 300, ahead=50) for one in (small, large)]
    reply = both.lease("g1", *wants)
    both.store.close()
    assert [(one.ref, one.reason, one.available) for one in reply.refused] == [(small.ref, Reason.USED_UP, 100)]
    assert [(one.ref, one.need, one.balance, one.available) for one in reply.others] == [(large.ref, 200, 1000, 1000)]


def test_what_is_spent_is_used_up_until_the_window_ends(desk: Desk) -> None:
    desk.lease("g1", Want(ACCOUNT, 1000, 1000))
    desk.charge(record("g1", Charge(ACCOUNT, 1000, 1000)))
    refusal = desk.lease("g1", Want(ACCOUNT, 1, 1)).refused[0]
    assert (refusal.reason, refusal.phase, refusal.balance) == (Reason.USED_UP, Phase.INSUFFICIENT, 0)
    assert refusal.resets == account(desk).window_end


def test_a_report_that_comes_twice_is_booked_once(desk: Desk) -> None:
    """R17."""
    desk.lease("g1", Want(ACCOUNT, 100, 100))
    usage = record("g1", Charge(ACCOUNT, 60, 100))
    desk.charge(usage, usage)
    desk.charge(usage)
    assert (account(desk).spent, account(desk).held, account(desk).requests) == (60, 40, 1)


def test_unused_amounts_come_back_once_for_each_sequence_number(desk: Desk) -> None:
    desk.lease("g1", Want(ACCOUNT, 100, 100))
    desk.lease("g1", returns={ACCOUNT: 40}, sequence=5)
    desk.lease("g1", returns={ACCOUNT: 40}, sequence=5)
    assert account(desk).held == 60


def test_a_holder_that_vanishes_is_charged_what_it_held(desk: Desk) -> None:
    desk.lease("g1", Want(ACCOUNT, 300, 300))
    desk.lapse("g1")
    assert (account(desk).held, account(desk).unreconciled, account(desk).balance) == (0, 300, 700)


def test_a_late_report_of_a_holder_that_ended_replaces_all_that_stood_for_the_request(desk: Desk) -> None:
    desk.lease("g1", Want(ACCOUNT, 300, 300))
    desk.close("g1", {ACCOUNT: 300})
    desk.charge(record("g1", Charge(ACCOUNT, 70, 200)))
    assert (account(desk).spent, account(desk).unreconciled) == (70, 100)


def test_a_late_report_of_a_holder_that_may_come_back_leaves_its_other_requests_covered(desk: Desk) -> None:
    desk.lease("g1", Want(ACCOUNT, 300, 300))
    desk.lapse("g1")
    desk.charge(record("g1", Charge(ACCOUNT, 70, 200)))
    assert (account(desk).spent, account(desk).unreconciled) == (70, 230)
    desk.lease("g1", returns={ACCOUNT: 130})
    assert (account(desk).held, account(desk).unreconciled) == (100, 0)


def test_a_holder_that_died_keeps_only_its_requests_in_flight_as_unreconciled(desk: Desk) -> None:
    desk.lease("g1", Want(ACCOUNT, 300, 300))
    desk.charge(record("g1", Charge(ACCOUNT, 50, 80)))
    desk.close("g1", {ACCOUNT: 90})
    assert (account(desk).spent, account(desk).held, account(desk).unreconciled) == (50, 0, 90)


def test_a_holder_that_was_thought_gone_holds_again_what_it_held(desk: Desk) -> None:
    desk.lease("g1", Want(ACCOUNT, 300, 300))
    desk.lapse("g1")
    desk.lease("g1", Want(ACCOUNT, 10, 10))
    assert (account(desk).held, account(desk).unreconciled) == (310, 0)


def test_an_ended_holder_gets_no_lease(desk: Desk) -> None:
    desk.close("g1")
    with pytest.raises(InvalidValue, match="has ended"):
        desk.lease("g1", Want(ACCOUNT, 1, 1))


def test_an_account_of_no_limit_is_refused(desk: Desk) -> None:
    unknown = account_of(budget("other"))
    assert desk.lease("g1", Want(unknown, 1, 1)).refused[0].reason is Reason.UNKNOWN_ACCOUNT


def test_a_raised_allocation_opens_a_blocked_account(desk: Desk) -> None:
    desk.lease("g1", Want(ACCOUNT, 1000, 1000))
    desk.charge(record("g1", Charge(ACCOUNT, 1000, 1000)))
    raised = budget(allocation=5000)
    desk.policy = type(desk.policy)(2, desk.policy.tenants, (raised,), desk.policy.prices)
    assert desk.lease("g1", Want(ACCOUNT, 10, 10)).granted
    assert account(desk).phase(raised) is Phase.SUFFICIENT


def test_a_soft_limit_counts_what_nobody_leased(ledger: LedgerAt) -> None:
    soft = budget(allocation=10, enforcement=Enforcement.SOFT)
    desk = Desk(ledger, soft)
    desk.charge(record("g1", Charge(ACCOUNT, 30, 0)))
    known = desk.known(ACCOUNT)
    desk.store.close()
    assert known is not None
    assert (known[0].balance, known[0].overshoot) == (-20, 0)


def test_a_grant_is_booked_exactly_once(desk: Desk) -> None:
    """R4."""
    for _ in range(2):
        state = desk.book_grant(grant(500), LIMIT)
    assert (account(desk).granted, state.remaining) == (500, 500)


def test_grants_burn_after_the_allocation_by_priority(desk: Desk) -> None:
    desk.lease("g1", Want(ACCOUNT, 1000, 1000))
    desk.book_grant(grant(500, "later", priority=20), LIMIT)
    desk.book_grant(grant(100, "first", priority=1), LIMIT)
    desk.lease("g1", Want(ACCOUNT, 300, 300))
    desk.charge(record("g1", Charge(ACCOUNT, 1300, 1300)))
    left = {name: desk.book_grant(grant(1, name), LIMIT).remaining for name in ("first", "later")}
    assert left == {"first": 0, "later": 300}


def test_an_expired_grant_takes_only_what_was_left_of_it(desk: Desk) -> None:
    expiring = grant(500, expires_at=NOW + timedelta(hours=1))
    desk.book_grant(expiring, LIMIT)
    desk.lease("g1", Want(ACCOUNT, 1200, 1200))
    desk.charge(record("g1", Charge(ACCOUNT, 1200, 1200)))
    for _ in range(2):
        state = desk.book_grant(expiring, LIMIT, NOW + timedelta(hours=2))
    assert (state.expired, state.remaining) == (True, 0)
    assert (account(desk).granted, account(desk).balance) == (200, 0)


def test_a_grant_that_was_over_before_it_was_booked_pays_for_nothing_that_was_spent(desk: Desk) -> None:
    desk.book_grant(grant(500), LIMIT)
    desk.lease("g1", Want(ACCOUNT, 1300, 1300))
    desk.charge(record("g1", Charge(ACCOUNT, 1300, 1300)))
    late = grant(400, "late", expires_at=NOW - timedelta(days=1))
    for _ in range(2):
        state = desk.book_grant(late, LIMIT)
        assert (state.expired, state.remaining) == (True, 0)
    assert (account(desk).granted, account(desk).balance) == (500, 200)
    assert desk.book_grant(grant(500), LIMIT).remaining == 200


def test_what_expires_of_a_grant_stands_among_the_payments(desk: Desk) -> None:
    expiring = grant(400, expires_at=NOW + timedelta(days=1))
    for now in (NOW, NOW + timedelta(days=2)):
        desk.book_grant(expiring, LIMIT, now)
    with desk.reader() as reader:
        rows = reader.payments(ACCOUNT, page=1, order="oldest").rows
    assert [(row.reason, row.amount, row.balance) for row in rows] == [("TopUp", 400, 1400), ("Expired", -400, 1000)]


def test_a_new_window_begins_with_its_rollover_and_what_is_left_of_grants(ledger: LedgerAt) -> None:
    limit = budget(rollover=250)
    desk = Desk(ledger, limit)
    desk.book_grant(grant(400), limit, NOW)
    desk.lease("g1", Want(ACCOUNT, 100, 100))
    desk.charge(record("g1", Charge(ACCOUNT, 100, 100)))
    december = NOW + timedelta(days=20)
    desk.open(limit, december)
    known = desk.known(account_of(limit, december))
    desk.store.close()
    assert known is not None
    assert (known[0].allocation, known[0].rolled_over, known[0].granted, known[0].spent) == (1000, 250, 400, 0)


DECEMBER = NOW + timedelta(days=20)


def balances(desk: Desk, limit: Limit) -> tuple[int, ...]:
    """What is left of November and of December."""
    return tuple(desk.account(account_of(limit, now)).balance for now in (NOW, DECEMBER))


@pytest.mark.parametrize(("used", "left"), [(400, 0), (150, 250), (0, 400)])
def test_a_grant_that_is_held_over_the_end_of_a_window_is_spent_once(ledger: LedgerAt, used: int, left: int) -> None:
    limit = budget(allocation=0)
    desk = Desk(ledger, limit)
    desk.book_grant(grant(400), limit)
    desk.lease("g1", Want(ACCOUNT, 400, 400))
    desk.open(limit, DECEMBER)
    assert balances(desk, limit) == (400, 0)
    desk.charge(record("g1", Charge(ACCOUNT, used, 400)), now=DECEMBER)
    desk.lease("g1", returns={ACCOUNT: 400 - used}, now=DECEMBER)
    for _ in range(2):
        desk.open(limit, DECEMBER)
    assert balances(desk, limit) == (400 - used, left)
    desk.store.close()


def test_what_is_held_over_the_end_of_a_window_is_not_rolled_over_until_it_comes_back(ledger: LedgerAt) -> None:
    limit = budget(rollover=1000)
    desk = Desk(ledger, limit)
    desk.lease("g1", Want(ACCOUNT, 700, 700))
    desk.open(limit, DECEMBER)
    assert balances(desk, limit) == (1000, 1300)
    desk.lease("g1", returns={ACCOUNT: 700}, now=DECEMBER)
    assert balances(desk, limit) == (1000, 2000)
    desk.store.close()


def test_what_was_left_of_a_grant_whose_time_is_over_is_not_rolled_over(ledger: LedgerAt) -> None:
    limit = budget(allocation=0, rollover=1000)
    desk = Desk(ledger, limit)
    desk.book_grant(grant(400, expires_at=NOW + timedelta(days=1)), limit)
    desk.open(limit, DECEMBER)
    assert balances(desk, limit)[1] == 0
    desk.store.close()


def test_a_lowered_minimum_opens_a_blocked_account(desk: Desk) -> None:
    desk.lease("g1", Want(ACCOUNT, 1000, 1000))
    desk.charge(*(record("g1", Charge(ACCOUNT, 100, 100)) for _ in range(10)))
    assert desk.lease("g1", Want(ACCOUNT, 10, 10)).refused
    desk.policy = policy(budget(minimum=-500))
    assert [granted.amount for granted in desk.lease("g1", Want(ACCOUNT, 500, 500)).granted] == [500]


def test_grants_beyond_what_can_be_counted_are_refused(ledger: LedgerAt) -> None:
    limit = budget(allocation=0)
    desk = Desk(ledger, limit)
    for number in range(4):
        desk.book_grant(grant(10**18, f"g{number}"), limit)
    with pytest.raises(InvalidValue, match="grant less"):
        desk.book_grant(grant(10**18, "one too many"), limit)
    desk.store.close()


def test_what_is_read_after_a_restart_is_what_was_committed(ledger: LedgerAt) -> None:
    desk = Desk(ledger, LIMIT)
    desk.lease("g1", Want(ACCOUNT, 300, 300))
    desk.charge(record("g1", Charge(ACCOUNT, 60, 100)), record("g1", Charge(ACCOUNT, 70, 100)))
    before = account(desk)
    desk.store.close()
    again = Desk(ledger, LIMIT)
    assert account(again) == before
    with again.reader() as reader:
        assert reader.live_holders() == {"g1": 1}
    again.store.close()


def test_who_has_leases_on_an_account_is_known_of_those_that_live(ledger: LedgerAt) -> None:
    desk = Desk(ledger, LIMIT)
    for holder in ("g1", "g2", "gone", "empty"):
        desk.lease(holder, Want(ACCOUNT, 100, 100))
    desk.lapse("gone")
    desk.lease("empty", returns={ACCOUNT: 100})
    with desk.reader() as reader:
        found = reader.holders_of([ACCOUNT, "another"], ["g1", "gone", "empty", "g2", "unheard"])
        assert {account: set(holders) for account, holders in found.items()} == {
            ACCOUNT: {"g1", "g2"},
            "another": set(),
        }
        assert reader.holders_of([ACCOUNT], ["g2"]) == {ACCOUNT: ["g2"]}
    desk.store.close()


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


def test_a_budget_written_again_in_another_unit_counts_anew_and_never_mixes(ledger: LedgerAt) -> None:
    tokens = budget(unit=Unit.TOKENS)
    desk = Desk(ledger, LIMIT)
    desk.lease("g1", Want(ACCOUNT, 900, 900))
    desk.charge(record("g1", Charge(ACCOUNT, 900, 900)))
    desk.policy = type(desk.policy)(2, desk.policy.tenants, (tokens,), desk.policy.prices)
    reply = desk.lease("g1", Want(ACCOUNT, 10, 10), Want(account_of(tokens), 1000, 1000))
    assert [refusal.reason for refusal in reply.refused] == [Reason.UNKNOWN_ACCOUNT], "it is counted in tokens now"
    assert [grant.amount for grant in reply.granted] == [1000]
    assert account(desk).spent == 900
    desk.store.close()


def test_keys_with_commas_are_told_apart() -> None:
    identities = [
        AccountId(LIMIT.ref, key, "forever", Unit.USD) for key in (("a,b", "c"), ("a", "b,c"), ("a@b/c", "d"))
    ]
    assert [AccountId.parse(identity.text) for identity in identities] == identities
    assert len({identity.key_text for identity in identities}) == 3


def test_an_allocation_lowered_below_what_is_spent_is_no_overshoot(desk: Desk) -> None:
    desk.lease("g1", Want(ACCOUNT, 900, 900))
    desk.charge(record("g1", Charge(ACCOUNT, 800, 800)))
    lowered = budget(allocation=500)
    desk.policy = type(desk.policy)(2, desk.policy.tenants, (lowered,), desk.policy.prices)
    desk.open(lowered)
    desk.charge(record("g1", Charge(ACCOUNT, 100, 100)))
    assert (account(desk).spent, account(desk).overshoot) == (900, 0)


def test_what_a_request_used_beyond_its_hold_is_overshoot_as_far_as_it_passed_the_cap(desk: Desk) -> None:
    desk.lease("g1", Want(ACCOUNT, 1000, 1000))
    desk.charge(record("g1", Charge(ACCOUNT, 1300, 1000)))
    assert (account(desk).spent, account(desk).overshoot) == (1300, 300)


def test_an_overlapping_window_of_another_period_is_not_the_one_before(desk: Desk) -> None:
    desk.book_grant(grant(500), LIMIT)
    weekly = budget(calendar=Calendar.every(Every.WEEK, "Europe/Madrid"))
    desk.open(weekly)
    assert desk.account(account_of(weekly)).granted == 0, "the grant stays where it was given"


def test_b7_a_budget_that_is_deleted_and_written_again_goes_on_with_what_was_spent(desk: Desk) -> None:
    desk.lease("g1", Want(ACCOUNT, 600, 600))
    desk.charge(record("g1", Charge(ACCOUNT, 600, 600)))
    known = desk.policy
    desk.policy = type(known)(2, known.tenants, (), known.prices)
    assert desk.lease("g1", Want(ACCOUNT, 1, 1)).refused[0].reason is Reason.UNKNOWN_ACCOUNT
    desk.policy = known
    assert desk.lease("g1", Want(ACCOUNT, 401, 401)).refused, "it had 400 left when it was deleted"
    assert account(desk).spent == 600


def test_b7_an_account_whose_period_was_written_anew_from_the_same_start_ends_with_the_new_one(
    ledger: LedgerAt,
) -> None:
    monday = datetime(2026, 11, 23, 12, tzinfo=UTC)
    daily, weekly = (budget(calendar=Calendar.every(every)) for every in (Every.DAY, Every.WEEK))
    desk, name = Desk(ledger, daily), account_of(daily, monday)
    assert name == account_of(weekly, monday)
    desk.lease("g1", Want(name, 900, 900), now=monday)
    desk.charge(record("g1", Charge(name, 900, 900), admitted_at=monday), now=monday)
    desk.policy = policy(weekly)
    refusal = desk.lease("g1", Want(name, 900, 900), now=monday + timedelta(days=2)).refused[0]
    assert (refusal.reason, refusal.resets) == (Reason.USED_UP, datetime(2026, 11, 30, tzinfo=UTC))
    desk.store.close()
