"""What lies idle goes back by itself, within two seconds (H4)."""

from datetime import timedelta

from tests.sidecar.builders import NOW, account_of, limit
from tests.sidecar.desks import answered, demand, leave_over
from tests.sidecar.reference import ReferenceAuthority
from tollkeeper.amounts import Unit
from tollkeeper.leases import LeaseReply, LeaseRequest, Want
from tollkeeper_sidecar.demand import Hold
from tollkeeper_sidecar.desk import Desk
from tollkeeper_sidecar.waiting import Waiting


def test_idle_leases_go_back_within_two_seconds() -> None:
    quota = limit("tokens", 10_000, Unit.TOKENS)
    desk, authority = Desk("one", 10), ReferenceAuthority([quota])
    leave_over(desk, authority, demand(100, 100, quota), 1.0)
    for tenths in range(11, 31):
        if (request := desk.next_request(NOW, tenths / 10)) is not None:
            desk.answered(authority.lease_now(request, NOW), NOW, tenths / 10)
    assert authority.outstanding("one", account_of(quota)) == 0


def test_idle_leases_go_back_within_two_seconds_although_somebody_always_waits_for_other_accounts() -> None:
    """As where each user has an account of its own: somebody comes anew all the time."""
    idle, *new = [limit(f"of-{number}", 10_000, Unit.TOKENS) for number in range(31)]
    desk, authority = Desk("one", 100), ReferenceAuthority([idle, *new])
    leave_over(desk, authority, demand(100, 100, idle), 1.0)
    assert authority.outstanding("one", account_of(idle)) > 0
    for tenths in range(11, 31):
        desk.arrive(demand(100, 100, new[tenths - 1]), tenths / 10)
        assert desk.waiting
        answered(desk, authority, tenths / 10)
    assert authority.outstanding("one", account_of(idle)) == 0


def test_what_is_idle_is_kept_for_those_who_wait_as_far_as_they_may_take_it() -> None:
    plenty, short = limit("plenty", 10_000, Unit.TOKENS), limit("short", 100, Unit.TOKENS)
    authority = ReferenceAuthority([plenty, short])
    authority.lease_now(LeaseRequest("two", 1, (Want(account_of(short), 100, 100),)), NOW)
    desk = Desk("one", 10)
    taken = desk.arrive(demand(900, 100, plenty), 1.0)
    answered(desk, authority, 1.0)
    assert isinstance(taken, Waiting)
    assert isinstance(taken.outcome, Hold)
    desk.settle(taken.outcome, taken.outcome.unused, 1.0)
    for mono in (1.6, 2.2):
        desk.next_request(NOW, mono)
        desk.answered(LeaseReply(), NOW, mono)
    desk.arrive(demand(50, 16, plenty, short), 2.3)
    answered(desk, authority, 2.3)
    request = desk.next_request(NOW, 2.8)
    assert request is not None
    assert desk.pools.free(account_of(plenty)) == 66


def test_leases_of_a_window_that_ended_go_back_at_once() -> None:
    quota = limit("tokens", 10_000, Unit.TOKENS)
    desk, authority = Desk("one", 10), ReferenceAuthority([quota])
    leave_over(desk, authority, demand(100, 100, quota), 1.0)
    request = desk.next_request(NOW + timedelta(days=30), 1.6)
    assert request is not None
    assert request.returns == {account_of(quota): authority.outstanding("one", account_of(quota))}
