"""Recall (H4): no caller is refused while budget has been idle elsewhere for longer than the recall time."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ledger.builders import account_of, budget
from tests.ledger.families import of_tenant, policy_of
from tests.model.timeline import SLOWEST_MESSAGE_SECONDS, Timeline
from tollkeeper import loans
from tollkeeper.amounts import Unit
from tollkeeper.leases import RECALL_SECONDS, Reason
from tollkeeper.limits import Limit
from tollkeeper.recalls import Posting, Recalls
from tollkeeper_sidecar.demand import Hold
from tollkeeper_sidecar.desk import PATIENCE_SECONDS, Desk
from tollkeeper_sidecar.waiting import Refused

LONGEST_CALL_SECONDS = 2 * SLOWEST_MESSAGE_SECONDS


def sized(name: str, amount: int, unit: Unit = Unit.TOKENS) -> Limit:
    return budget(name, amount, unit=unit)


@settings(max_examples=50, deadline=None)
@given(
    authorities=st.sampled_from([1, 2, 2, 3]),
    holders=st.integers(2, 6), team=st.integers(500, 6000), everyone=st.integers(500, 6000), seed=st.integers(0, 10**6),
    callers=st.lists(
        st.tuples(
            st.floats(0, 12), st.integers(0, 5), st.integers(1, 400), st.integers(16, 600), st.sampled_from([1, 2, 3]),
            st.sampled_from([0.0, 0.3, 2.0, 8.0]), st.sampled_from([0, 5, 20, 100]), st.booleans(),
        ), min_size=20, max_size=60,
    ),
)  # fmt: skip
def test_no_caller_is_refused_while_others_have_had_leftovers_for_longer_than_the_recall_time(
    authorities: int, holders: int, team: int, everyone: int, seed: int,
    callers: list[tuple[float, int, int, int, int, float, int, bool]],
) -> None:  # fmt: skip
    limits = sized("team", team), sized("all", everyone)
    timeline = Timeline(limits, holders, seed, authorities=authorities)
    for at, which, prompt, output, under, seconds, percent, lower in callers:
        chosen = [one for bit, one in enumerate(limits) if under & 1 << bit]
        request = timeline.request(prompt, output, *chosen, seconds=seconds, percent=percent, lower=lower)
        timeline.come(at, which % holders, request)
    timeline.run(until=30.0)
    assert len(timeline.ended) == len(callers)
    assert max(one.idle for one in timeline.ended) <= RECALL_SECONDS
    assert max(one.patient for one in timeline.ended) <= RECALL_SECONDS + PATIENCE_SECONDS + LONGEST_CALL_SECONDS
    assert all(timeline.account(name).held == 0 for name in timeline.accounts)


def one_that_keeps_busy(timeline: Timeline, limit: Limit, seconds: int = 2) -> None:
    """The first holder has so many requests that it keeps a lease for more of them."""
    for number in range(20 * seconds):
        timeline.come(number / 20, 0, timeline.request(300, 100, limit, percent=1))


def one_that_wants_half_of_what_it_leased_ahead(timeline: Timeline, limit: Limit) -> None:
    """Now, at the second holder; and all that is free at the authority."""
    account = account_of(limit)
    leased_ahead = timeline.free(account)["g0"]
    assert leased_ahead > 1000
    free = 40_000 - timeline.account(account).spent - leased_ahead
    timeline.come(timeline.mono, 1, timeline.request(free, leased_ahead // 2, limit))


def none_is_told(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Recalls, "news", lambda _: frozenset())


def none_listens(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Desk, "recalled", lambda *_: None)


@pytest.mark.parametrize("plant", [None, none_is_told, none_listens])
def test_a_caller_gets_what_a_busy_holder_has_leased_ahead(
    plant: Callable[[pytest.MonkeyPatch], None] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if plant is not None:
        plant(monkeypatch)
    limit = sized("team", 40_000)
    timeline = Timeline([limit], 2)
    one_that_keeps_busy(timeline, limit)
    timeline.run(until=2.0)
    one_that_wants_half_of_what_it_leased_ahead(timeline, limit)
    timeline.run(until=2.9)
    last = timeline.ended[-1].outcome if timeline.ended[-1].member == "g1" else None
    assert isinstance(last, Hold) == (plant is None)


def another_authority_is_not_told(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Recalls, "posting", lambda *_: Posting())


def another_authority_does_not_look(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Recalls, "looked", lambda *_: None)


@pytest.mark.parametrize(
    "plant", [None, none_is_told, none_listens, another_authority_is_not_told, another_authority_does_not_look]
)
@pytest.mark.parametrize("seed", range(5))
def test_a_caller_gets_what_a_busy_holder_of_another_authority_has_leased_ahead(
    plant: Callable[[pytest.MonkeyPatch], None] | None, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if plant is not None:
        plant(monkeypatch)
    limit = sized("team", 40_000)
    timeline = Timeline([limit], 2, seed, authorities=2)
    one_that_keeps_busy(timeline, limit, seconds=6)
    timeline.run(until=2.0)
    one_that_wants_half_of_what_it_leased_ahead(timeline, limit)
    timeline.run(until=6.0)
    (ended,) = [one for one in timeline.ended if one.member == "g1"]
    assert isinstance(ended.outcome, Hold) == (plant is None)
    assert (ended.idle <= RECALL_SECONDS) == (plant is None)


def test_where_holders_of_another_authority_have_nothing_left_over_a_caller_is_refused_before_the_recall_time_is_over() -> (
    None
):
    limit = sized("team", 1000)
    timeline = Timeline([limit], 2, authorities=2)
    timeline.come(0.0, 0, timeline.request(300, 300, limit, seconds=20.0))
    timeline.come(1.0, 1, timeline.request(300, 300, limit))
    timeline.run(until=5.0)
    assert isinstance(timeline.ended[-1].outcome, Refused)
    assert timeline.ended[-1].at < 1.0 + RECALL_SECONDS
    assert timeline.board.until == {}


@pytest.mark.parametrize("dies_at", [0.9, 1.1, 1.3, 1.5])
def test_for_the_holders_of_an_authority_that_died_callers_wait_no_longer_than_the_recall_time(dies_at: float) -> None:
    limit = sized("team", 1000)
    timeline = Timeline([limit], 4, authorities=2)
    timeline.come(0.0, 0, timeline.request(300, 300, limit, seconds=60.0))
    for number in range(20):
        timeline.come(1.0 + number / 4, 1 + number % 2 * 2, timeline.request(300, 300, limit))
    timeline.run(until=dies_at)
    timeline.offices[0].dead = True
    timeline.run(until=20.0)
    refused = [one for one in timeline.ended if isinstance(one.outcome, Refused)]
    assert len(refused) == 20
    # The last call waits for one that is under way.
    longest = RECALL_SECONDS + PATIENCE_SECONDS + 2 * LONGEST_CALL_SECONDS
    assert RECALL_SECONDS <= max(one.patient for one in refused) <= longest
    assert len(timeline.board.until) == 1


def loans_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(loans, "lent_elsewhere", lambda *_: {})


@pytest.mark.parametrize("plant", [None, loans_are_forgotten, none_is_told, none_listens])
@pytest.mark.parametrize(("authorities", "holders"), [(1, 1), (1, 2), (2, 2)])
def test_a_caller_gets_the_loan_that_stands_for_what_a_sibling_has_left_over(
    plant: Callable[[pytest.MonkeyPatch], None] | None,
    authorities: int,
    holders: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may lie at the same holder, which does not know what it stands for."""
    if plant is not None:
        plant(monkeypatch)
    in_force = policy_of(
        of_tenant("top", 100_000, lending=4000), *(of_tenant(name, 0, borrowing=4000) for name in ("one", "two"))
    )
    top, one, two = in_force.limits
    timeline = Timeline(in_force.limits, holders, authorities=authorities, in_force=in_force)
    for number in range(70):
        seconds = 0.5 if number < 10 else 0.0  # many at once, and then few that keep busy what these left over
        timeline.come(number / 20, 0, timeline.request(300, 100, one, top, seconds=seconds, percent=1))
    timeline.run(until=1.1)
    assert timeline.account(account_of(top)).lent > 3000
    assert timeline.free(account_of(one))["g0"] > 2000
    timeline.come(1.1, holders - 1, timeline.request(1000, 500, two, top))
    timeline.run(until=4.0)
    (ended,) = [one for one in timeline.ended if not isinstance(one.outcome, Hold) or one.outcome.output_limit == 500]
    assert isinstance(ended.outcome, Hold) == (plant is None)


