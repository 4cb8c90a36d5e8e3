"""Leases are sized by recent demand: what is kept for requests to come follows what was taken lately, up and down."""

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sidecar.builders import NOW, account_of, limit
from tests.sidecar.desks import bound_to, demand
from tests.sidecar.reference import ReferenceAuthority
from tollkeeper.amounts import Unit
from tollkeeper_sidecar.demand import AccountNeed, HardAccounts, Hold
from tollkeeper_sidecar.desk import ROUND_SECONDS, Desk
from tollkeeper_sidecar.pools import MOST_PATHS, REMEMBERED_ROUNDS, Pools
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


def pools_with(free: dict[str, int]) -> tuple[Pools, HardAccounts]:
    """Pools of so much each, of limits that all count tokens."""
    limits = [limit(name, 10**9, Unit.TOKENS) for name in free]
    hard = HardAccounts([bound_to(one) for one in limits])
    pools = Pools()
    for one, amount in zip(limits, free.values(), strict=True):
        account, bound = bound_to(one)
        pools.opened(AccountNeed(account, bound, 0, 0))
        pools.grant(account, amount)
    return pools, hard


@given(st.lists(st.integers(0, 100), min_size=1, max_size=4), st.lists(st.integers(0, 100), min_size=1, max_size=8))
def test_a_hold_is_taken_from_all_of_its_accounts_or_changes_nothing(free: list[int], amounts: list[int]) -> None:
    pools, hard = pools_with({f"limit-{number}": amount for number, amount in enumerate(free)})
    left, taken, low = min(free), 0, set[str]()
    for amount in amounts:
        fits = amount <= left
        assert pools.take_in_full(Hold(16, hard, (amount,))) is fits
        left, taken = (left - amount, taken + amount) if fits else (left, taken)
        at = {account: leased for (account, _), leased in zip(hard.places, free, strict=True)}
        if fits:
            low |= {account for account, leased in at.items() if leased - taken < taken // 4}
        assert {account: (pool.free, pool.held, pool.demand) for account, pool in pools} == {
            account: (leased - taken, taken, taken) for account, leased in at.items()
        }
        assert pools.low == low


def test_what_a_request_used_counts_in_the_pool_that_its_account_has_when_it_ends() -> None:
    pools, hard = pools_with({"tokens": 0})
    ((account, bound),) = hard.bound
    hold = Hold(16, hard, (0,))
    assert pools.take_in_full(hold)
    pools.next_round(NOW)
    assert pools.of(account) is None
    assert not pools.take_in_full(hold)
    pool = pools.opened(AccountNeed(account, bound, 0, 0))
    pools.grant(account, 10)
    pools.settle(hold, (3,))
    assert (pool.free, pool.held, pool.unreported, pool.outstanding) == (7, 0, 3, 10)


def test_an_account_that_is_forgotten_when_its_request_ends_stays_so() -> None:
    pools, hard = pools_with({"one": 0})
    more, both = pools_with({"one": 0, "two": 50})
    assert pools.take_in_full(Hold(16, hard, (0,)))
    assert more.take_in_full(Hold(16, both, (0,)))
    for each in (pools, more):
        each.next_round(NOW)
    pools.settle(Hold(16, hard, (0,)), (3,))
    more.settle(Hold(16, both, (0,)), (3,))
    assert dict(pools) == {}
    assert {account: (pool.free, pool.unreported) for account, pool in more} == {both.places[1][0]: (47, 3)}


def test_the_pools_of_no_more_than_so_many_targets_are_at_hand() -> None:
    pools, hard = pools_with({"tokens": 10**6})
    for _ in range(MOST_PATHS + 10):
        assert pools.take_in_full(Hold(16, HardAccounts(hard.bound), (1,)))
        assert len(pools._paths) <= MOST_PATHS
    assert pools.free(hard.places[0][0]) == 10**6 - MOST_PATHS - 10
