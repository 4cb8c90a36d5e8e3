"""Who is served at the lease desk: out of what is there, in which order, with how much, and who is refused."""

from tests.sidecar.builders import NOW, account_of, limit
from tests.sidecar.desks import answered, bound_to, demand, held
from tests.sidecar.reference import ReferenceAuthority
from tollkeeper.amounts import Unit
from tollkeeper_sidecar.demand import HardAccounts, Hold, Tokens, demand_of
from tollkeeper_sidecar.desk import PATIENCE_SECONDS, Desk
from tollkeeper_sidecar.waiting import Refused, Waiting


def test_a_second_request_is_served_without_a_call() -> None:
    quota = limit("tokens", 10**6, Unit.TOKENS)
    desk, authority = Desk("one", 10), ReferenceAuthority([quota])
    first = desk.arrive(demand(100, 100, quota), 1.0)
    assert isinstance(first, Waiting)
    answered(desk, authority, 1.0)
    assert isinstance(first.outcome, Hold)
    desk.settle(first.outcome, (10,), 1.1)
    assert isinstance(desk.arrive(demand(100, 50, quota), 1.1), Hold)


def test_waiting_requests_share_one_call_and_are_served_in_their_order() -> None:
    quota = limit("tokens", 500, Unit.TOKENS)
    desk, authority = Desk("one", 10), ReferenceAuthority([quota])
    places = [desk.arrive(demand(100, 100, quota, lower=False), 1.0) for _ in range(4)]
    answered(desk, authority, 1.0)
    assert authority.calls == 1
    served = [isinstance(place, Waiting) and isinstance(place.outcome, Hold) for place in places]
    assert served == [True, True, False, False]


def test_the_last_room_lowers_the_output_limit() -> None:
    quota = limit("tokens", 150, Unit.TOKENS)
    desk, authority = Desk("one", 10), ReferenceAuthority([quota])
    place = desk.arrive(demand(100, 100, quota), 1.0)
    answered(desk, authority, 1.0)
    assert held(place) == (50, {account_of(quota): 150})


def test_leftovers_of_a_request_in_flight_serve_one_that_was_refused_once() -> None:
    quota = limit("tokens", 200, Unit.TOKENS)
    desk, authority = Desk("one", 10), ReferenceAuthority([quota])
    first = desk.arrive(demand(100, 100, quota), 1.0)
    answered(desk, authority, 1.0)
    second = desk.arrive(demand(100, 60, quota), 1.1)
    answered(desk, authority, 1.1)
    assert isinstance(first, Waiting)
    assert isinstance(second, Waiting)
    assert isinstance(first.outcome, Hold)
    assert second.outcome is None
    desk.settle(first.outcome, (60,), 1.2)
    assert held(second) == (40, {account_of(quota): 140})


def test_contended_room_is_asked_for_once_more_and_then_refused() -> None:
    quota = limit("tokens", 200, Unit.TOKENS)
    desk, authority = Desk("one", 10), ReferenceAuthority([quota])
    desk.arrive(demand(100, 100, quota), 1.0)
    answered(desk, authority, 1.0)
    second = desk.arrive(demand(100, 100, quota), 1.1)
    answered(desk, authority, 1.1)
    assert desk.next_request(NOW, 1.2) is None
    assert isinstance(second, Waiting)
    answered(desk, authority, 1.1 + PATIENCE_SECONDS)
    assert isinstance(second.outcome, Refused)
    assert second.outcome.refusals[0].reason.value == "contended"


def test_room_that_can_never_be_enough_is_used_up_at_once() -> None:
    quota = limit("tokens", 200, Unit.TOKENS)
    desk, authority = Desk("one", 10), ReferenceAuthority([quota])
    place = desk.arrive(demand(300, 100, quota), 1.0)
    answered(desk, authority, 1.0)
    assert isinstance(place, Waiting)
    assert isinstance(place.outcome, Refused)
    assert place.outcome.refusals[0].reason.value == "used_up"


def test_a_blocked_account_refuses_even_what_would_fit() -> None:
    quota = limit("tokens", 300, Unit.TOKENS)
    desk, authority = Desk("one", 10), ReferenceAuthority([quota])
    authority.book_now("one", {account_of(quota): 200}, NOW)
    place = desk.arrive(demand(10, 60, quota), 1.0)
    answered(desk, authority, 1.0)
    assert isinstance(place, Waiting)
    assert isinstance(place.outcome, Refused)


def test_a_request_that_costs_nothing_is_answered_without_a_lease_as_well() -> None:
    money = limit("money", 1000)
    free = demand_of(Tokens(10, 1, 0), None, 16, 16, HardAccounts([bound_to(money)]), lower=True)
    desk, authority = Desk("one", 10), ReferenceAuthority((money,))
    waiting = desk.arrive(free, 100.0)
    request = desk.next_request(NOW, 100.0)
    assert isinstance(waiting, Waiting)
    assert request is not None
    desk.answered(authority.lease_now(request, NOW), NOW, 100.0)
    assert held(waiting) == (16, {account_of(money): 0})
