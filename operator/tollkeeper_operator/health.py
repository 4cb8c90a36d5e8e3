"""The operator's own port: `/healthz` by freshness of its decisions, `/readyz` after the first full round, `/metrics`."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from tollkeeper.errors import Unavailable


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: None where it is well, else what is wrong. What is not decisive is only told."""

    fault: str | None
    decisive: bool = True


Checks = Callable[[], Mapping[str, Check]]
"""What is looked at, by name."""


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def serve(host: str, port: int, registry: CollectorRegistry, health: Checks, ready: Checks) -> web.AppRunner:
    """Serve until the runner is cleaned up. Raises `Unavailable` where the port is taken."""
    app = web.Application()
    app.router.add_get("/healthz", _answer(health))
    app.router.add_get("/readyz", _answer(ready))
    app.router.add_get("/metrics", _metrics(registry))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as cause:
        await runner.cleanup()
        raise Unavailable(
            f"the operator cannot listen on {host}:{port} ({cause.strerror}): stop what does, or name another port"
        ) from cause
    return runner


def _answer(checks: Checks) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        found = checks()
        well = all(one.fault is None for one in found.values() if one.decisive)
        lines = [f"[{'-' if one.fault else '+'}] {name}: {one.fault or 'ok'}" for name, one in found.items()]
        return web.Response(text="\n".join(lines) + "\n", status=200 if well else 503)

    return answer


def _metrics(registry: CollectorRegistry) -> Handler:
    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return metrics
