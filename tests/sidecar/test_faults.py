"""Faults that nobody foresaw: the gateway says so, goes on with what it can, and recovers by itself."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import aiohttp
import pytest
from structlog.testing import capture_logs

from tests.sidecar.builders import PROVIDER_KEY, limit, policy, record
from tests.sidecar.conftest import SetUp, now
from tests.sidecar.desks import demand
from tests.sidecar.reference import ReferenceAuthority
from tests.sidecar.test_failures import TOKENS, until
from tests.sidecar.test_spool import abandoned, spool
from tollkeeper.amounts import Unit
from tollkeeper.counters import Counters
from tollkeeper.errors import Unavailable
from tollkeeper.leases import LeaseReply, LeaseRequest
from tollkeeper.policy import CurrentPolicy
from tollkeeper.usage import UsageRecord
from tollkeeper_sidecar import Gateway, GatewaySettings, Upstream, gateway
from tollkeeper_sidecar.demand import Hold
from tollkeeper_sidecar.desk import Desk
from tollkeeper_sidecar.holder import LeaseHolder
from tollkeeper_sidecar.reporter import Reporter
from tollkeeper_sidecar.tasks import Faults
from tollkeeper_sidecar.waiting import Stale, Waiting
from tollkeeper_webhook.authority import LedgerAuthority

NUMBERS = limit("tokens", 10_000, Unit.TOKENS)


class Faulty(ReferenceAuthority):
    """An authority with a defect: it raises what no contract names, for some records or for every lease."""

    def __init__(self) -> None:
        super().__init__([NUMBERS])
        self.poison: set[str] = set()
        self.lease_fault: Exception | None = None
        self.batches: list[int] = []

    async def report(self, records: Sequence[UsageRecord], counters: Counters | None = None) -> None:
        self.batches.append(len(records))
        if any(one.id in self.poison for one in records):
            raise KeyError("no such column")
        await super().report(records, counters)

    async def lease(self, request: LeaseRequest) -> LeaseReply:
        if self.lease_fault is not None:
            self.calls += 1
            raise self.lease_fault
        return await super().lease(request)


async def test_a_record_that_cannot_be_booked_holds_up_no_other_and_is_never_dropped(tmp_path: Path) -> None:
    authority, kept = Faulty(), spool(tmp_path)
    authority.poison = {"request-7"}
    with capture_logs() as logs:
        async with Reporter(authority, kept, lambda _: None, every_seconds=0.01) as reporter:
            for number in range(20):
                reporter.add(record(f"request-{number}"))
            await until(lambda: len(authority.booked) == 19, seconds=20)
            assert reporter.is_working
            assert reporter.waiting == 1
            assert kept.unbooked == 1
            assert reporter.set_aside == 1
            authority.poison.clear()
            assert await reporter.finish(10)
            assert reporter.set_aside == 0
    assert len(authority.booked) == 20
    assert authority.batches.count(1) > 1
    assert [entry["log_level"] for entry in logs] == ["error", "info"]
    assert "test_faults.py" in logs[0]["at"]
    assert logs[0]["request"] == "request-7"
    await kept.close(finished=True)


async def test_while_the_authority_is_away_batches_keep_their_size_and_order(tmp_path: Path) -> None:
    authority, kept = Faulty(), spool(tmp_path)
    authority.away = True
    async with Reporter(authority, kept, lambda _: None, every_seconds=0.01) as reporter:
        for number in range(20):
            reporter.add(record(f"request-{number}"))
        await until(lambda: len(authority.batches) >= 3)
        assert reporter.set_aside == 0
        authority.away = False
        assert await reporter.finish(10)
    assert set(authority.batches) == {20}
    assert list(authority.booked) == [f"request-{number}" for number in range(20)]
    await kept.close(finished=True)


async def test_a_spool_file_that_cannot_be_deleted_stops_no_report(tmp_path: Path) -> None:
    authority, kept = Faulty(), spool(tmp_path, segment=1)
    booked: list[str] = []
    async with Reporter(
        authority, kept, lambda batch: booked.extend(one.id for one in batch), every_seconds=0.01
    ) as reporter:
        reporter.add(record("request-1"))
        for path in (tmp_path / "holder-1").glob("*.spool"):
            path.rename(path.with_suffix(".kept"))
            path.mkdir()
        with capture_logs() as logs:
            reporter.add(record("request-2"))
            assert await reporter.finish(10)
    assert booked == ["request-1", "request-2"]
    assert [entry["event"] for entry in logs] == ["files of the spool that are not needed any more stay"]
    for path in (tmp_path / "holder-1").glob("*.spool"):
        if path.is_dir():
            path.rmdir()
    await kept.close(finished=True)


async def test_a_lease_holder_outlives_what_the_authority_raises() -> None:
    authority = Faulty()
    authority.lease_fault = RuntimeError("a defect")
    with capture_logs() as logs:
        async with LeaseHolder("one", authority, now) as holder:
            assert isinstance(await holder.hold(demand(10, 10, NUMBERS)), Stale)
            assert "a defect" in (holder.fault or "")
            assert holder.is_running
            authority.lease_fault = None
            async with asyncio.timeout(10):
                while not isinstance(await holder.hold(demand(10, 10, NUMBERS)), Hold):  # noqa: ASYNC110 - its own pause is waited for
                    await asyncio.sleep(0.05)
            assert holder.fault is None
            assert holder.is_reachable
    assert [entry["log_level"] for entry in logs] == ["error", "info"]


@pytest.mark.parametrize("nothing_done", [True, False])
def test_what_may_have_been_returned_is_not_used_any_more(nothing_done: bool) -> None:
    authority, desk = ReferenceAuthority([NUMBERS]), Desk("one", 50)
    waiting = desk.arrive(demand(100, 100, NUMBERS), 0.0)
    assert isinstance(waiting, Waiting)
    request = desk.next_request(now(), 0.0)
    assert request is not None
    desk.answered(authority.lease_now(request, now()), now(), 0.0)
    assert isinstance(waiting.outcome, Hold)
    desk.settle(waiting.outcome, waiting.outcome.unused, 0.0)
    # The demand is forgotten after some rounds: then all that is free goes back.
    mono, returning = 1.0, None
    while returning is None or not returning.returns:
        returning = desk.next_request(now(), mono)
        if returning is not None and not returning.returns:
            desk.answered(authority.lease_now(returning, now()), now(), mono)
        mono += 1.0
    returned = sum(returning.returns.values())
    assert returned > 0
    desk.unavailable(mono, nothing_done=nothing_done)
    free = sum(pool.free for _, pool in desk.pools)
    assert free == (returned if nothing_done else 0)


def test_a_fault_is_told_once_for_each_kind_until_the_work_succeeds() -> None:
    with capture_logs() as logs:
        faults = Faults("lost", "found")
        for error in (Unavailable("a"), KeyError("b"), Unavailable("c"), KeyError("d"), ValueError("e")):
            faults.met(error)
        assert faults
        assert faults.unexpected == "lost: ValueError('e')"
        faults.overcome()
        faults.overcome()
        faults.met(Unavailable("f"))
    assert not faults.unexpected
    assert [entry["log_level"] for entry in logs] == ["warning", "error", "error", "info", "warning"]


class Defective:
    """A real authority whose calls can be made to fail with what nobody foresaw."""

    def __init__(self, inner: LedgerAuthority) -> None:
        self._inner = inner
        self.fault: Exception | None = None

    def _sound(self) -> LedgerAuthority:
        if self.fault is not None:
            raise self.fault
        return self._inner

    async def lease(self, request: LeaseRequest) -> LeaseReply:
        return await self._sound().lease(request)

    async def recalled(self, holder: str) -> Collection[str]:
        return await self._sound().recalled(holder)

    async def report(self, records: Sequence[UsageRecord], counters: Counters | None = None) -> None:
        await self._sound().report(records, counters)

    async def close(self, holder: str, kept: Mapping[str, int]) -> None:
        await self._sound().close(holder, kept)


async def test_a_gateway_starts_beside_what_cannot_be_recovered_and_recovers_it_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "RECOVERY_RETRY_SECONDS", 0.05)
    current = CurrentPolicy(policy(TOKENS))
    (tmp_path / "gateway").mkdir()
    await abandoned(tmp_path / "gateway")
    settings = GatewaySettings(
        tmp_path, (Upstream("openai", "http://127.0.0.1:1", PROVIDER_KEY),), port=0, metrics_port=0
    )
    async with LedgerAuthority(tmp_path / "ledger.db", current, now) as ledger:
        authority = Defective(ledger)
        authority.fault = TypeError("a defect")
        started = Gateway(settings, current, authority, now)
        running = await started.start()
        async with aiohttp.ClientSession(running.metrics_url) as session, session.get("/readyz") as answer:
            assert answer.status == 200
        assert (tmp_path / "gateway" / "holder-1").exists()
        authority.fault = None
        await until(lambda: not (tmp_path / "gateway" / "holder-1").exists())
        await started.stop()


async def test_a_part_that_ended_makes_the_gateway_unhealthy_so_that_it_is_started_again(stage: SetUp) -> None:
    running = await stage(policy(TOKENS))

    async def answers() -> list[int]:
        async with aiohttp.ClientSession(running.running.metrics_url) as session:
            return [(await session.get(path)).status for path in ("/healthz", "/readyz")]

    assert await answers() == [200, 200]
    # Stands for a defect of the lease holder's own: nothing that it is asked may end it.
    running.gateway._holder._task.cancel()
    await until(lambda: not running.gateway._holder.is_running)
    assert await answers() == [503, 503]
