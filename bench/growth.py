"""How the work of a fixed batch grows with the accounts that a ledger has: it should not.

In a batch each of 16 holders leases for 16 users of eight teams of a department, and reports 48 of their requests. Department,
teams and users are others in every batch, chosen from the whole ledger. Draws `docs/pictures/growth.svg`.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from bench.populate import Users, wants_of
from bench.rows import Row, at_most
from bench.tree import NOW
from bench.workspace import Workspace, settled, writing
from tollkeeper.identity import new_id
from tollkeeper.leases import LEASE_TIME, LeaseRequest
from tollkeeper.usage import Buckets, Caller, Charge, Outcome, UsageRecord
from tollkeeper_ledger import bookkeeping
from tollkeeper_ledger.writer import LedgerWriter

SIZES = (1_000, 10_000, 100_000)
HOLDERS, TEAMS, OF_A_TEAM, REQUESTS = 16, 8, 2, 3
HOLDERS_OF = 100
"""So many accounts of the ledger have a holder."""

BATCHES = 15
PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "growth.svg"


class Batch:
    """Batches of the same size, on users who are others each time of a ledger."""

    def __init__(self, users: Users) -> None:
        self._users = users
        self._random = Random(3)  # noqa: S311 - not for secrets
        self._done = 0
        self._start = new_id()

    def steps(self) -> list[Callable[[Any], object]]:
        """The steps of the next batch."""
        self._done += 1
        policy, steps = self._users.policy, list[Callable[[Any], object]]()
        department = self._random.choice(self._users.departments)
        teams = self._random.sample(department, TEAMS)
        for holder in range(HOLDERS):
            chosen = [user for team in teams for user in self._random.sample(self._users.of_team(team), OF_A_TEAM)]
            name = f"{self._start}-{holder}"
            request = LeaseRequest(name, self._done, wants_of(self._users, chosen))
            records = [self._record(name, number, user) for number, user in enumerate(chosen * REQUESTS)]
            expires = NOW + LEASE_TIME
            steps.append(partial(bookkeeping.lease, policy=policy, request=request, now=NOW, expires=expires))
            steps.append(partial(bookkeeping.charge_all, policy=policy, records=records, now=NOW))
        return steps

    def _record(self, holder: str, number: int, user: int) -> UsageRecord:
        finished = NOW + timedelta(milliseconds=number)
        return UsageRecord(
            id=new_id(), upstream_id=None, holder=holder, caller=Caller("team", f"user-{user}"), provider="openai",
            model="model", tool=None, buckets=Buckets(input=100, output=10), cost=100, price="bench", admitted_at=NOW,
            finished_at=finished, status=200, outcome=Outcome.OK, streamed=False, estimated=False,
            charges=tuple(Charge(account, 100, 200) for account in self._users.path(user)),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Taken:
    """What a batch took: milliseconds until all of it was durable, and of the processor, which others on it do not change."""

    passed: float
    worked: float


def taken_by(writer: LedgerWriter, batch: Batch) -> Taken:
    """Run the next batch."""
    steps = batch.steps()
    with settled():
        began, worked = time.perf_counter(), time.process_time()
        for future in [writer.submit(step) for step in steps]:
            future.result(60)
        return Taken((time.perf_counter() - began) * 1000, (time.process_time() - worked) * 1000)


def measured(place: Workspace, accounts: int) -> Taken:
    """The medians over many batches on a ledger of so many accounts."""
    ledger = place.populated(accounts, max(1, accounts // HOLDERS_OF)).path
    with writing(ledger) as writer:
        batch = Batch(Users(accounts))
        for _ in range(2):
            taken_by(writer, batch)
        found = [taken_by(writer, batch) for _ in range(place.size(BATCHES, 3))]
    return Taken(statistics.median(one.passed for one in found), statistics.median(one.worked for one in found))


def rows(place: Workspace) -> Iterator[Row]:
    """A batch's time for each size, and how much it grew; the picture beside it."""
    found = {accounts: measured(place, accounts) for accounts in (SIZES[:2] if place.quick else SIZES)}
    for accounts, taken in found.items():
        yield Row(f"a batch of leases and reports, {accounts:,} accounts", taken.passed, "ms")
        yield Row(f"its processor time, {accounts:,} accounts", taken.worked, "ms")
    smallest, largest = min(found), max(found)
    between = f"{smallest:,} to {largest:,} accounts"
    yield Row(
        f"growth of that batch, {between}", found[largest].passed / found[smallest].passed, "times", goal=at_most(2)
    )
    grown = found[largest].worked / found[smallest].worked
    yield Row(f"growth of its processor time, {between}", grown, "times", goal=at_most(2))
    if not place.quick:
        draw({accounts: taken.worked for accounts, taken in found.items()}, PICTURE)


def draw(found: Mapping[int, float], path: Path) -> None:
    """The batch's processor time over the accounts."""
    import leather  # nothing else here needs it

    chart = leather.Chart("A fixed batch of leases and reports, by the ledger's accounts")
    chart.add_columns([(f"{accounts:,}", taken) for accounts, taken in found.items()], fill_color="#206bc4")
    chart.add_y_scale(0, max(found.values()) * 1.3)
    chart.add_x_axis(name="accounts")
    chart.add_y_axis(name="ms of the processor")
    chart.to_svg(str(path), width=720, height=320)
