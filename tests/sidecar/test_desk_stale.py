"""Without an authority: what is used, and what refuses (R7)."""

from tests.sidecar.builders import NOW, account_of, limit
from tests.sidecar.desks import demand, held, leave_over
from tests.sidecar.reference import ReferenceAuthority
from tollkeeper.amounts import Unit
from tollkeeper.limits import WhenStale
from tollkeeper_sidecar.demand import Hold
from tollkeeper_sidecar.desk import Desk
from tollkeeper_sidecar.waiting import Stale, Waiting


def test_a_lease_that_was_not_renewed_is_not_used() -> None:
    quota = limit("tokens", 10_000, Unit.TOKENS)
    desk, authority = Desk("one", 10), ReferenceAuthority([quota])
    leave_over(desk, authority, demand(100, 100, quota), 1.0)
    assert isinstance(desk.arrive(demand(10, 20, quota), 70.0), Waiting)


def test_without_authority_live_leases_are_used_and_then_a_limit_fails_closed() -> None:
    """R7."""
    quota = limit("tokens", 10_000, Unit.TOKENS)
    desk, authority = Desk("one", 10), ReferenceAuthority([quota])
    leave_over(desk, authority, demand(100, 100, quota), 1.0)
    lowered = desk.arrive(demand(150, 5000, quota), 1.2)
    assert isinstance(lowered, Waiting)
    assert desk.next_request(NOW, 1.2) is not None
    desk.unavailable(1.2)
    assert isinstance(lowered.outcome, Hold)
    closed = desk.arrive(demand(5000, 100, quota), 1.3)
    assert isinstance(closed, Waiting)
    assert closed.outcome == Stale(quota)


def test_a_limit_that_fails_open_admits_without_a_lease() -> None:
    """R7."""
    quota = limit("tokens", 10_000, Unit.TOKENS, when_stale=WhenStale.FAIL_OPEN)
    desk = Desk("one", 10)
    place = desk.arrive(demand(100, 100, quota), 1.0)
    desk.next_request(NOW, 1.0)
    desk.unavailable(1.0)
    assert held(place) == (100, {account_of(quota): 0})
