"""What the ledger promises of leases, charges and lapses, on every storage."""

import pytest

from tests.ledger.builders import Desk, account_of, budget, policy, record
from tollkeeper.accounts import Account, Phase
from tollkeeper.errors import InvalidValue
from tollkeeper.leases import Reason, Want
from tollkeeper.limits import Enforcement
from tollkeeper.usage import Charge
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


def test_a_lowered_minimum_opens_a_blocked_account(desk: Desk) -> None:
    desk.lease("g1", Want(ACCOUNT, 1000, 1000))
    desk.charge(*(record("g1", Charge(ACCOUNT, 100, 100)) for _ in range(10)))
    assert desk.lease("g1", Want(ACCOUNT, 10, 10)).refused
    desk.policy = policy(budget(minimum=-500))
    assert [granted.amount for granted in desk.lease("g1", Want(ACCOUNT, 500, 500)).granted] == [500]


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
    desk.lease("ended", Want(ACCOUNT, 100, 100))
    desk.close("ended", {ACCOUNT: 50})
    with desk.reader() as reader:
        found = reader.holders_of([ACCOUNT, "another"], ["g1", "gone", "empty", "g2", "unheard"])
        assert {account: set(holders) for account, holders in found.items()} == {
            ACCOUNT: {"g1", "g2"},
            "another": set(),
        }
        assert reader.holders_of([ACCOUNT], ["g2"]) == {ACCOUNT: ["g2"]}
        assert set(reader.holders_of([ACCOUNT, "another"], None)[ACCOUNT]) == {"g1", "g2"}
    desk.store.close()


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
