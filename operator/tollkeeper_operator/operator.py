"""The operator: gathers, decides, applies, until it is told to stop."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import datetime

from tollkeeper.books import Books
from tollkeeper.gates import GateVerdict
from tollkeeper.policy import CurrentPolicy
from tollkeeper.prices import PriceList
from tollkeeper_kube import Kube
from tollkeeper_operator.balances import Balances
from tollkeeper_operator.decisions import Decisions
from tollkeeper_operator.event_log import EventLog
from tollkeeper_operator.feed import Feed
from tollkeeper_operator.gathered import POLICY_KINDS
from tollkeeper_operator.grant_desk import GrantDesk
from tollkeeper_operator.health import Check, serve
from tollkeeper_operator.kopf_watch import quieten
from tollkeeper_operator.metrics import Metrics
from tollkeeper_operator.schedule import Schedule
from tollkeeper_operator.settings import OperatorSettings
from tollkeeper_operator.status_writer import StatusWriter
from tollkeeper_operator.unpriced import UnpricedUsage
from tollkeeper_operator.watches import WATCHED, Watches
from tollkeeper_operator.writing import Writing

READING_THREADS = 2

STOP_SECONDS = 5.0
"""How long the watches may take to end by themselves; a call to a server that does not answer is cut off then."""


class Operator:
    """Keeps the policy in force what the cluster's objects say, and the objects' statuses what the ledger says.

    `also_ready` adds checks of whoever embeds it to `/readyz`: by name, None where it is well, else what is wrong.
    `oldest_unreported` says when the oldest request ended whose usage a gateway could not report yet; None: there is none.
    """

    def __init__(
        self,
        settings: OperatorSettings,
        kube: Kube,
        books: Books,
        policy: CurrentPolicy,
        clock: Callable[[], datetime],
        *,
        also_ready: Mapping[str, Callable[[], str | None]] | None = None,
        oldest_unreported: Callable[[], datetime | None] = lambda: None,
    ) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self._also_ready = dict(also_ready or {})
        self._threads = ThreadPoolExecutor(READING_THREADS, thread_name_prefix="operator-reads")
        self._feed = Feed(lambda ref, change: self._decisions.heard(ref, change))
        self._events = EventLog(kube, self.metrics)
        self._decisions = Decisions(
            settings=settings,
            clock=clock,
            books=books,
            policy=policy,
            feed=self._feed,
            balances=Balances(books, self._threads),
            grants=GrantDesk(books),
            schedule=Schedule(settings.coalesce),
            events=self._events,
            metrics=self.metrics,
            prices=PriceList.bundled(),
            oldest_unreported=oldest_unreported,
        )
        self._watches = Watches(kube, self._feed, settings, self._decisions.look_at_everything)
        writer = StatusWriter(kube, self._feed, self._events, self.metrics, settings.heartbeat)
        unpriced = UnpricedUsage(books, self._threads, settings.unpriced)
        self._writing = Writing(kube, self._decisions, writer, clock, unpriced)
        self._books = books
        self._decided_at: float | None = None
        self._began_at = 0.0

    @property
    def ready(self) -> asyncio.Event:
        """Set once everything was read, decided and written for the first time."""
        return self._writing.first_round

    def verdict(self, namespace: str) -> GateVerdict | None:
        """What the gate of a namespace says, the same value that its WorkloadGate is written from; None: not governed,
        or not decided yet. Asks nobody: it may be called for every admission."""
        return self._decisions.verdicts.get(namespace)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set. Raises `Unavailable` when its port is taken."""
        quieten()
        self._began_at = asyncio.get_running_loop().time()
        async with AsyncExitStack() as stack:
            stack.callback(self._threads.shutdown, wait=False, cancel_futures=True)
            if self.settings.port is not None:
                runner = await serve(
                    self.settings.host, self.settings.port, self.metrics.registry, self._health, self._readiness
                )
                stack.push_async_callback(runner.cleanup)
            stack.callback(self._books.subscribe(self._decisions.booked))
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(self._watches.run(stop), name="watches")
                running = [
                    tasks.create_task(self._decide(), name="decisions"),
                    tasks.create_task(self._writing.run(), name="writing"),
                    tasks.create_task(self._events.run(), name="events"),
                ]
                await stop.wait()
                await asyncio.wait({watching}, timeout=STOP_SECONDS)
                for task in (watching, *running):
                    task.cancel()

    async def _decide(self) -> None:
        """One pass after another: when something changed, and each tick."""
        loop, wake = asyncio.get_running_loop(), self._decisions.wake
        await self._watches.listed.wait()
        while True:
            began = loop.time()
            wake.clear()
            with self.metrics.decisions.time():
                await self._decisions.decide()
            self._decided_at = loop.time()
            self._writing.look_for_first_round()
            # What changes within the debounce is decided on together; without a change the clock alone is looked at.
            await asyncio.sleep(max(0.0, began + self.settings.debounce - loop.time()))
            try:
                async with asyncio.timeout(self.settings.tick):
                    await wake.wait()
            except TimeoutError:
                self._measure()

    def _measure(self) -> None:
        self.metrics.decided.set_to_current_time()
        self.metrics.watch_restarts.set(self._watches.restarts)
        for kind in (*POLICY_KINDS, *(kind.name for kind in WATCHED)):
            self.metrics.objects.labels(kind).set(self._feed.count(kind))

    def _health(self) -> Mapping[str, Check]:
        """Whether decisions are fresh. A cluster or a ledger that cannot be read is told, but a restart cures neither."""
        # Until the cluster was read for the first time there is nothing to decide on.
        age = asyncio.get_running_loop().time() - (self._decided_at or self._began_at)
        stalled = self._watches.listed.is_set() and age > self.settings.stalled
        decisions = Check(f"none for {age:.0f} s" if stalled else None)
        return {"decisions": decisions, **self._reached(decisive=False)}

    def _readiness(self) -> Mapping[str, Check]:
        first = Check(None if self.ready.is_set() else "the first round is not finished")
        others = {name: Check(check()) for name, check in self._also_ready.items()}
        return {"first round": first, **self._reached(decisive=True), **others}

    def _reached(self, *, decisive: bool) -> dict[str, Check]:
        return {"cluster": Check(self._watches.fault, decisive), "ledger": Check(self._decisions.fault, decisive)}
