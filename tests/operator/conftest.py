"""A real API server with our kinds, a real ledger, and the operator between them."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import pytest

from tollkeeper.crd import crds
from tollkeeper.leases import LeaseRequest, Want
from tollkeeper.limits import Target
from tollkeeper.policy import CurrentPolicy, PolicySet
from tollkeeper.prices import PriceList
from tollkeeper.usage import Buckets, Caller, Charge, Outcome, UsageRecord
from tollkeeper_cluster import Kubectl, LocalCluster
from tollkeeper_kube import Kind, Kube, connect, install
from tollkeeper_operator import Operator, OperatorSettings
from tollkeeper_webhook.authority import LedgerAuthority

WAIT_SECONDS = 20.0


@dataclass
class Clock:
    """The time of day, and what a test adds to it."""

    ahead: timedelta = timedelta(0)

    @classmethod
    def at_noon(cls) -> "Clock":
        """A clock on which no day ends while a test runs."""
        now = datetime.now(UTC)
        return cls(now.replace(hour=12, minute=0, second=0, microsecond=0) - now)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@dataclass
class Running:
    """An operator at work, with what it works on."""

    operator: Operator
    kube: Kube
    ledger: LedgerAuthority
    policy: CurrentPolicy
    kubectl: Kubectl
    clock: Clock = field(default_factory=Clock)

    async def run(self, *arguments: str, **options: Any) -> str:
        """What kubectl prints, without stopping the operator meanwhile."""
        return (await asyncio.to_thread(lambda: self.kubectl(*arguments, **options))).stdout

    async def apply(self, text: str, namespace: str | None = None) -> None:
        await self.run("apply", "-f", "-", input=text, namespace=namespace)

    async def status(self, kind: Kind, name: str, namespace: str | None = None) -> dict[str, Any]:
        """An object's status; empty while there is none."""
        found = await self.kube.find(kind, name, namespace)
        return (found or {}).get("status") or {}

    async def until(self, kind: Kind, name: str, namespace: str | None = None, **wanted: Any) -> dict[str, Any]:
        """The object's status once its fields are what is wanted."""

        last: dict[str, Any] = {}

        async def reached() -> dict[str, Any] | None:
            nonlocal last
            last = status = await self.status(kind, name, namespace)
            return status if all(status.get(field) == value for field, value in wanted.items()) else None

        reached_status: dict[str, Any] = await eventually(
            reached, lambda: f"{kind.name} {name} never came to {wanted}; it is {last}"
        )
        return reached_status

    async def ready(self, what: str, namespace: str) -> None:
        """Wait as users do until an object is in force."""
        await self.run("wait", "--for=condition=Ready", what, "--timeout=10s", namespace=namespace)

    async def spend(
        self,
        tenant: str,
        cost: int | None,
        *,
        times: int = 1,
        user: str | None = None,
        namespace: str | None = None,
        model: str = "gpt-5",
    ) -> None:
        """Lease, use and report requests that cost so many nano-dollars each (None: unpriced), as a gateway does."""
        for _ in range(times):
            await self._spend(Caller(tenant, user=user, namespace=namespace), model, cost)

    async def _spend(self, caller: Caller, model: str, cost: int | None) -> None:
        bound, _ = self.policy.value.accounts_for(Target(caller, "openai", model), self.clock())
        buckets, holder = Buckets(input=10, output=5), f"holder-{uuid4()}"
        takes = {one.account.text: one.limit.amount_of(buckets, cost) for one in bound}
        hard = {one.account.text for one in bound if one.limit.is_hard}
        wants = tuple(Want(account, amount, amount) for account, amount in takes.items() if account in hard)
        reply = await self.ledger.lease(LeaseRequest(holder, 1, wants))
        assert not reply.refused, reply.refused
        charges = tuple(Charge(account, amount, amount * (account in hard)) for account, amount in takes.items())
        await self.ledger.report([self._record(holder, caller, model, buckets, charges, cost)])
        await self.ledger.close(holder, {})

    def _record(
        self, holder: str, caller: Caller, model: str, buckets: Buckets, charges: tuple[Charge, ...], cost: int | None
    ) -> UsageRecord:
        return UsageRecord(
            id=str(uuid4()),
            upstream_id=None,
            holder=holder,
            caller=caller,
            provider="openai",
            model=model,
            tool=None,
            buckets=buckets,
            cost=cost,
            price=None if cost is None else "test@1",
            admitted_at=self.clock(),
            finished_at=self.clock(),
            status=200,
            outcome=Outcome.OK,
            streamed=False,
            estimated=False,
            charges=charges,
        )

    async def events(self, namespace: str, reason: str) -> list[str]:
        """The messages of the Events of a reason."""
        path = "{range .items[?(@.reason=='" + reason + "')]}{.message}{'\\n'}{end}"
        found = await self.run("get", "events", "-o", f"jsonpath={path}", namespace=namespace)
        return [line for line in found.splitlines() if line]


class Start(Protocol):
    def __call__(
        self, clock: Clock = ..., cluster: LocalCluster = ..., settings: OperatorSettings = ...
    ) -> AbstractAsyncContextManager[Running]: ...


async def eventually(
    holds: Callable[[], Awaitable[Any]], complaint: Callable[[], str] = lambda: "", seconds: float = WAIT_SECONDS
) -> Any:
    """The first true answer, asked for again and again; fails with a complaint when it takes too long."""
    try:
        async with asyncio.timeout(seconds):
            while not (answer := await holds()):  # noqa: ASYNC110 - it is another process that is waited for
                await asyncio.sleep(0.02)
            return answer
    except TimeoutError:
        pytest.fail(f"it did not come about within {seconds:.0f} s: {complaint()}", pytrace=False)


async def put_kinds(cluster: LocalCluster) -> None:
    async with await connect(kubeconfig=cluster.kubeconfig) as kube:
        await install(kube, crds())


@pytest.fixture(scope="session")
def installed(cluster: LocalCluster) -> LocalCluster:
    """The session's cluster, with our kinds."""
    asyncio.run(put_kinds(cluster))
    return cluster


SETTINGS = OperatorSettings(port=None, coalesce=0.3, heartbeat=30.0)


@pytest.fixture
def start(installed: LocalCluster, tmp_path: Path) -> Start:
    """Start an operator on the test's own ledger, ready when it is given; a second start is a restart."""

    @asynccontextmanager
    async def running(
        clock: Clock | None = None, cluster: LocalCluster = installed, settings: OperatorSettings = SETTINGS
    ) -> AsyncIterator[Running]:
        clock = clock or Clock()
        policy = CurrentPolicy(PolicySet(0, {}, (), PriceList.bundled()))
        async with (
            await connect(kubeconfig=cluster.kubeconfig) as kube,
            LedgerAuthority(tmp_path / "ledger.sqlite", policy, clock) as ledger,
        ):
            operator, stop = Operator(settings, kube, ledger, policy, clock), asyncio.Event()
            task = asyncio.create_task(operator.run(stop))
            ready = asyncio.create_task(operator.ready.wait())
            try:
                await asyncio.wait({task, ready}, timeout=WAIT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if task.done():
                    await task
                assert ready.done(), "the operator did not become ready"
                yield Running(operator, kube, ledger, policy, Kubectl(cluster.kubectl, cluster.environment()), clock)
            finally:
                ready.cancel()
                stop.set()
                await task

    return running


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
