"""Leases are sized by recent demand: what is kept for requests to come follows what was taken lately, up and down."""

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sidecar.builders import NOW, account_of, limit
from tests.sidecar.reference import ReferenceAuthority
from tests.sidecar.test_desk import demand
from tollkeeper.amounts import Unit
from tollkeeper_sidecar.demand import Hold
from tollkeeper_sidecar.desk import ROUND_SECONDS, Desk
from tollkeeper_sidecar.pools import REMEMBERED_ROUNDS
from tollkeeper_sidecar.waiting import Waiting

QUOTA = limit("tokens", 10**9, Unit.TOKENS)
ACCOUNT = account_of(QUOTA)
MEMORY = REMEMBERED_ROUNDS * ROUND_SECONDS


class Counter:
    """One desk with a steady clock; requests that come end at once."""

    def __init__(self) -> None:
        self.desk, self.authority = Desk("one", 1000), ReferenceAuthority([QUOTA])
        self.mono, self.calls, self.taken = 1000.0, 0, list[tuple[float, int]]()

    def take(self, tokens: int) -> None:
        place = self.desk.arrive(demand(tokens // 2, tokens - tokens // 2, QUOTA), self.mono)
        self.talk()
        hold = place.outcome if isinstance(place, Waiting) else place
        assert isinstance(hold, Hold)
        self.desk.settle(hold, hold.each, self.mono)
        self.desk.pools.booked(hold.amounts)
        self.authority.book_now("one", hold.amounts, NOW)
        self.taken.append((self.mono, hold.amounts[ACCOUNT]))

    def talk(self) -> None:
        while (request := self.desk.next_request(NOW, self.mono)) is not None:
            self.calls += 1
            self.desk.answered(self.authority.lease_now(request, NOW), NOW, self.mono)

    def wait(self, seconds: float) -> None:
        until = self.mono + seconds
        while (due := self.desk.next_due(self.mono)) is not None and self.mono + due <= until:
            self.mono += max(due, 0.001)
            self.talk()
        self.mono = until

    @property
    def free(self) -> int:
        return self.desk.pools.free(ACCOUNT)

    def taken_within(self, seconds: float) -> int:
        return sum(amount for at, amount in self.taken if at > self.mono - seconds)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(40, 5000), st.floats(0.01, 0.6)), min_size=1, max_size=60))
def test_what_is_kept_is_no_more_than_was_taken_lately(steps: list[tuple[int, float]]) -> None:
    counter = Counter()
    for tokens, pause in steps:
        counter.take(tokens)
        counter.wait(pause)
        # The oldest round is forgotten at the turn of one: what is kept then goes back with that turn's call.
        assert counter.free <= counter.taken_within(MEMORY + ROUND_SECONDS)
    counter.wait(MEMORY + ROUND_SECONDS)
    assert (counter.free, counter.authority.outstanding("one", ACCOUNT)) == (0, 0)


@settings(max_examples=20, deadline=None)
@given(st.integers(40, 4000), st.sampled_from([20, 50, 200]))
def test_calls_for_steady_demand_do_not_grow_with_its_requests(tokens: int, each_second: int) -> None:
    counter = Counter()
    for _ in range(2 * each_second):
        counter.take(tokens)
        counter.wait(1 / each_second)
    warm = counter.calls
    for _ in range(4 * each_second):
        counter.take(tokens)
        counter.wait(1 / each_second)
    # At most one that fills and one that returns in each round.
    assert counter.calls - warm <= 4 * 2 / ROUND_SECONDS


def test_demand_that_falls_takes_the_lease_down_with_it() -> None:
    counter = Counter()
    for _ in range(40):
        counter.take(2000)
        counter.wait(0.05)
    high = counter.free
    for _ in range(40):
        counter.take(100)
        counter.wait(0.05)
    assert high > 10_000
    assert counter.free <= counter.taken_within(MEMORY + ROUND_SECONDS) <= 40 * 100


def test_nothing_of_a_window_that_ended_is_kept() -> None:
    counter = Counter()
    for _ in range(40):
        counter.take(2000)
        counter.wait(0.05)
    counter.mono += ROUND_SECONDS
    request = counter.desk.next_request(NOW + timedelta(days=30), counter.mono)
    assert request is not None
    assert counter.free == 0
