"""Durable grants: 64 holders, each with one lease call under way, each call for the four accounts of its project.

The next call of a holder leaves when the last one's answer is there, which is after the commit that holds it; so batches
are as large as they really become. The peer does the same check-and-decrement on four counters in one script, with
`appendfsync always`, over 64 connections. As many requests wait on both sides: one at each holder and on each connection,
or 16. A Redis is asked for each of those, pipelined; a gateway asks once for all that wait at it, as `Desk` does, for each
account what they need together, and a check counts where all its levels got what they need.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from threading import Event

from bench import redis
from bench.rows import Row, at_least
from bench.tree import LEVELS, NOW, Tree
from bench.workspace import CannotMeasure, Workspace, settled, writing
from tollkeeper.leases import LEASE_TIME, LeaseReply, LeaseRequest, Want
from tollkeeper.policy import CurrentPolicy
from tollkeeper_ledger import bookkeeping
from tollkeeper_ledger.storage import LedgerAt
from tollkeeper_ledger.work import Work
from tollkeeper_ledger.writer import LedgerWriter
from tollkeeper_webhook.authority import LedgerAuthority

HOLDERS = 64
WAITING = 16
"""Requests that wait when a busy gateway asks, each of another project; and scripts under way on a connection."""
PEER = f"Redis, fsync always, script over 4 keys, {WAITING} under way on a connection"
UNHURRIED = "Redis, fsync always, script over 4 keys, one under way on a connection"
LONGEST_SECONDS = 60.0
NEED, AHEAD = 1000, 16_000
_EXPIRES = NOW + LEASE_TIME


@dataclass(slots=True)
class Holders:
    """64 gateways, as the authority hears of them."""

    writer: LedgerWriter
    requests: int = 1
    """How many requests each of their calls is for."""
    sequences: list[int] = field(default_factory=lambda: [0] * HOLDERS)
    names: list[str] = field(default_factory=lambda: [f"gateway-{holder}" for holder in range(HOLDERS)])
    tree: Tree = field(init=False)
    wants: list[tuple[Want, ...]] = field(init=False)

    def __post_init__(self) -> None:
        self.tree = Tree(HOLDERS * self.requests)
        # Gateways work out what they want on their own, as the peer's load does.
        self.wants = [wants_of(self.tree, holder, self.requests) for holder in range(HOLDERS)]

    def next_call(self, holder: int) -> LeaseRequest:
        """What a holder asks for next."""
        self.sequences[holder] += 1
        return LeaseRequest(self.names[holder], self.sequences[holder], self.wants[holder])

    def ask(self, holder: int) -> Future[LeaseReply]:
        """A holder's next call; its answer is durable."""
        return self.writer.submit(self.next_step(holder))

    def next_step(self, holder: int) -> Callable[[Work], LeaseReply]:
        """A holder's next call, as the ledger's writer takes it."""
        request, policy = self.next_call(holder), self.tree.policy
        return lambda work: bookkeeping.lease(work, policy, request, NOW, _EXPIRES)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A holder whose call is under way: its thread would be another process's, so its turn comes with the batch's."""

    number: int

    def cancelled(self) -> bool:
        """It never takes a call back."""
        return False


def wants_of(tree: Tree, holder: int, requests: int = 1) -> tuple[Want, ...]:
    """Something for the requests that wait, each of the holder's next project, and some ahead, on each level."""
    projects = range(holder * requests, (holder + 1) * requests)
    together = Counter(account for project in projects for account in tree.path(project))
    return tuple(Want(account, NEED, NEED * count, AHEAD) for account, count in together.items())


def check_all_granted(holders: Holders) -> None:
    """Every request that waited has got what it needs, on each of its levels: looked for when the clock has stopped."""
    for name, calls, wants in zip(holders.names, holders.sequences, holders.wants, strict=True):
        leases = holders.writer.submit(partial(_leases_of, holder=name)).result(LONGEST_SECONDS)
        if short := [want.account for want in wants if leases[want.account] < calls * want.desired]:
            raise RuntimeError(f"{name} was granted too little of {short[0]}, so nothing is measured")


def _leases_of(work: Work, holder: str) -> dict[str, int]:
    return {name: lease.outstanding for name, lease in work.leases_of(holder).items()}


