"""The lease desk against the core's own lease algebra: whatever happens in whatever order, nothing is handed out twice."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.sidecar.builders import NOW, PRICES, account_of, limit
from tests.sidecar.reference import ReferenceAuthority
from tollkeeper.amounts import Unit
from tollkeeper.leases import RECALL_SECONDS, LeaseReply, LeaseRequest, Want, too_late
from tollkeeper.limits import Limit, WhenStale
from tollkeeper.policy import BoundAccount
from tollkeeper_sidecar.demand import Demand, HardAccounts, Hold, Tokens, demand_of
from tollkeeper_sidecar.desk import PATIENCE_SECONDS, Desk
from tollkeeper_sidecar.waiting import Refused, Stale, Waiting

PRICE = PRICES.find("openai", "gpt-5", NOW)


def bound_to(one: Limit) -> tuple[str, BoundAccount]:
    account, window = one.account_at((), NOW)
    return account.text, BoundAccount(one, account, window)


def demand(prompt: int, output: int, *limits: Limit, lower: bool = True) -> Demand:
    hard = HardAccounts([bound_to(one) for one in limits])
    return demand_of(Tokens(prompt, 1, 0), PRICE, output, output, hard, lower=lower)


def held(place: Hold | Waiting) -> tuple[int, Mapping[str, int]]:
    """The output limit and the amounts that a request was served with."""
    hold = place.outcome if isinstance(place, Waiting) else place
    assert isinstance(hold, Hold)
    return hold.output_limit, hold.amounts


class Desks(RuleBasedStateMachine):
    """Two gateways on the same accounts, calls under way, reports late or lost authority: in any order."""

    @initialize(cap=st.integers(0, 4000), money=st.integers(0, 40_000_000))
    def start(self, cap: int, money: int) -> None:
        self.limits = (limit("tokens", cap, Unit.TOKENS), limit("money", money))
        self.authority = ReferenceAuthority(self.limits)
        self.desks = [Desk("one", 50), Desk("two", 50)]
        self.calls: list[LeaseRequest | None] = [None, None]
        self.replies: list[LeaseReply | None] = [None, None]
        self.flying: list[tuple[int, Demand, Hold]] = []
        self.waiting: list[tuple[int, Waiting]] = []
        self.unbooked: list[tuple[int, dict[str, int]]] = []
        self.time = 1000.0
        self.admitted = self.settled = 0

    @rule(which=st.integers(0, 1), prompt=st.integers(1, 400), output=st.integers(1, 600), both=st.booleans())
    def arrive(self, which: int, prompt: int, output: int, both: bool) -> None:
        wanted = demand(prompt, output, *(self.limits if both else self.limits[:1]))
        place = self.desks[which].arrive(wanted, self.time)
        if isinstance(place, Hold):
            self.admit(which, wanted, place)
        else:
            self.waiting.append((which, place))
        self.collect(which)

    @rule(which=st.integers(0, 1))
    def call(self, which: int) -> None:
        if self.calls[which] is None:
            request = self.desks[which].next_request(NOW, self.time)
            self.calls[which] = request
            self.replies[which] = self.authority.lease_now(request, NOW) if request else None

    @rule(which=st.integers(0, 1))
    def reply(self, which: int) -> None:
        answer = self.replies[which]
        if answer is not None:
            self.calls[which] = self.replies[which] = None
            self.desks[which].answered(answer, NOW, self.time)
            self.collect(which)

    @rule(which=st.integers(0, 1))
    def lose_the_authority(self, which: int) -> None:
        if self.calls[which] is None:
            request = self.desks[which].next_request(NOW, self.time)
            if request is not None:
                self.desks[which].unavailable(self.time)
                self.collect(which)

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), share=st.floats(0, 1))
    def end_a_request(self, data: st.DataObject, share: float) -> None:
        position = data.draw(st.integers(0, len(self.flying) - 1))
        which, _, hold = self.flying.pop(position)
        each = tuple(int(amount * share) for amount in hold.each)
        used = hold.hard.by_account(each)
        self.desks[which].settle(hold, each, self.time)
        self.unbooked.append((which, used))
        self.settled += 1
        self.collect(which)

    @precondition(lambda self: self.unbooked)
    @rule()
    def book(self) -> None:
        which, used = self.unbooked.pop(0)
        self.authority.book_now(f"{'one' if which == 0 else 'two'}", used, NOW)
        self.desks[which].pools.booked(used)

    @rule(which=st.integers(0, 1), both=st.booleans())
    def hear_of_a_recall(self, which: int, both: bool) -> None:
        self.desks[which].recalled([account_of(one) for one in self.limits[: 1 + both]], self.time)

    @rule(seconds=st.sampled_from([0.01, 0.3, 0.6, 5.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.time += seconds

    def admit(self, which: int, wanted: Demand, hold: Hold) -> None:
        self.flying.append((which, wanted, hold))
        self.admitted += 1
        assert wanted.least <= hold.output_limit <= wanted.most
        fits = {need.id: hold.amounts[need.id] for need in wanted.needs}
        assert wanted.within(fits) == hold

    def collect(self, which: int) -> None:
        for waiting in self.desks[which].resolved:
            self.waiting.remove((which, waiting))
            if isinstance(waiting.outcome, Hold):
                self.admit(which, waiting.demand, waiting.outcome)
            else:
                assert isinstance(waiting.outcome, Refused | Stale)
        self.desks[which].resolved.clear()

    @invariant()
    def what_is_out_is_what_the_authority_thinks_is_out(self) -> None:
        for which, desk in enumerate(self.desks) if hasattr(self, "desks") else ():
            for one in self.limits:
                account = account_of(one)
                pool = desk.pools.of(account)
                here = pool.outstanding if pool else 0
                answer = self.replies[which]
                granted = sum(g.amount for g in answer.granted if g.account == account) if answer else 0
                assert here + granted == self.authority.outstanding(("one", "two")[which], account)
                assert here >= 0

    @invariant()
    def what_is_held_is_the_sum_of_the_holds(self) -> None:
        for which, desk in enumerate(self.desks) if hasattr(self, "desks") else ():
            for account, pool in desk.pools:
                assert pool.held == sum(hold.amounts.get(account, 0) for own, _, hold in self.flying if own == which)
                assert pool.free >= 0

    @invariant()
    def no_cap_is_passed(self) -> None:
        for one in self.limits if hasattr(self, "limits") else ():
            account = self.authority.accounts[account_of(one)]
            assert account.spent + account.held + account.unreconciled <= account.cap(one)
            assert account.overshoot == 0

    def teardown(self) -> None:
        """Whoever waits gets an answer, and in the end nothing is left out."""
        if not hasattr(self, "desks"):
            return
        for which in (0, 1):
            self.reply(which)
        for _ in range(200):
            for which in (0, 1):
                self.call(which)
                self.reply(which)
            self.time += PATIENCE_SECONDS
            if not self.waiting:
                break
        assert self.waiting == []
        while self.flying:
            which, _, hold = self.flying.pop()
            self.desks[which].settle(hold, hold.unused, self.time)
        while self.unbooked:
            self.book()
        for _ in range(8):
            self.time += 1.0
            for which in (0, 1):
                self.call(which)
                self.reply(which)
        assert all(account.held == 0 for account in self.authority.accounts.values())


Desks.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestDesks = Desks.TestCase


def answered(desk: Desk, authority: ReferenceAuthority, mono: float) -> None:
    request = desk.next_request(NOW, mono)
    assert request is not None
    desk.answered(authority.lease_now(request, NOW), NOW, mono)


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


def holding_and_free(quota: Limit, authority: ReferenceAuthority) -> Desk:
    """A desk with a hold of 100, and 300 free."""
    desk = Desk("one", 10)
    places = [desk.arrive(demand(tokens - 16, 16, quota), 1.0) for tokens in (100, 300)]
    answered(desk, authority, 1.0)
    assert isinstance(places[1], Waiting)
    assert isinstance(places[1].outcome, Hold)
    desk.settle(places[1].outcome, places[1].outcome.unused, 1.0)
    return desk


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


def test_idle_leases_go_back_within_two_seconds() -> None:
    quota = limit("tokens", 10_000, Unit.TOKENS)
    desk, authority = Desk("one", 10), ReferenceAuthority([quota])
    place = desk.arrive(demand(100, 100, quota), 1.0)
    answered(desk, authority, 1.0)
    assert isinstance(place, Waiting)
    assert isinstance(place.outcome, Hold)
    desk.settle(place.outcome, place.outcome.unused, 1.1)
    for tenths in range(11, 31):
        if (request := desk.next_request(NOW, tenths / 10)) is not None:
            desk.answered(authority.lease_now(request, NOW), NOW, tenths / 10)
    assert authority.outstanding("one", account_of(quota)) == 0


def test_idle_leases_go_back_within_two_seconds_although_somebody_always_waits_for_other_accounts() -> None:
    """As where each user has an account of its own: somebody comes anew all the time."""
    idle, *new = [limit(f"of-{number}", 10_000, Unit.TOKENS) for number in range(31)]
    desk, authority = Desk("one", 100), ReferenceAuthority([idle, *new])
    place = desk.arrive(demand(100, 100, idle), 1.0)
    answered(desk, authority, 1.0)
    assert isinstance(place, Waiting)
    assert isinstance(place.outcome, Hold)
    desk.settle(place.outcome, place.outcome.unused, 1.1)
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
    place = desk.arrive(demand(100, 100, quota), 1.0)
    answered(desk, authority, 1.0)
    assert isinstance(place, Waiting)
    assert isinstance(place.outcome, Hold)
    desk.settle(place.outcome, place.outcome.unused, 1.1)
    request = desk.next_request(NOW + timedelta(days=30), 1.6)
    assert request is not None
    assert request.returns == {account_of(quota): authority.outstanding("one", account_of(quota))}


def test_a_lease_that_was_not_renewed_is_not_used() -> None:
    quota = limit("tokens", 10_000, Unit.TOKENS)
    desk, authority = Desk("one", 10), ReferenceAuthority([quota])
    place = desk.arrive(demand(100, 100, quota), 1.0)
    answered(desk, authority, 1.0)
    assert isinstance(place, Waiting)
    assert isinstance(place.outcome, Hold)
    desk.settle(place.outcome, place.outcome.unused, 1.1)
    assert isinstance(desk.arrive(demand(10, 20, quota), 70.0), Waiting)


def test_without_authority_live_leases_are_used_and_then_a_limit_fails_closed() -> None:
    """R7."""
    quota = limit("tokens", 10_000, Unit.TOKENS)
    desk, authority = Desk("one", 10), ReferenceAuthority([quota])
    place = desk.arrive(demand(100, 100, quota), 1.0)
    answered(desk, authority, 1.0)
    assert isinstance(place, Waiting)
    assert isinstance(place.outcome, Hold)
    desk.settle(place.outcome, place.outcome.unused, 1.1)
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
