"""Applying: takes what is due, computes its status from what is decided, and writes it, gates first."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from tollkeeper.errors import Unavailable
from tollkeeper.forecast import Forecast, NotEnoughHistory
from tollkeeper.limits import LimitRef
from tollkeeper.notices import Notice
from tollkeeper.priced import span_of, unpriced_notices
from tollkeeper.problems import ObjectRef
from tollkeeper.resources import API_VERSION
from tollkeeper.statuses import Subject, gate_status
from tollkeeper.unpriced import Unpriced
from tollkeeper_kube import Kube, KubeError, NotFound
from tollkeeper_kube.kinds import WORKLOAD_GATE
from tollkeeper_operator.decisions import Decisions, namespace_ref
from tollkeeper_operator.desired import Knowledge, desired_status, limits_of, notices_of
from tollkeeper_operator.feed import Raw
from tollkeeper_operator.status_writer import Status, StatusWriter
from tollkeeper_operator.unpriced import UnpricedUsage

AGING = frozenset({"TokenBudget", "TokenQuota"})
"""Kinds whose status says how old its numbers are, and so is written anew when they grow old."""


@dataclass(slots=True)
class _Forecasted:
    made_at: float
    spent: int
    value: Forecast | NotEnoughHistory


@dataclass(slots=True)
class Writing:
    """`run` writes for ever with `writes_at_once` workers; cancel it to end."""

    kube: Kube
    decisions: Decisions
    writer: StatusWriter
    clock: Callable[[], datetime]
    unpriced: UnpricedUsage
    first_round: asyncio.Event = field(default_factory=asyncio.Event)
    _forecasts: dict[LimitRef, _Forecasted] = field(default_factory=dict)

    async def run(self) -> None:
        """Write what is due."""
        async with asyncio.TaskGroup() as workers:
            for number in range(self.decisions.settings.writes_at_once):
                workers.create_task(self._work(), name=f"status writer {number}")

    async def _work(self) -> None:
        schedule = self.decisions.schedule
        while True:
            ref, since = await schedule.take()
            try:
                await self._write(ref, since)
            finally:
                schedule.done(ref)
            self.look_for_first_round()

    def look_for_first_round(self) -> None:
        """Note that everything that was decided is written, when it is so for the first time."""
        if not self.first_round.is_set() and self.decisions.is_decided and self.decisions.schedule.is_quiet:
            self.first_round.set()

    async def _write(self, ref: ObjectRef, since: float) -> None:
        loop, settings = asyncio.get_running_loop(), self.decisions.settings
        try:
            await (self._gate(ref) if ref.kind == WORKLOAD_GATE.name else self._status(ref))
        except KubeError:
            # Told and counted where it was met; here it is only tried again, later each time.
            self.decisions.schedule.at(ref, loop.time() + self.writer.pause(ref))
            return
        self.decisions.metrics.write_lag.labels(ref.kind).observe(loop.time() - since)
        if ref.kind in AGING and self.decisions.feed.get(ref) is not None:
            self.decisions.schedule.at(ref, loop.time() + settings.heartbeat)

    async def _status(self, ref: ObjectRef) -> None:
        decisions, now = self.decisions, self.clock()
        raw = decisions.feed.get(ref)
        if raw is None or decisions.gathered is None:
            self.writer.forget(ref)
            decisions.schedule.forget(ref)
            self.unpriced.forget(ref)
            return
        forecast = await self._forecast(ref, now)
        await self._learn_remaining(ref, now)
        unpriced, span = await self._unpriced(ref, now)
        known = Knowledge(
            decisions.gathered, decisions.balances, decisions.grants.standing(ref), forecast, now, unpriced
        )

        def notices(before: Status, written: Status) -> Iterator[Notice]:
            yield from notices_of(ref.kind)(before, written)
            yield from unpriced_notices(before, unpriced, span)

        status = desired_status(ref, raw, known)
        if status is not None:
            await self.writer.write(ref, status, notices, now)

    async def _unpriced(self, ref: ObjectRef, now: datetime) -> tuple[Unpriced, str]:
        """What was used of an object's limits of models that have no price still, and the span that Events of it have."""
        decisions, loop = self.decisions, asyncio.get_running_loop()
        # Asked for by name: going through all limits for each object would be quadratic in their number.
        limits = limits_of(decisions.gathered.resources.get(ref) if decisions.gathered else None)
        counted = [one for limit in limits.values() if (one := decisions.balances.counted(limit)) is not None]
        due = self.unpriced.due(ref, counted)
        if due is not None and due <= loop.time():
            try:
                await self.unpriced.look(ref, counted)
            except Unavailable:
                decisions.metrics.failures.labels("unpriced").inc()
            due = self.unpriced.due(ref, counted)
        if due is not None:
            decisions.schedule.at(ref, due)
        known = self.unpriced.known(ref, counted)
        prices = decisions.policy.value.prices
        still = known.only(lambda provider, model: prices.find(provider, model, now) is None)
        return still, span_of((one.window for one in counted), now)

    async def _learn_remaining(self, ref: ObjectRef, now: datetime) -> None:
        """What is left of a booked grant; where the ledger does not answer, what was known last is shown."""
        standing = self.decisions.grants.standing(ref)
        if standing is None or not standing.is_live:
            return
        try:
            await self.decisions.grants.look(ref, self.decisions.policy.value, now)
        except Unavailable:
            self.decisions.metrics.failures.labels("grants").inc()

    async def _forecast(self, ref: ObjectRef, now: datetime) -> Forecast | NotEnoughHistory | None:
        """The budget's forecast, made anew when it is old and something was spent since."""
        if ref.kind != "TokenBudget":
            return None
        limit, time = LimitRef(ref.kind, ref.namespace, ref.name), asyncio.get_running_loop().time()
        known, counted = self._forecasts.get(limit), self.decisions.balances.counted(limit)
        if counted is None:
            return None
        spent = counted.total().spent
        if known is not None and time - known.made_at < self._lifetime(known, spent):
            return known.value
        try:
            value = await self.decisions.balances.forecast(limit, now)
        except Unavailable:
            self.decisions.metrics.failures.labels("forecast").inc()
            return known.value if known else None
        if value is not None:
            self._forecasts[limit] = _Forecasted(time, spent, value)
        return value

    def _lifetime(self, known: _Forecasted, spent: int) -> float:
        """Quiet budgets are looked at again with their heartbeat: silence is history too."""
        settings = self.decisions.settings
        return settings.forecast if known.spent != spent else settings.heartbeat / 2

    async def _gate(self, ref: ObjectRef) -> None:
        decisions, now = self.decisions, self.clock()
        verdict, raw = decisions.verdicts.get(ref.namespace), decisions.feed.get(ref)
        if verdict is None:
            await self._remove(ref, raw)
            return
        if raw is None:
            namespace = decisions.feed.get(namespace_ref(ref.namespace))
            if namespace is None or namespace["metadata"].get("deletionTimestamp"):
                return
            raw = await self._create(ref)
        as_of = decisions.balances.freshness(now).as_of
        status = gate_status(verdict, Subject.of(raw), as_of, now)
        await self.writer.write(ref, status, notices_of(ref.kind), now)

    async def _create(self, ref: ObjectRef) -> Raw:
        manifest = {
            "apiVersion": API_VERSION,
            "kind": ref.kind,
            "metadata": {
                "name": ref.name,
                "namespace": ref.namespace,
                "labels": {"app.kubernetes.io/managed-by": "tollkeeper"},
            },
        }
        try:
            raw = await self.kube.apply(manifest)
        except KubeError as fault:
            self.writer.failed(ref, fault)
            raise
        self.decisions.feed.note(ref.kind, raw)
        return raw

    async def _remove(self, ref: ObjectRef, raw: Raw | None) -> None:
        """Delete the gate of a namespace that is no longer governed."""
        gathered = self.decisions.gathered
        if raw is None or gathered is None or ref.namespace in gathered.governed:
            return
        try:
            await self.kube.delete(WORKLOAD_GATE, ref.name, ref.namespace)
        except NotFound:
            self.writer.forget(ref)
        except KubeError as fault:
            self.writer.failed(ref, fault)
            raise
        self.writer.forget(ref)