def calls_per_second(holders: Holders, seconds: float) -> float:
    """How many calls are answered while every holder asks again as soon as it has its answer."""
    done, until, answered, asking = Event(), 0.0, 0, HOLDERS
    unlike: list[object] = []

    def again(batch: Sequence[tuple[Waiting, LeaseReply, BaseException | None]]) -> None:
        nonlocal answered, asking
        goes_on = time.perf_counter() < until
        for holder, reply, error in batch:
            if error is None and not reply.refused:
                answered += 1
            else:
                unlike.append(error or reply)
            if goes_on:
                holders.writer.enqueue(holders.next_step(holder.number), holder, again)
            else:
                asking -= 1
        if not asking:
            done.set()

    # The windows are opened before the clock starts: that happens once in each.
    for opened in [holders.ask(number) for number in range(HOLDERS)]:
        granted(opened.result(LONGEST_SECONDS))
    with settled():
        began = time.perf_counter()
        until = began + seconds
        for number in range(HOLDERS):
            holders.writer.enqueue(holders.next_step(number), Waiting(number), again)
        if not done.wait(LONGEST_SECONDS):
            raise RuntimeError("lease calls were not answered: nothing is measured")
        if unlike:
            raise RuntimeError(f"{len(unlike)} lease calls granted nothing, so nothing is measured: {unlike[0]}")
        rate = answered / (time.perf_counter() - began)
    check_all_granted(holders)
    return rate


def granted(reply: LeaseReply) -> tuple[object, ...]:
    """What was granted; a benchmark of refusals would be no benchmark."""
    if reply.refused:
        raise RuntimeError(f"a lease was refused: {reply.refused[0]}")
    return tuple(reply.granted)


def measured(place: Workspace) -> dict[str, float]:
    """Lease calls a second on each storage, and the peer's where there is one; measured once in a run."""
    if not place.lease_calls:
        with ExitStack() as stack:
            measures: dict[str, Callable[[], float]] = {}
            for storage, new_ledger in place.storages().items():
                for name, requests in ((storage, 1), (busy(storage), WAITING)):
                    holders = Holders(stack.enter_context(writing(new_ledger())), requests)
                    measures[name] = partial(calls_per_second, holders, place.size(3, 1))
            with suppress(CannotMeasure):
                server = stack.enter_context(redis.running(redis.programs(), place.folder))
                for name, pipelined in ((UNHURRIED, 1), (PEER, WAITING)):
                    calls = place.size(100_000, 20_000)
                    measures[name] = partial(server.calls_per_second, HOLDERS, pipelined, calls)
            place.lease_calls = dict(zip(measures, place.medians(*measures.values()), strict=True))
    return place.lease_calls


def busy(storage: str) -> str:
    """The name of the measurement with busy gateways."""
    return f"{storage}, {WAITING} requests a call"


async def through_the_authority(ledger: LedgerAt, seconds: float) -> float:
    """The same calls as the gateway makes them, on the authority's own event loop."""
    tree, answered = Tree(HOLDERS), 0
    async with LedgerAuthority(ledger, CurrentPolicy(tree.policy), lambda: NOW) as authority:

        async def holder(number: int) -> None:
            nonlocal answered
            sequence = 0
            while time.perf_counter() < until:
                sequence += 1
                asked = LeaseRequest(f"gateway-{number}", sequence, wants_of(tree, number))
                reply = await authority.lease(asked)
                answered += len(granted(reply)) == LEVELS

        with settled():
            began = time.perf_counter()
            until = began + seconds
            await asyncio.gather(*(holder(number) for number in range(HOLDERS)))
            return answered / (time.perf_counter() - began)


def _through_a_new_one(new_ledger: Callable[[], LedgerAt], seconds: float) -> float:
    return asyncio.run(through_the_authority(new_ledger(), seconds))


def rows(place: Workspace) -> Iterator[Row]:
    """Calls, grants and checks a second on each storage."""
    found = measured(place)
    for storage, new_ledger in place.storages().items():
        # With pipelining is how a Redis is asked by whoever has many requests, and what ours is to keep up with.
        # Both readings of "grants" have their goal on PostgreSQL: of one account each, and of all four levels at once.
        goal, of_grants = (at_least(), None) if storage == "SQLite" else (at_least(50_000),) * 2
        calls, checks = found[storage], found[busy(storage)] * WAITING
        yield Row(f"lease calls of 4 levels, {storage}", calls, "calls/s", *_redis(found, UNHURRIED))
        yield Row(f"grants (one account each), {storage}", calls * LEVELS, "grants/s", goal=of_grants)
        name = f"checks of 4 levels, {WAITING} requests wait at each holder, {storage}"
        yield Row(name, checks, "checks/s", *_redis(found, PEER), goal)
        looped = place.median(partial(_through_a_new_one, new_ledger, place.size(3, 1)))
        yield Row(f"lease calls through the authority's event loop, {storage}", looped, "calls/s")


def _redis(found: Mapping[str, float], load: str) -> tuple[str, float | None]:
    """The peer under a load, or how to get it."""
    return (load, found[load]) if load in found else (f"Redis is not here: {redis.REMEDY}", None)