@settings(max_examples=30, deadline=None)
@given(
    authorities=st.sampled_from([1, 2]), holders=st.integers(1, 4), top=st.integers(1000, 8000), lending=st.integers(500, 4000),
    own=st.integers(0, 1000), seed=st.integers(0, 10**6),
    callers=st.lists(
        st.tuples(
            st.floats(0, 12), st.integers(0, 3), st.integers(1, 400), st.integers(16, 600), st.booleans(),
            st.sampled_from([0.0, 0.3, 2.0, 8.0]), st.sampled_from([0, 5, 20, 100]), st.booleans(),
        ), min_size=20, max_size=50,
    ),
)  # fmt: skip
def test_no_caller_is_refused_while_a_loan_has_stood_for_leftovers_for_longer_than_the_recall_time(
    authorities: int, holders: int, top: int, lending: int, own: int, seed: int,
    callers: list[tuple[float, int, int, int, bool, float, int, bool]],
) -> None:  # fmt: skip
    borrowers = (of_tenant(name, own, borrowing=4000) for name in ("one", "two"))
    in_force = policy_of(of_tenant("top", top, lending=lending), *borrowers)
    lender, *below = in_force.limits
    timeline = Timeline(in_force.limits, holders, seed, authorities=authorities, in_force=in_force)
    for at, which, prompt, output, first, seconds, percent, lower in callers:
        request = timeline.request(prompt, output, below[first], lender, seconds=seconds, percent=percent, lower=lower)
        timeline.come(at, which % holders, request)
    timeline.run(until=30.0)
    assert len(timeline.ended) == len(callers)
    assert max(one.idle for one in timeline.ended) <= RECALL_SECONDS
    assert all(timeline.account(name).held == 0 for name in timeline.accounts)
    borrowed = sum(timeline.account(account_of(one)).borrowed for one in below)
    assert timeline.account(account_of(lender)).lent == borrowed <= lending


