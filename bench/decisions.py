"""What a decision costs in the gateway: holds taken out of leases of a tree of four levels, and given back.

Everything that the desk does for a request is in it: the hold, the settling, the rounds in which leases are asked for and
idle amounts return, and what a report's booking changes. 16 requests are in flight, a thousand begin each second. The
peer takes four hits of a fixed window in memory: its cheapest strategy, which neither checks all four first nor gives back.
"""

import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from limits import RateLimitItemPerMonth
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from bench.rows import Row, at_most
from bench.tree import LARGE, LEVELS, NOW, Tree
from bench.workspace import Workspace, settled
from tollkeeper.leases import LEASE_TIME, Granted, LeaseReply
from tollkeeper_sidecar.demand import Demand, HardAccounts, Hold, Tokens, demand_of
from tollkeeper_sidecar.desk import Desk
from tollkeeper_sidecar.waiting import Waiting

PROJECTS = 64
IN_FLIGHT = 16
TICK = 0.001
BOOKED_EVERY = 1000
EXPIRES = NOW + LEASE_TIME
MODEL = ("openai", "gpt-4o")
TOKENS = Tokens(prompt=2048, choices=1, unlimited_output=0)


def demands(tree: Tree) -> list[Demand]:
    """What a request of each project needs."""
    price = tree.policy.prices.find(*MODEL, NOW)
    return [
        demand_of(TOKENS, price, 256, 4096, HardAccounts(tree.bound(leaf)), lower=True) for leaf in range(tree.leaves)
    ]


def lease(desk: Desk, mono: float) -> None:
    """One round with an authority that grants everything at once."""
    request = desk.next_request(NOW, mono)
    if request is not None:
        granted = tuple(Granted(one.account, one.desired + one.ahead, EXPIRES) for one in request.wants)
        desk.answered(LeaseReply(granted), NOW, mono)


def held(desk: Desk, demand: Demand, mono: float) -> Hold:
    """A request's hold, after a call where it has to wait for one."""
    place = desk.arrive(demand, mono)
    if isinstance(place, Waiting):
        lease(desk, mono)
        desk.resolved.clear()
        return served(place)
    if desk.is_low:
        lease(desk, mono)
    return place


def served(waiting: Waiting) -> Hold:
    """The hold of a request that waited; a benchmark of refusals would be no benchmark."""
    if isinstance(waiting.outcome, Hold):
        return waiting.outcome
    raise RuntimeError(f"a request was not served: {waiting.outcome}")


def seconds_of(requests: int, wanted: list[Demand]) -> float:
    """How long so many requests take."""
    desk, mono, unbooked = Desk("gateway", 1024), 1.0, [0] * PROJECTS
    uses = [tuple(amount // 2 for amount in demand.full.each) for demand in wanted]
    flying = deque((held(desk, wanted[0], mono), 0) for _ in range(IN_FLIGHT))
    with settled():
        began = time.perf_counter()
        for number in range(requests):
            mono += TICK
            project = number % PROJECTS
            flying.append((held(desk, wanted[project], mono), project))
            hold, project = flying.popleft()
            desk.settle(hold, uses[project], mono)
            unbooked[project] += 1
            if number % BOOKED_EVERY == 0:
                lease(desk, mono)
                desk.pools.booked(booked(wanted, uses, unbooked))
                unbooked = [0] * PROJECTS
        return time.perf_counter() - began


def booked(wanted: Sequence[Demand], uses: Sequence[Sequence[int]], requests: Sequence[int]) -> Mapping[str, int]:
    """What a report of so many requests of each project has on each account."""
    found = Counter[str]()
    for demand, used, times in zip(wanted, uses, requests, strict=True):
        for account, amount in demand.hard.by_account(used).items():
            found[account] += amount * times
    return found


def seconds_of_demands(requests: int, tree: Tree) -> float:
    """How long it takes to say what so many requests need, and for the spool what that is by account.

    Their accounts are found once for each project, as the gateway finds them once for each target.
    """
    price, hard = tree.policy.prices.find(*MODEL, NOW), [HardAccounts(tree.bound(leaf)) for leaf in range(PROJECTS)]
    began = time.perf_counter()
    for number in range(requests):
        demand = demand_of(TOKENS, price, 256, 4096, hard[number % PROJECTS], lower=True)
        _ = demand.full.amounts
    return time.perf_counter() - began


def seconds_of_peer(requests: int, tree: Tree) -> float:
    """How long so many requests take the peer."""
    limiter, item = FixedWindowRateLimiter(MemoryStorage()), RateLimitItemPerMonth(LARGE)
    paths = [tree.path(leaf) for leaf in range(PROJECTS)]
    with settled():
        began = time.perf_counter()
        for number in range(requests):
            for account in paths[number % PROJECTS]:
                if not limiter.hit(item, account, cost=1000):
                    raise RuntimeError("the peer refused: nothing is measured")
        return time.perf_counter() - began


def rows(place: Workspace) -> Iterator[Row]:
    """Microseconds a request, a level of it, and what comes before."""
    tree, requests = Tree(PROJECTS), place.size(50_000, 5_000)
    wanted = demands(tree)
    seconds = place.medians(partial(seconds_of, requests, wanted), partial(seconds_of_peer, requests, tree))
    ours, peer = (one / requests * 1e6 for one in seconds)
    named = "limits, fixed window in memory, 4 hits"
    yield Row("local decision, a request", ours, "µs", named, peer, at_most(5))
    yield Row("local decision, a level", ours / LEVELS, "µs", f"{named}: one", peer / LEVELS, at_most(1))
    demand = place.median(partial(seconds_of_demands, requests, tree)) / requests * 1e6
    yield Row("what a request needs, before the decision", demand, "µs")
