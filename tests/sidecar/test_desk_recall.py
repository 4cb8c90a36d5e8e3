"""What others are short of: who gives back what, and how long a refused request waits for it."""

from dataclasses import replace

import pytest

from tests.sidecar.builders import NOW, account_of, limit
from tests.sidecar.desks import answered, demand, holding_and_free
from tests.sidecar.reference import ReferenceAuthority
from tollkeeper.amounts import Unit
from tollkeeper.leases import RECALL_SECONDS, LeaseReply, LeaseRequest, Want, too_late
from tollkeeper_sidecar.desk import PATIENCE_SECONDS, Desk
from tollkeeper_sidecar.waiting import Refused, Waiting


def test_a_recall_takes_all_that_is_free_and_nothing_that_is_held() -> None:
    quota = limit("tokens", 400, Unit.TOKENS)
    authority = ReferenceAuthority([quota])
    desk = holding_and_free(quota, authority)
    desk.recalled([account_of(quota)], 1.1)
    request = desk.next_request(NOW, 1.1)
    assert request is not None
    assert (request.returns, request.answers) == ({account_of(quota): 300}, frozenset({account_of(quota)}))
    desk.answered(authority.lease_now(request, NOW), NOW, 1.1)
    assert desk.next_request(NOW, 1.2) is None


def test_a_recall_that_was_heard_while_a_call_was_under_way_is_answered_by_the_next() -> None:
    quota = limit("tokens", 1000, Unit.TOKENS)
    authority = ReferenceAuthority([quota])
    desk = holding_and_free(quota, authority)
    desk.arrive(demand(500, 16, quota), 1.1)
    under_way = desk.next_request(NOW, 1.1)
    desk.recalled([account_of(quota)], 1.2)
    assert under_way is not None
    assert not under_way.answers
    desk.answered(authority.lease_now(under_way, NOW), NOW, 1.3)
    after = desk.next_request(NOW, 1.3)
    assert after is not None
    assert after.answers == {account_of(quota)}


def test_a_recall_whose_answer_did_not_arrive_is_answered_again() -> None:
    quota = limit("tokens", 400, Unit.TOKENS)
    desk = holding_and_free(quota, ReferenceAuthority([quota]))
    desk.recalled([account_of(quota)], 1.1)
    first = desk.next_request(NOW, 1.1)
    desk.unavailable(1.1)
    due = desk.next_due(1.1)
    assert due is not None
    again = desk.next_request(NOW, 1.1 + due)
    assert first is not None
    assert again is not None
    assert (again.returns, again.answers) == (first.returns, first.answers)


def test_a_request_that_waits_for_one_account_does_not_keep_what_others_lack_on_another() -> None:
    plenty, short = limit("plenty", 1000, Unit.TOKENS), limit("short", 100, Unit.TOKENS)
    authority = ReferenceAuthority([plenty, short])
    authority.lease_now(LeaseRequest("two", 1, (Want(account_of(short), 100, 100),)), NOW)
    desk = Desk("one", 10)
    desk.arrive(demand(50, 16, plenty, short), 1.0)
    answered(desk, authority, 1.0)
    desk.recalled([account_of(plenty)], 1.1)
    request = desk.next_request(NOW, 1.1)
    assert request is not None
    assert (request.returns, request.wants) == ({account_of(plenty): 66}, ())


def test_while_others_owe_an_answer_a_refused_request_asks_again_for_a_recall_time() -> None:
    quota = limit("tokens", 100, Unit.TOKENS)
    authority = ReferenceAuthority([quota])
    authority.lease_now(LeaseRequest("two", 1, (Want(account_of(quota), 100, 100),)), NOW)
    desk, mono = Desk("one", 10), 1.0
    place = desk.arrive(demand(50, 16, quota), mono)
    assert isinstance(place, Waiting)
    while place.outcome is None:
        request = desk.next_request(NOW, mono)
        assert request is not None
        reply = authority.lease_now(request, NOW)
        desk.answered(replace(reply, recalling=frozenset({account_of(quota)})), NOW, mono)
        mono += PATIENCE_SECONDS
    assert isinstance(place.outcome, Refused)
    assert mono == 1.0 + RECALL_SECONDS + PATIENCE_SECONDS


def test_a_refused_request_waits_no_longer_than_a_recall_time_whenever_its_answers_come() -> None:
    """Its last call is made when the time is over: what came back until then is had."""
    quota = limit("tokens", 100, Unit.TOKENS)
    authority = ReferenceAuthority([quota])
    authority.lease_now(LeaseRequest("two", 1, (Want(account_of(quota), 100, 100),)), NOW)
    desk, mono, slow = Desk("one", 10), 1.0, 0.2
    place = desk.arrive(demand(50, 16, quota), mono)
    assert isinstance(place, Waiting)
    asked, last = list[float](), list[bool]()
    while place.outcome is None:
        request = desk.next_request(NOW, mono)
        if request is None:
            mono += desk.next_due(mono) or 0.0
            continue
        asked.append(mono)
        last.append(account_of(quota) in request.last)
        mono += slow
        reply = replace(authority.lease_now(request, NOW), recalling=frozenset({account_of(quota)}))
        desk.answered(reply, NOW, mono)
    assert isinstance(place.outcome, Refused)
    assert asked[-1] == pytest.approx(1.0 + slow + RECALL_SECONDS)
    assert last == [False] * (len(last) - 1) + [True], "a recall that this one starts would come too late"


def test_a_recall_is_not_too_late_as_long_as_one_of_those_who_ask_goes_on_waiting() -> None:
    quota = limit("tokens", 100, Unit.TOKENS)
    authority = ReferenceAuthority([quota])
    authority.lease_now(LeaseRequest("two", 1, (Want(account_of(quota), 100, 100),)), NOW)
    desk = Desk("one", 10)
    desk.arrive(demand(50, 16, quota), 1.0)
    answered(desk, authority, 1.0)
    desk.arrive(demand(50, 16, quota), 1.0 + RECALL_SECONDS)
    request = desk.next_request(NOW, 1.0 + RECALL_SECONDS)
    assert request is not None
    assert (len(request.wants), request.last) == (1, frozenset())


def test_a_request_of_a_window_that_has_ended_does_not_wait_for_what_is_left_there() -> None:
    quota = limit("tokens", 100, Unit.TOKENS)
    desk, account = Desk("one", 10), ReferenceAuthority([quota]).accounts[account_of(quota)]
    place = desk.arrive(demand(50, 16, quota), 1.0)
    request = desk.next_request(NOW, 1.0)
    assert request is not None
    desk.answered(LeaseReply(refused=(too_late(quota, account, request.wants[0]),)), NOW, 1.0)
    assert isinstance(place, Waiting)
    assert isinstance(place.outcome, Refused)