def test_a_loan_that_is_spent_comes_back_from_nobody_and_who_lacks_it_is_refused_at_once() -> None:
    in_force = policy_of(
        of_tenant("top", 100_000, lending=4000), *(of_tenant(name, 0, borrowing=4000) for name in ("one", "two"))
    )
    top, one, two = in_force.limits
    timeline = Timeline(in_force.limits, 2, in_force=in_force)
    timeline.come(0.0, 0, timeline.request(3000, 900, one, top))
    timeline.run(until=4.0)
    timeline.come(4.0, 1, timeline.request(1000, 500, two, top))
    timeline.run(until=6.0)
    ended = timeline.ended[-1]
    assert isinstance(ended.outcome, Refused)
    assert [refusal.reason for refusal in ended.outcome.refusals] == [Reason.USED_UP]
    assert ended.at - 4.0 <= LONGEST_CALL_SECONDS


def test_what_stands_for_requests_in_flight_is_not_recalled() -> None:
    limit = sized("team", 1000)
    timeline = Timeline([limit], 2)
    timeline.come(0.0, 0, timeline.request(300, 300, limit, seconds=20.0))
    timeline.come(1.0, 1, timeline.request(300, 300, limit))
    timeline.run(until=5.0)
    assert timeline.work.lease("g0", account_of(limit)).outstanding == 600
    assert isinstance(timeline.ended[-1].outcome, Refused)


def test_who_is_told_that_others_are_short_calls_no_more_than_a_few_times_for_each_recall() -> None:
    limit = sized("team", 1000)
    timeline = Timeline([limit], 20)
    for number in range(20):
        timeline.come(0.0, number, timeline.request(1, 30, limit, seconds=60.0))
    timeline.run(until=5.0)
    before = [one.calls for one in timeline.members]
    for number in range(100):
        timeline.come(5.0 + number / 10, 0, timeline.request(300, 200, limit))
    timeline.run(until=15.0)
    rounds = 10.0 / RECALL_SECONDS + 1
    assert max(one.calls - had for one, had in list(zip(timeline.members, before, strict=True))[1:]) <= rounds


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 6), st.integers(1, 40), st.lists(st.integers(0, 5), min_size=40, max_size=40))
def test_many_holders_use_a_quota_to_its_last_request(holders: int, cap: int, order: list[int]) -> None:
    """Near the cap leases shrink down to single holds: each request that fits is let in, whoever it comes to."""
    limit = sized("requests", cap, Unit.REQUESTS)
    timeline = Timeline([limit], holders, seed=cap)
    for number, which in enumerate(order):
        timeline.come(number * 0.7, which % holders, timeline.request(1, 1, limit, seconds=0.3))
    timeline.run(until=60.0)
    assert [isinstance(one.outcome, Hold) for one in timeline.ended] == [number < cap for number in range(40)]


@settings(max_examples=10, deadline=None)
@given(st.integers(2, 6), st.lists(st.tuples(st.floats(0, 4), st.integers(0, 5)), min_size=1, max_size=60), st.data())
def test_with_less_left_than_16_units_no_holder_has_more_than_its_holds(
    holders: int, callers: list[tuple[float, int]], data: st.DataObject
) -> None:
    limit = sized("requests", 15, Unit.REQUESTS)
    timeline = Timeline([limit], holders, data.draw(st.integers(0, 10**6)))
    for at, which in callers:
        timeline.come(at, which % holders, timeline.request(1, 1, limit, seconds=10.0))
    timeline.run(until=9.0)
    assert sum(timeline.free(account_of(limit)).values()) == 0
    assert timeline.account(account_of(limit)).held == min(15, len(callers))
