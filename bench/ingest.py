"""How fast usage is booked: durable, chained, with rollups, each row charged to the four accounts of a tree of tenants.

Reports of 500 rows come from 16 holders through the ledger's own writer; each holder sends its next when its last one is
answered, which is after its commit. Records are made before the clock starts. The peer is the floor: the same requests, a row
each with its id unique, by `executemany` or `COPY`, as many in a commit, without accounts, chain or rollups.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from datetime import timedelta
from functools import partial
from pathlib import Path
from random import Random
from threading import Event

from bench import floor
from bench.rows import Row, at_least
from bench.tree import NOW, Tree
from bench.workspace import Workspace, settled, writing
from tollkeeper.counters import Counters, Tally, tally_of
from tollkeeper.identity import new_id
from tollkeeper.leases import LeaseRequest, Want
from tollkeeper.usage import Buckets, Caller, Charge, Outcome, UsageRecord
from tollkeeper_ledger import bookkeeping
from tollkeeper_ledger.storage import LedgerAt
from tollkeeper_ledger.writer import LedgerWriter
from tollkeeper_sidecar.spool_format import used_line

HOLDERS = 16
ROWS = 500
REPORTS = 3
"""Of each holder, in a run."""

LONGEST_SECONDS = 120.0
GOALS = {"SQLite": 60_000, "PostgreSQL": 20_000}
TREE = Tree(HOLDERS)

Report = tuple[list[UsageRecord], Counters]


def report(holder: int, number: int, name: str, tree: Tree = TREE) -> list[UsageRecord]:
    """What one gateway reports: 20 users in sessions of about ten requests, five models, two features."""
    random = Random(number * HOLDERS + holder)  # noqa: S311 - not for secrets
    accounts = tree.path(holder)
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


def _settled(records: list[UsageRecord]) -> list[UsageRecord]:
    """As they come to the authority: the spool wrote each as text, which the record keeps and the chain takes over."""
    for record in records:
        used_line(record)
    return records


def _reports_of(holder: int, count: int) -> Sequence[Report]:
    """So many reports of a gateway, each with all that it has settled by then."""
    made = list[Report]()
    settled_by_then = Tally()
    for number in range(count):
        records = _settled(report(holder, number, _name(holder)))
        settled_by_then = settled_by_then.plus(tally_of(records))
        made.append((records, settled_by_then.settled_by(_name(holder))))
    return made


def _name(holder: int) -> str:
    return f"gateway-{holder}"


def rows_per_second(ledger: LedgerAt, reports: int) -> float:
    """Book so many reports of each holder; rows a second from the first submitted to the last durable."""
    with writing(ledger) as writer:
        for holder in range(HOLDERS):
            wants = tuple(Want(account, 10**14, 10**14) for account in TREE.path(holder))
            asked = LeaseRequest(_name(holder), 1, wants)
            step = partial(bookkeeping.lease, policy=TREE.policy, request=asked, now=NOW, expires=NOW)
            writer.submit(step).result(30)
        prepared = [_reports_of(holder, reports) for holder in range(HOLDERS)]
        with settled():
            return reports * HOLDERS * ROWS / _seconds_of(writer, prepared)


def _seconds_of(writer: LedgerWriter, prepared: Sequence[Sequence[Report]]) -> float:
    """How long it takes until the last report of all holders is durable."""
    done, left = Event(), len(prepared)

    def send(coming: Iterator[Report]) -> None:
        nonlocal left
        if (following := next(coming, None)) is not None:
            records, counters = following
            step = partial(bookkeeping.report, policy=TREE.policy, records=records, now=NOW, counters=counters)
            booked = writer.submit(step)
            booked.add_done_callback(lambda future: answered(coming, future))
            return
        left -= 1
        if not left:
            done.set()

    def answered(coming: Iterator[Report], future: Future[None]) -> None:
        future.result()
        send(coming)

    began = time.perf_counter()
    for reports in prepared:
        send(iter(reports))
    if not done.wait(LONGEST_SECONDS):
        raise RuntimeError("reports were not booked: nothing is measured")
    return time.perf_counter() - began


def plain_rows_per_second(ledger: LedgerAt, reports: int) -> float:
    """The same by plain insertion."""
    batches = [
        [floor.row(one) for holder in range(HOLDERS) for one in report(holder, number, _name(holder))]
        for number in range(reports)
    ]
    insert: Callable[[floor.Batches], float]
    insert = floor.on_sqlite(ledger) if isinstance(ledger, Path) else floor.on_postgres(ledger.dsn)
    with settled():
        return sum(map(len, batches)) / insert(batches)


def _on_a_new_one(measure: Callable[[LedgerAt, int], float], new_ledger: Callable[[], LedgerAt], reports: int) -> float:
    return measure(new_ledger(), reports)


def rows(place: Workspace) -> Iterator[Row]:
    """Rows a second on each storage, and the floor beside them."""
    reports = place.size(REPORTS, 1)
    for storage, new_ledger in place.storages().items():
        both = (rows_per_second, plain_rows_per_second)
        ours, plain = place.medians(*(partial(_on_a_new_one, measure, new_ledger, reports) for measure in both))
        peer = "executemany" if storage == "SQLite" else "COPY"
        yield Row(
            f"usage rows booked, {storage}",
            ours,
            "rows/s",
            f"plain {peer} of the requests",
            plain,
            at_least(GOALS[storage]),
        )
