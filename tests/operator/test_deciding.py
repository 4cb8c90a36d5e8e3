"""Deciding: what a pass costs follows from what changed, not from how much there is."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.operator.conftest import SETTINGS, Clock, Running
from tests.operator.test_reconciling import DOLLAR, budget, tenant

from tollkeeper.counters import Tally
from tollkeeper.notices import Notice, Reason
from tollkeeper.policy import CurrentPolicy, PolicySet
from tollkeeper.prices import PriceList
from tollkeeper.problems import ObjectRef
from tollkeeper_kube import Kube
from tollkeeper_kube.kinds import NAMESPACE
from tollkeeper_operator.balances import Balances
from tollkeeper_operator.decisions import Decisions
from tollkeeper_operator.event_log import BURST, EventLog
from tollkeeper_operator.feed import Change, Feed
from tollkeeper_operator.gathered import gather
from tollkeeper_operator.grant_desk import GrantDesk
from tollkeeper_operator.metrics import Metrics
from tollkeeper_operator.schedule import Schedule
from tollkeeper_operator.threshold_events import PAUSE_SECONDS
from tollkeeper_webhook.authority import LedgerAuthority

UNASKED = cast("Kube", None)
"""Deciding asks no API server."""


class Walked(dict[str, Any]):
    """A mapping that counts how many of its values were walked over."""

    walked = 0

    def __iter__(self) -> Iterator[str]:
        self.walked += len(self)
        return super().__iter__()

    def values(self) -> Any:
        self.walked += len(self)
        return super().values()

    def items(self) -> Any:
        self.walked += len(self)
        return super().items()


def note(feed: Feed, text: str) -> None:
    for raw in yaml.safe_load_all(text):
        feed.note(raw["kind"], {**raw, "metadata": {**raw["metadata"], "resourceVersion": "1", "uid": "u"}})


def feed_of(names: list[str], tell: Any = lambda _ref, _change: None) -> Feed:
    """A namespace, a tenant and a budget of each name."""
    feed = Feed(tell)
    for name in names:
        feed.note(NAMESPACE.name, {"metadata": {"name": name, "resourceVersion": "1"}})
        note(feed, tenant(name) + budget(name))
    return feed


@asynccontextmanager
async def deciding(folder: Path, count: int) -> AsyncIterator[tuple[Decisions, Running]]:
    """Decisions on so many tenants with a budget each, over a ledger, when all was decided once."""
    policy, clock, metrics = CurrentPolicy(PolicySet(0, {}, (), PriceList.bundled())), Clock.at_noon(), Metrics()
    async with LedgerAuthority(folder / f"{count}.sqlite", policy, clock) as ledger:
        with ThreadPoolExecutor(1) as threads:
            decisions = Decisions(
                settings=replace(SETTINGS, reread=3600.0),
                clock=clock,
                books=ledger,
                policy=policy,
                feed=feed_of([f"t{number}" for number in range(count)]),
                balances=Balances(ledger, threads),
                grants=GrantDesk(ledger),
                schedule=Schedule(3.0),
                events=EventLog(UNASKED, metrics),
                metrics=metrics,
                prices=PriceList.bundled(),
            )
            stop = ledger.subscribe(decisions.booked)
            await decisions.decide()
            while not decisions.schedule.is_quiet:
                ref, _ = await decisions.schedule.take()
                decisions.schedule.done(ref)
            yield decisions, Running(cast("Any", None), UNASKED, ledger, policy, cast("Any", None), clock)
            stop()


async def test_requests_that_gateways_settled_and_the_ledger_never_saw_are_measured_once_they_are_late(
    tmp_path: Path,
) -> None:
    async with deciding(tmp_path, 1) as (decisions, running):
        decisions.settings = replace(decisions.settings, reread=0.0)
        await running.ledger.report((), Tally(3).settled_by("gone"))

        async def measured() -> float:
            await decisions.decide()
            return decisions.metrics.registry.get_sample_value("tollkeeper_operator_unbooked_requests") or 0.0

        assert await measured() == 0
        decisions.clock = lambda: running.clock() + timedelta(seconds=decisions.settings.late)
        assert await measured() == 3


@pytest.mark.parametrize("count", [3, 40])
async def test_a_budget_that_is_used_up_has_its_own_tenant_written_and_nobody_elses_looked_at(
    tmp_path: Path, count: int
) -> None:
    async with deciding(tmp_path, count) as (decisions, running):
        await running.spend("t1", 10 * DOLLAR)
        assert decisions.gathered is not None
        tenants, beneath = Walked(running.policy.value.tenants), Walked(decisions.gathered.beneath)
        running.policy.value = replace(running.policy.value, tenants=tenants)
        decisions.gathered = replace(decisions.gathered, policy=running.policy.value, beneath=beneath)
        tenants.walked = beneath.walked = 0
        async with asyncio.timeout(5):
            await decisions.decide()
            taken = []
            while not decisions.schedule.is_quiet:
                ref, _ = await decisions.schedule.take()
                taken.append(ref)
                decisions.schedule.done(ref)
        assert sorted(taken) == [
            ObjectRef("Tenant", "", "t1"),
            ObjectRef("TokenBudget", "t1", "monthly"),
            ObjectRef("WorkloadGate", "t1", "tollkeeper"),
        ]
        assert tenants.walked == beneath.walked == 0


USERS = 30
EACH_USER = """---
apiVersion: tollkeeper.dev/v1alpha1
kind: TokenQuota
metadata: {name: each, namespace: t0}
spec:
  tenantRef: {name: t0}
  limits: [{name: daily, unit: Requests, amount: 2, window: {every: Day}, per: [User], thresholds: [50]}]
