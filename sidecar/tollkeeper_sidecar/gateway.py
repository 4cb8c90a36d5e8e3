"""The gateway: everything put together, started and stopped in order."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import aiohttp
import structlog
from aiohttp import web

from tollkeeper.captures import Keeper
from tollkeeper.identity import new_id
from tollkeeper.leases import Authority
from tollkeeper.policy import CurrentPolicy
from tollkeeper_sidecar.capturing import Capturing
from tollkeeper_sidecar.errors import SpoolError
from tollkeeper_sidecar.handler import RequestHandler
from tollkeeper_sidecar.holder import LeaseHolder
from tollkeeper_sidecar.meter import Meter, booked_by
from tollkeeper_sidecar.metrics import Metrics
from tollkeeper_sidecar.recovery import boot_id, recover
from tollkeeper_sidecar.reporter import Reporter
from tollkeeper_sidecar.server import address_of, gateway_server, listen, metrics_server
from tollkeeper_sidecar.settings import GatewaySettings
from tollkeeper_sidecar.spool import Spool
from tollkeeper_sidecar.tasks import Faults, start_task

RECOVERY_RETRY_SECONDS: Final = 5.0
LONGEST_RECOVERY_RETRY_SECONDS: Final = 60.0
FINISH_SECONDS: Final = 10.0
METRICS_DRAIN_SECONDS: Final = 1.0
KEEP_ALIVE_SECONDS: Final = 4.0
"""Less than servers commonly keep idle connections (5 s and more): one that is closed under a request cannot be retried."""

_log = structlog.get_logger("tollkeeper.gateway")


@dataclass(frozen=True, slots=True)
class RunningGateway:
    """Where a started gateway listens. `url` is followed by `/<upstream>/v1`."""

    url: str
    metrics_url: str


class Gateway:
    """The metering gateway. `start` once, `stop` once; what it holds is given back by `stop`.

    `clock` tells the time, with its zone. `keeper` takes the bodies of tenants that want them kept; without one none are.
    Raises `GatewayError` from `start` for a taken port or a data folder that cannot
    be written.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        policy: CurrentPolicy,
        authority: Authority,
        clock: Callable[[], datetime],
        keeper: Keeper | None = None,
    ) -> None:
        self._settings = settings
        self._policy = policy
        self._authority = authority
        self._clock = clock
        self._keeper = keeper
        self._holder_id = new_id()
        self._folder = settings.data_dir / "gateway"
        self._closing = contextlib.AsyncExitStack()
        self._finished = True

    async def start(self) -> RunningGateway:
        """Recover what earlier gateways left, then listen. Returns once requests are taken."""
        async with contextlib.AsyncExitStack() as started:
            await self._recover(started)
            handler, metrics = await self._assemble(started)
            settings = self._settings
            gateway = await self._listen(
                started, gateway_server(handler, settings), settings.port, "gateway", settings.drain_seconds
            )
            health = await self._listen(
                started,
                metrics_server(metrics, self._ended, self.missing, self._refresh),
                settings.metrics_port,
                "gateway's metrics",
                METRICS_DRAIN_SECONDS,
            )
            self._closing = started.pop_all()
        running = RunningGateway(address_of(gateway), address_of(health))
        _log.info("the gateway listens", url=running.url, metrics=running.metrics_url, holder=self._holder_id)
        return running

    async def stop(self) -> None:
        """Take no more requests, let those in flight end within their bound, report all usage, give back all leases."""
        await self._closing.aclose()

    async def _assemble(self, started: contextlib.AsyncExitStack) -> tuple[RequestHandler, Metrics]:
        """The parts, each closed in the reverse order: listeners, connections to providers, leases, reports, spool, bodies."""
        settings, clock = self._settings, self._clock
        metrics = Metrics()
        self._capturing = Capturing(
            self._keeper, self._policy, metrics, largest=settings.captured_body_bytes, room=settings.captures_bytes
        )
        started.push_async_callback(self._capturing.close)
        self._spool = Spool(
            self._folder, self._holder_id, boot_id(), largest=settings.spool_bytes, segment=settings.segment_bytes
        )
        started.push_async_callback(self._close_spool)
        self._holder = LeaseHolder(
            self._holder_id,
            self._authority,
            clock,
            most_waiting=settings.most_waiting,
            nudge=lambda: self._reporter.nudge(),
        )
        self._reporter = Reporter(
            self._authority, self._spool, booked_by(self._holder), every_seconds=settings.report_seconds
        )
        await started.enter_async_context(self._reporter)
        started.push_async_callback(self._finish_reports)
        await started.enter_async_context(self._holder)
        session = await started.enter_async_context(self._session())
        self._gauges = {
            name: metrics.gauge(f"tollkeeper_gateway_{name}", text)
            for name, text in (
                ("spool_bytes", "Bytes in the spool."),
                ("unreported_requests", "Settled requests that are not booked yet."),
                ("set_aside_requests", "Settled requests that the authority cannot book; it is asked again."),
                ("requests_in_memory_alone", "Settled requests that the disk did not take."),
                ("open_holds", "Requests that hold something."),
                ("waiting_requests", "Requests that wait for a lease."),
                ("waiting_captures", "Requests whose bodies wait to be kept."),
                ("authority_reachable", "1 while the authority grants leases."),
            )
        }
        meter = Meter(self._holder, self._spool, self._reporter, metrics, clock)
        handler = RequestHandler(settings, self._policy, self._holder, meter, metrics, self._capturing, session, clock)
        return handler, metrics

    def _session(self) -> aiohttp.ClientSession:
        settings = self._settings
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=settings.most_in_flight, keepalive_timeout=KEEP_ALIVE_SECONDS),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=settings.connect_seconds, sock_read=settings.silence_seconds
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Content-Type", "Accept", "Accept-Encoding"),
        )

    async def _listen(
        self, started: contextlib.AsyncExitStack, server: web.Server, port: int, what: str, drain_seconds: float
    ) -> web.ServerRunner:
        runner = await listen(server, self._settings.host, port, what=what, drain_seconds=drain_seconds)
        started.push_async_callback(runner.cleanup)
        return runner

    async def _recover(self, started: contextlib.AsyncExitStack) -> None:
        """Recover now; where the authority does not take it, go on trying beside the requests."""
        faults = Faults("earlier gateways' usage waits in their spools", "earlier gateways' usage is booked")
        if not await self._recovered(faults):
            task = start_task(self._recover_later(faults), "recovery")
            started.callback(task.cancel)

    async def _recover_later(self, faults: Faults) -> None:
        pause = RECOVERY_RETRY_SECONDS
        recovered = False
        while not recovered:
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_RECOVERY_RETRY_SECONDS)
            recovered = await self._recovered(faults)

    async def _recovered(self, faults: Faults) -> bool:
        """Try once. Raises `SpoolError` for a folder that cannot be read: that needs a person."""
        try:
            done = await recover(self._folder, self._authority, boot_id())
        except SpoolError:
            raise
        except Exception as error:  # noqa: BLE001 - what an earlier gateway left must not keep this one from its work
            faults.met(error)
            return False
        if done.fault is not None:
            faults.met(done.fault)
            return False
        faults.overcome()
        return True

    async def _finish_reports(self) -> None:
        self._finished = await self._reporter.finish(FINISH_SECONDS)

    async def _close_spool(self) -> None:
        """End the holder when all is reported; otherwise leave the spool to the next start."""
        finished = self._finished
        if finished:
            try:
                await self._authority.close(self._holder_id, {})
            except Exception as error:  # noqa: BLE001 - the spool is closed whatever the authority answers
                _log.warning("leases could not be given back: the next start does it", error=str(error) or repr(error))
                finished = False
        await self._spool.close(finished=finished)

    @property
    def unreported(self) -> int:
        """Settled requests that are not booked yet; once it is stopped, those that it leaves in the spool."""
        return self._reporter.waiting

    @property
    def oldest_unreported(self) -> datetime | None:
        """When the oldest settled request ended that is not booked yet."""
        return self._reporter.oldest

    def missing(self) -> str | None:
        """None where requests are taken, else what is wrong."""
        if (fault := self._ended() or self._holder.fault) is not None:
            return fault
        if self._spool.fault is not None:
            return self._spool.fault
        if self._spool.size >= self._settings.spool_bytes:
            return "the spool is full: the authority does not take usage"
        return None

    def _ended(self) -> str | None:
        """What only a restart cures: a part that ended. Its records are in the spool."""
        if self._reporter.is_working and self._holder.is_running:
            return None
        return "a part of the gateway ended; its log says why"

    def _refresh(self) -> None:
        values = {
            "spool_bytes": self._spool.size,
            "unreported_requests": self._reporter.waiting,
            "set_aside_requests": self._reporter.set_aside,
            "requests_in_memory_alone": self._reporter.not_on_disk,
            "open_holds": self._spool.open_holds,
            "waiting_requests": self._holder.desk.waiting,
            "waiting_captures": self._capturing.waiting,
            "authority_reachable": int(self._holder.is_reachable),
        }
        for name, value in values.items():
            self._gauges[name].set(value)
