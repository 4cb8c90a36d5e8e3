"""The webhook's servers: admission over TLS, and health and metrics beside it."""

import asyncio
import os
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from tollkeeper.errors import InvalidValue
from tollkeeper_kube import Kube, KubeError
from tollkeeper_webhook.admission import Admission, Verdicts
from tollkeeper_webhook.certificates import Certificates, ensure_certificates
from tollkeeper_webhook.errors import PortTaken
from tollkeeper_webhook.metrics import WebhookMetrics
from tollkeeper_webhook.reviews import Answer, Review
from tollkeeper_webhook.settings import WebhookSettings

LARGEST_REVIEW = 8 * 2**20  # an object and its former self, 1.5 MiB each, as JSON
DRAIN_SECONDS = 5.0
RENEWAL_SECONDS = 3600.0
RENEWAL_PAUSE_SECONDS = 60.0

Answerer = Callable[[Review], Awaitable[Answer]]
Renewed = Callable[[Certificates], Awaitable[None]]

_log = structlog.get_logger("tollkeeper.webhook")


async def _nothing(_: Certificates) -> None:
    return None


class Webhook:
    """Admission at `https://host:port`: `/validate` for our own objects, `/mutate` for their form and for metered pods
    and workloads.

    `verdicts` answers at once, from memory. `is_ready` says whether what it answers is fresh. `renewed` is told new
    certificates, so that the webhook configurations can follow. `routes` are served beside ours over TLS.
    """

    def __init__(
        self,
        settings: WebhookSettings,
        kube: Kube,
        verdicts: Verdicts,
        *,
        is_ready: Callable[[], bool] = lambda: True,
        renewed: Renewed = _nothing,
        routes: Iterable[web.AbstractRouteDef] = (),
    ) -> None:
        self._settings = settings
        self._kube = kube
        self._admission = Admission(kube, verdicts)
        self._is_ready = is_ready
        self._renewed = renewed
        self._routes = tuple(routes)
        self._metrics = WebhookMetrics()
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self._certificates: Certificates | None = None
        self._runners: list[web.AppRunner] = []
        self._renewal: asyncio.Task[None] | None = None
        self._stopping = False
        self.port = settings.port
        self.health_port = settings.health_port

    @property
    def certificates(self) -> Certificates:
        """What it serves by; known once it has started."""
        if self._certificates is None:
            raise RuntimeError("the webhook has not started")
        return self._certificates

    async def start(self) -> None:
        """Get certificates and listen. Raises `KubeError`s and `PortTaken`; nothing is left listening then."""
        await self._use(await ensure_certificates(self._kube, self._settings.hosts))
        try:
            self.port = await self._listen(self._admission_app(), self._settings.host, self._settings.port, self._tls)
            self.health_port = await self._listen(
                self._health_app(), self._settings.health_host, self._settings.health_port, None
            )
        except BaseException:
            await self.stop()
            raise
        self._renewal = asyncio.create_task(self._renew(), name="renewal of the webhook's certificate")
        _log.info("webhook listens", address=f"https://{self._settings.host}:{self.port}", health_port=self.health_port)

    async def stop(self) -> None:
        """Say not ready, finish what is being answered (at most 5 s), and close."""
        self._stopping = True
        if self._renewal is not None:
            self._renewal.cancel()
            with suppress(asyncio.CancelledError):
                await self._renewal
            self._renewal = None
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()

    async def _listen(self, app: web.Application, host: str, port: int, tls: ssl.SSLContext | None) -> int:
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=DRAIN_SECONDS)
        await runner.setup()
        self._runners.append(runner)
        try:
            await web.TCPSite(runner, host, port, ssl_context=tls).start()
        except OSError as cause:
            reason = os.strerror(cause.errno).lower() if cause.errno else str(cause)
            raise PortTaken(
                f"cannot listen on {host}:{port}: {reason}; free the port, or choose another one"
            ) from cause
        return int(runner.addresses[0][1])

    def _admission_app(self) -> web.Application:
        app = web.Application(client_max_size=LARGEST_REVIEW)
        app.add_routes(
            [
                web.post("/validate", self._answering("/validate", self._admission.validate)),
                web.post("/mutate", self._answering("/mutate", self._admission.mutate)),
                *self._routes,
            ]
        )
        return app

    def _health_app(self) -> web.Application:
        app = web.Application()
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._expose),
            ]
        )
        return app

    def _answering(self, path: str, answerer: Answerer) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            began = time.perf_counter()
            try:
                review = Review.parse(orjson.loads(await request.read()))
            except (orjson.JSONDecodeError, InvalidValue) as wrong:
                return web.Response(status=400, text=f"{wrong}\n")
            answer = await answerer(review)
            seconds = time.perf_counter() - began
            self._metrics.answered(path, review.kind, allowed=answer.allowed, seconds=seconds)
            body = orjson.dumps(answer.to_json(review.uid))
            return web.Response(body=body, content_type="application/json")

        return handle

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        ready = not self._stopping and self._is_ready()
        return web.Response(status=200 if ready else 503, text="ok\n" if ready else "not ready\n")

    async def _expose(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.exposed(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _renew(self) -> None:
        """Look each hour whether the certificate is due. Other replicas renew too: theirs is read, not made anew."""
        pause = RENEWAL_SECONDS
        while True:
            await asyncio.sleep(pause)
            try:
                fresh = await ensure_certificates(self._kube, self._settings.hosts, datetime.now(UTC))
                if fresh != self._certificates:
                    await self._use(fresh)
                    await self._renewed(fresh)
                    _log.info("webhook certificate renewed", renew_at=fresh.renew_at().isoformat())
                pause = RENEWAL_SECONDS
            except KubeError as fault:
                pause = RENEWAL_PAUSE_SECONDS
                _log.warning("webhook certificate could not be renewed", error=str(fault), pause_seconds=pause)

    async def _use(self, certificates: Certificates) -> None:
        await asyncio.to_thread(_load, self._tls, certificates)
        self._certificates = certificates


def _load(tls: ssl.SSLContext, certificates: Certificates) -> None:
    """Serve new connections by these. The library reads files only: they stand for this moment, readable by us alone."""
    with TemporaryDirectory(prefix="tollkeeper-tls-") as folder:
        chain, key = Path(folder, "tls.crt"), Path(folder, "tls.key")
        chain.write_text(certificates.certificate_pem)
        key.touch(mode=0o600)
        key.write_text(certificates.key_pem)
        tls.load_cert_chain(chain, key)
