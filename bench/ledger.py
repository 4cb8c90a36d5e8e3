"""How fast usage is booked: durable, chained, with rollups, each row charged to the four accounts of a tree of tenants.

Reports of 500 rows come from 16 holders, as many at once as there are holders, through the ledger's own writer. Records
are made before the clock starts; reports are answered after their commit. The machine's own rate of syncs is told beside.
"""

import argparse
import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from tests.postgres_server import running

from tollkeeper.amounts import Unit
from tollkeeper.identity import new_id
from tollkeeper.leases import LeaseRequest, Want
from tollkeeper.limits import Limit, LimitRef
from tollkeeper.policy import PolicySet
from tollkeeper.prices import PriceList
from tollkeeper.usage import Buckets, Caller, Charge, Outcome, UsageRecord
from tollkeeper.windows import Calendar, Every
from tollkeeper_ledger import bookkeeping
from tollkeeper_ledger.storage import LedgerAt, PostgresLedger, open_store
from tollkeeper_ledger.writer import LedgerWriter

HOLDERS = 16
ROWS = 500
RUNS = 3

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
CALENDAR = Calendar.every(Every.MONTH, "UTC")
LARGE = 10**16


def limit(name: str) -> Limit:
    """A budget of one tenant, large enough for a whole run."""
    ref = LimitRef("TokenBudget", name, "monthly")
    return Limit(ref=ref, tenants=frozenset({name}), unit=Unit.USD, calendar=CALENDAR, allocation=LARGE)


LEVELS = [
    [limit("org")] * HOLDERS,
    [limit(f"department-{n // 4}") for n in range(HOLDERS)],
    [limit(f"team-{n // 2}") for n in range(HOLDERS)],
    [limit(f"project-{n}") for n in range(HOLDERS)],
]
POLICY = PolicySet(1, {}, tuple({one.ref: one for level in LEVELS for one in level}.values()), PriceList.bundled())


def path(holder: int) -> tuple[str, ...]:
    """The four accounts that a holder's requests are charged to."""
    return tuple(level[holder].account_at((), NOW)[0].text for level in LEVELS)


def report(holder: int, number: int, name: str) -> list[UsageRecord]:
    """What one gateway reports: 20 users in sessions of about ten requests, five models, two features."""
    random = Random(number * HOLDERS + holder)  # noqa: S311 - not for secrets
    accounts = path(holder)
    begin = NOW + timedelta(seconds=number)
    callers = [
        Caller(
            f"project-{holder}", f"user-{random.randrange(20)}", f"feature-{n % 2}", "helper", f"session-{number}-{n}"
        )
        for n in range(ROWS // 10)
    ]
    records = []
    for row in range(ROWS):
        cost = random.randrange(10**5, 10**7)
        at = begin + timedelta(milliseconds=2 * row)
        records.append(
            UsageRecord(
                id=new_id(),
                upstream_id=f"chatcmpl-{number}-{row}",
                holder=name,
                caller=random.choice(callers),
                provider="openai",
                model=f"model-{row % 5}",
                tool=None,
                buckets=Buckets(input=random.randrange(5000), output=random.randrange(500)),
                cost=cost,
                price="openai/gpt-5@bench",
                admitted_at=at,
                finished_at=at + timedelta(seconds=1),
                status=200 if row % 50 else 429,
                outcome=Outcome.OK,
                streamed=False,
                estimated=False,
                charges=tuple(Charge(account, cost, cost + 1000) for account in accounts),
            )
        )
    return records


def rows_per_second(ledger: LedgerAt, reports: int) -> float:
    """Book so many reports of each holder; rows a second from the first submitted to the last durable."""
    writer = LedgerWriter(open_store(ledger), lambda _: None)
    names = [f"gateway-{holder}" for holder in range(HOLDERS)]
    for holder, name in enumerate(names):
        wants = tuple(Want(account, 10**14, 10**14) for account in path(holder))
        asked = LeaseRequest(name, 1, wants)
        writer.submit(lambda work, asked=asked: bookkeeping.lease(work, POLICY, asked, NOW, NOW)).result(30)
    prepared = [[report(holder, number, name) for holder, name in enumerate(names)] for number in range(reports)]
    # In life they come one after the other: what waits here must not be looked through by the collector again and again.
    gc.collect()
    gc.freeze()
    begun = time.perf_counter()
    waiting = [
        writer.submit(lambda work, records=records: bookkeeping.charge_all(work, POLICY, records, NOW))
        for at_once in prepared
        for records in at_once
    ]
    for future in waiting:
        future.result(60)
    taken = time.perf_counter() - begun
    writer.close()
    gc.unfreeze()
    return reports * HOLDERS * ROWS / taken


def syncs_per_second(folder: Path) -> float:
    """How often this folder's disk makes 4 KiB durable."""
    with (folder / "sync").open("wb", buffering=0) as file:
        begun, count = time.perf_counter(), 0
        while time.perf_counter() - begun < 0.3:
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            count += 1
    return count / 0.3


@contextmanager
def storages(wanted: set[str]) -> Iterator[dict[str, Callable[[], LedgerAt]]]:
    """An empty ledger on each storage that is wanted."""
    with tempfile.TemporaryDirectory() as folder:
        print(f"syncs/s: {syncs_per_second(Path(folder)):,.0f}")
        found: dict[str, Callable[[], LedgerAt]] = {}
        if "sqlite" in wanted:
            found["sqlite"] = lambda: Path(folder) / f"{new_id()}.db"
        if "postgres" not in wanted:
            yield found
            return
        with running() as server:
            yield found | {"postgres": lambda: PostgresLedger(server.new_database())}


def main() -> None:
    """Print rows a second of each storage: the median, and all runs."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("storage", nargs="*", default=["sqlite", "postgres"])
    arguments.add_argument("--reports", type=int, default=3, help="of each holder")
    arguments.add_argument("--runs", type=int, default=RUNS)
    asked = arguments.parse_args()
    with storages(set(asked.storage)) as found:
        for name, new_ledger in found.items():
            rates = [rows_per_second(new_ledger(), asked.reports) for _ in range(asked.runs)]
            told = ", ".join(f"{rate:,.0f}" for rate in rates)
            print(f"{name}: {statistics.median(rates):,.0f} rows/s ({told})")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
