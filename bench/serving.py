"""What a lease call is worth: how many a gateway makes, at different loads, for the requests that it admits.

A real desk over a real ledger, in time that is counted and not waited for: requests come at random moments, each takes two
seconds, an answer to a lease call ten milliseconds, usage is reported every second. What all lease calls of a storage then
admit stands beside the peer's calls, of which each request needs one.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from random import Random

from bench import grants
from bench.decisions import demands, served
from bench.rows import Row
from bench.tree import NOW, Tree
from bench.workspace import Workspace, writing
from tollkeeper.leases import LEASE_TIME, LeaseReply, LeaseRequest
from tollkeeper_ledger import bookkeeping
from tollkeeper_ledger.writer import LedgerWriter
from tollkeeper_sidecar.demand import Demand, Hold
from tollkeeper_sidecar.desk import Desk
from tollkeeper_sidecar.waiting import Waiting

RATES = (1, 100)
"""Requests a second of one gateway."""

TAKEN, ANSWER, REPORTED = 2.0, 0.01, 1.0
WARM = 10.0
"""Seconds that do not count: leases are found to their size."""


@dataclass(slots=True)
class Gateway:
    """A desk, and what is going to happen to it: moments, in order, with what to do then."""

    writer: LedgerWriter
    tree: Tree
    demand: Demand
    desk: Desk = field(default_factory=lambda: Desk("gateway", 1024))
    calls: int = 0
    served: int = 0
    _flying: list[tuple[float, int, Hold]] = field(default_factory=list)
    _reply: tuple[float, LeaseReply] | None = None
    _unbooked: dict[str, int] = field(default_factory=dict)

    def arrive(self, mono: float) -> None:
        """A request."""
        place = self.desk.arrive(self.demand, mono)
        if not isinstance(place, Waiting):
            self._begin(place, mono)

    def _begin(self, hold: Hold, mono: float) -> None:
        self.served += 1
        heapq.heappush(self._flying, (mono + TAKEN, self.served, hold))

    def until(self, mono: float) -> None:
        """All that happens up to a moment: requests end, an answer comes, and what is next is asked."""
        while self._flying and self._flying[0][0] <= mono:
            ended, _, hold = heapq.heappop(self._flying)
            used = tuple(amount // 2 for amount in hold.each)
            self.desk.settle(hold, used, ended)
            for account, amount in hold.hard.by_account(used).items():
                self._unbooked[account] = self._unbooked.get(account, 0) + amount
        if self._reply and self._reply[0] <= mono:
            self.desk.answered(self._reply[1], NOW + timedelta(seconds=mono), mono)
            self._reply = None
        for waiting in self.desk.resolved:
            self._begin(served(waiting), mono)
        self.desk.resolved.clear()
        if self._reply is None and (request := self.desk.next_request(NOW + timedelta(seconds=mono), mono)):
            self.calls += 1
            self._reply = mono + ANSWER, self._asked(request)

    def _asked(self, request: LeaseRequest) -> LeaseReply:
        expires = NOW + LEASE_TIME
        step = partial(bookkeeping.lease, policy=self.tree.policy, request=request, now=NOW, expires=expires)
        return self.writer.submit(step).result(30)

    def report(self) -> None:
        """What was used is booked."""
        self.desk.pools.booked(self._unbooked)
        self._unbooked.clear()


def calls_of(gateway: Gateway, rate: float, seconds: float) -> tuple[float, float]:
    """Lease calls a second, and requests for each of them."""
    random, mono, due, reported = Random(11), 1.0, 1.0, 1.0  # noqa: S311 - arrivals, no secrets
    warm, before = 1.0 + WARM, (0, 0)
    while mono < warm + seconds:
        if mono >= warm and before == (0, 0):
            before = gateway.calls, gateway.served
        while due <= mono:
            gateway.arrive(mono)
            due += random.expovariate(rate)
        gateway.until(mono)
        if mono >= reported:
            gateway.report()
            reported += REPORTED
        mono += ANSWER / 2
    calls, served = gateway.calls - before[0], gateway.served - before[1]
    return calls / seconds, served / max(1, calls)


def rows(place: Workspace) -> Iterator[Row]:
    """Lease calls of one gateway, and requests for each."""
    tree = Tree(1)
    for rate in RATES:
        with writing(place.storages()["SQLite"]()) as writer:
            gateway = Gateway(writer, tree, demands(tree)[0])
            calls, requests = calls_of(gateway, rate, place.size(60, 20))
        yield Row(f"lease calls of a gateway with {rate} requests/s", calls, "calls/s")
        yield Row(f"requests for each lease call, {rate} requests/s", requests, "requests")
        peer = grants.PEER, place.lease_calls.get(grants.PEER)
        for storage in sorted(place.storages().keys() & place.lease_calls.keys()):
            admitted = place.lease_calls[storage] * requests
            yield Row(f"requests that lease calls admit, {rate} requests/s, {storage}", admitted, "requests/s", *peer)