"""


async def test_a_threshold_that_many_users_reach_at_once_is_one_event_that_names_the_worst(tmp_path: Path) -> None:
    async with deciding(tmp_path, 1) as (decisions, running):
        note(decisions.feed, EACH_USER)
        decisions.heard(ObjectRef("TokenQuota", "t0", "each"), Change.POLICY)
        await decisions.decide()
        for number in range(USERS):
            await running.spend("t0", 0, user=f"user-{number:02}", times=2 if number == 7 else 1)
        async with asyncio.timeout(5):
            while len(decisions.events._waiting) == 0 or decisions._changed:
                decisions.wake.clear()
                await decisions.decide()
        ((notice, event, _),) = decisions.events._waiting
        assert notice.times == event["count"] == USERS
        assert event["involvedObject"]["name"] == "each"
        assert f"for {USERS} keys" in event["message"]
        assert "user-07 (100%)" in event["message"]
        assert f"and {USERS - 3} more" in event["message"]


async def test_a_threshold_that_no_event_could_be_written_of_is_told_with_what_follows(tmp_path: Path) -> None:
    async with deciding(tmp_path, 1) as (decisions, running):
        note(decisions.feed, EACH_USER)
        decisions.heard(ObjectRef("TokenQuota", "t0", "each"), Change.POLICY)
        await decisions.decide()
        about = decisions.feed.get(ObjectRef("TokenQuota", "t0", "each"))
        assert about is not None
        for number in range(BURST):
            decisions.events.tell(Notice(Reason.GRANT_BOOKED, "booked", str(number)), about, running.clock())
        await running.spend("t0", 0, user="ada")
        async with asyncio.timeout(5):
            while not decisions.thresholds._series or decisions._changed:
                decisions.wake.clear()
                await decisions.decide()
        ((_, notice),) = decisions.thresholds.due(asyncio.get_running_loop().time() + PAUSE_SECONDS, lambda *_: ())
        assert notice.times == 1


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=8), st.sets(st.integers(0, 10)))
def test_a_limit_binds_the_tenants_it_names_and_all_beneath_them(parents: list[int], bound: set[int]) -> None:
    feed = feed_of(["t0"])
    for number, parent in enumerate(parents, start=1):
        raw = next(yaml.safe_load_all(tenant(f"t{number}")))
        if parent < number:
            raw["spec"] |= {"parentRef": {"name": f"t{parent}"}, "level": "Team"}
        note(feed, yaml.safe_dump(raw))
    gathered = gather(feed, PriceList.bundled(), 1)
    names = frozenset(f"t{number}" for number in bound)
    (limit,) = gathered.policy.limits
    found = gathered.bound_by(replace(limit, tenants=names))
    expected = [node for node in gathered.policy.tenants.values() if names.intersection(node.chain)]
    assert sorted(node.name for node in found) == sorted(node.name for node in expected)


async def test_usage_that_waits_too_long_to_be_booked_is_told_of_every_number_until_it_is_booked(
    tmp_path: Path,
) -> None:
    async with deciding(tmp_path, 2) as (decisions, running):
        schedule, late = decisions.schedule, timedelta(seconds=decisions.settings.late)
        oldest: datetime | None = running.clock() - late / 2
        decisions.oldest_unreported = lambda: oldest

        async def fresh() -> tuple[bool | None, bool]:
            """What statuses say now, and whether they are all written for it."""
            await decisions.decide()
            condition = decisions.balances.freshness(running.clock()).condition()
            written = {(await schedule.take())[0] for _ in range(4)} if not schedule.is_quiet else set()
            for ref in written:
                schedule.done(ref)
            assert {ref.kind for ref in written} <= {"Tenant", "TokenBudget"}
            return condition.status, bool(written)

        assert await fresh() == (True, False)
        oldest = running.clock() - 2 * late
        assert await fresh() == (False, True)
        oldest += timedelta(seconds=1)
        assert await fresh() == (False, False)
        oldest = None
        assert await fresh() == (True, True)
