"""How long a lease call takes at half the load that a storage bears.

Calls come at random moments that do not wait for answers, and each is measured from the moment at which it was due: a
stall counts for every call that it holds up.
"""

import statistics
import time
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from random import Random
from threading import Event

from bench import grants
from bench.grants import HOLDERS, Holders
from bench.rows import Row, at_most
from bench.workspace import Workspace, percentile, settled, writing
from tollkeeper.leases import LeaseReply

PERCENTILES = (0.5, 0.99)


def latencies(holders: Holders, rate: float, seconds: float) -> list[float]:
    """Seconds from when each call was due to when its answer was there."""
    random, found, done = Random(7), list[float](), Event()  # noqa: S311 - arrivals, no secrets
    count = int(rate * seconds)

    def answered(due: float, future: Future[LeaseReply]) -> None:
        grants.granted(future.result())
        found.append(time.perf_counter() - due)
        if len(found) == count:
            done.set()

    with settled():
        due = time.perf_counter()
        for number in range(count):
            due += random.expovariate(rate)
            if (early := due - time.perf_counter()) > 0:
                time.sleep(early)
            holders.ask(number % HOLDERS).add_done_callback(partial(answered, due))
        if not done.wait(grants.LONGEST_SECONDS):
            raise RuntimeError("lease calls were not answered: nothing is measured")
    return found


def rows(place: Workspace) -> Iterator[Row]:
    """The median and the 99th percentile on each storage."""
    for storage, new_ledger in place.storages().items():
        rate = grants.measured(place)[storage] / 2
        with writing(new_ledger()) as writer:
            holders = Holders(writer)
            latencies(holders, rate, 1)
            found = [latencies(holders, rate, place.size(4, 1)) for _ in range(place.runs)]
        for share in PERCENTILES:
            middle = statistics.median(percentile(run, share) * 1000 for run in found)
            name = f"lease call at half the load, {storage}: p{share * 100:.0f}"
            yield Row(name, middle, "ms", goal=at_most(20) if share == max(PERCENTILES) else None)
