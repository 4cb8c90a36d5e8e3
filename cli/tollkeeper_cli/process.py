"""The process behind `tollkeeper up`: what is started, in which order, and how it ends.

Each part is started after what it stands on and stopped before it: the gateway settles and reports what is in flight
while the authority still books it, and the ledger closes last.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import structlog

from tollkeeper.captures import Keeper
from tollkeeper.crd import crds
from tollkeeper.policy import CurrentPolicy, PolicySet
from tollkeeper.prices import PriceList
from tollkeeper_cli import control_server
from tollkeeper_cli.capture_keys import keys_of, warn_of_readers
from tollkeeper_cli.keeping import keeping
from tollkeeper_cli.listening import require_free_ports
from tollkeeper_cli.logs import configure_logs
from tollkeeper_cli.operations import perform
from tollkeeper_cli.settings import InvalidSettings, Settings
from tollkeeper_cli.stopping import stop_on_signals, unless
from tollkeeper_cli.temporary import swept_temporary_folder
from tollkeeper_console import Console, ConsoleSettings, RunningConsole
from tollkeeper_kube import Kube, connect, install
from tollkeeper_kube.kinds import TENANT
from tollkeeper_kube.tenure import Tenure
from tollkeeper_operator.operator import Operator
from tollkeeper_operator.settings import OperatorSettings
from tollkeeper_sidecar import Gateway, GatewaySettings, RunningGateway, Upstream
from tollkeeper_webhook.authority import LedgerAuthority
from tollkeeper_webhook.certificates import Certificates
from tollkeeper_webhook.configurations import webhook_configurations
from tollkeeper_webhook.policies import policies
from tollkeeper_webhook.server import Webhook
from tollkeeper_webhook.settings import WebhookSettings

_log = structlog.get_logger("tollkeeper.up")


def now() -> datetime:
    """The clock of the whole process."""
    return datetime.now(UTC)


def run_until_stopped(
    settings: Settings, context: str | None, kubeconfig: Path | None, *, install_all: bool, webhook_host: str
) -> None:
    """Log on standard error, start everything, and work until a signal ends it. Raises what `run` raises."""

    async def working() -> None:
        stop = asyncio.Event()
        stop_on_signals(stop)
        async with contextlib.AsyncExitStack() as stack:
            await run(stack, settings, context, kubeconfig, stop, install_all=install_all, webhook_host=webhook_host)

    configure_logs()
    asyncio.run(working())


async def run(
    stack: contextlib.AsyncExitStack,
    settings: Settings,
    context: str | None,
    kubeconfig: Path | None,
    stop: asyncio.Event,
    *,
    install_all: bool,
    webhook_host: str,
) -> None:
    """Start everything, say `ready`, and work until `stop` is set or a part fails; `stack` ends it in order.

    Raises the first failure: `TollkeeperError`s that name what is wrong.
    """
    upstreams, keys = _upstreams(settings), keys_of(settings.capture)
    warn_of_readers(settings.capture)
    require_free_ports(settings, webhook_host)
    parts, ground = _Parts(), None
    async with unless(stop):
        ground = await _ground(
            stack, settings, context, kubeconfig, parts, install_all=install_all, webhook_host=webhook_host
        )
    if ground is None:
        return
    policy, authority, operator = ground.policy, ground.authority, ground.operator
    async with asyncio.TaskGroup() as tasks, contextlib.AsyncExitStack() as serving:
        tasks.create_task(operator.run(stop), name="operator")
        holding = tasks.create_task(ground.tenure.hold(), name="claim on the cluster")
        serving.callback(holding.cancel)
        if not await _first(operator.ready, stop):
            return
        bodies = keeping(settings.storage.ledger, keys, policy, now, largest=settings.capture.largest_store_bytes)
        keeper = await serving.enter_async_context(bodies)
        parts.gateway = await _start_gateway(serving, settings, upstreams, policy, authority, keeper, parts)
        parts.console = await _start_console(serving, settings, policy, authority)
        _log.info("ready", **parts.addresses(), **ground.told)
        await stop.wait()
        _log.info("stopping: requests in flight end first; a second signal ends it at once")


@dataclass(frozen=True, slots=True)
class _Ground:
    """What stands before requests are served. `told` is what the log says of it."""

    policy: CurrentPolicy
    authority: LedgerAuthority
    tenure: Tenure
    operator: Operator
    told: dict[str, str]


async def _ground(
    stack: contextlib.AsyncExitStack,
    settings: Settings,
    context: str | None,
    kubeconfig: Path | None,
    parts: "_Parts",
    *,
    install_all: bool,
    webhook_host: str,
) -> _Ground:
    """Open the ledger, claim the cluster for it, and let the API server know our kinds, policies and webhook."""
    policy = CurrentPolicy(PolicySet(0, {}, (), PriceList.bundled()))
    directory = settings.storage.directory
    authority = await stack.enter_async_context(LedgerAuthority(settings.storage.ledger, policy, now))
    await stack.enter_async_context(control_server.serving(directory, partial(perform, authority)))
    stack.enter_context(swept_temporary_folder(directory))
    kube = await stack.enter_async_context(await connect(context, kubeconfig))
    tenure = Tenure(kube, authority.ledger, now)
    await tenure.claim()
    operator = Operator(
        OperatorSettings(
            host=settings.host, port=settings.ports.operator, keeps_bodies=settings.capture.keys is not None
        ),
        kube,
        authority,
        policy,
        now,
        also_ready={"gateway": lambda: parts.missing("gateway"), "console": lambda: parts.missing("console")},
        oldest_unreported=lambda: parts.oldest_unreported(),
    )
    webhook = await _start_webhook(stack, settings, kube, operator, webhook_host)
    await _install(kube, webhook, webhook_host, install_all=install_all)
    told = {
        "webhook": f"https://{webhook_host}:{webhook.port}",
        "webhook_health": f"http://{settings.host}:{webhook.health_port}",
        "cluster": kube.host,
        "ledger": authority.place,
    }
    return _Ground(policy, authority, tenure, operator, told)


class _Parts:
    """What has started, for `/readyz` and for what statuses say of usage that is not booked yet."""

    def __init__(self) -> None:
        self.gateway: RunningGateway | None = None
        self.console: RunningConsole | None = None
        self.gateway_fault: Callable[[], str | None] = lambda: None
        self.oldest_unreported: Callable[[], datetime | None] = lambda: None

    def missing(self, part: str) -> str | None:
        """None where the part runs, else what is wrong."""
        if getattr(self, part) is None:
            return "it has not started"
        return self.gateway_fault() if part == "gateway" else None

    def addresses(self) -> dict[str, str]:
        """Where what has started listens."""
        gateway = {"gateway": self.gateway.url, "gateway_metrics": self.gateway.metrics_url} if self.gateway else {}
        return gateway | ({"console": self.console.url} if self.console else {})


async def _first(event: asyncio.Event, stop: asyncio.Event) -> bool:
    """Wait for one of both; whether `event` came before `stop`."""
    waits = [asyncio.create_task(event.wait()), asyncio.create_task(stop.wait())]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    return event.is_set()


def _upstreams(settings: Settings) -> tuple[Upstream, ...]:
    if not settings.upstreams:
        raise InvalidSettings(
            "no upstreams: name a provider in the settings file (--config), such as "
            "`upstreams: {openai: {url: https://…, key: {env: OPENAI_API_KEY}}}`"
        )
    return tuple(
        Upstream(name, upstream.url, upstream.key.read(f"upstreams.{name}.key"))
        for name, upstream in settings.upstreams.items()
    )


async def _start_webhook(
    stack: contextlib.AsyncExitStack, settings: Settings, kube: Kube, operator: Operator, host: str
) -> Webhook:
    async def renewed(certificates: Certificates) -> None:
        for configuration in webhook_configurations(certificates.ca_pem, f"https://{host}:{webhook.port}"):
            await kube.apply(configuration)

    webhook = Webhook(
        WebhookSettings(
            host=host,
            port=settings.ports.webhook,
            health_host=settings.host,
            health_port=settings.ports.webhook_health,
            hosts=(host, "localhost"),
        ),
        kube,
        operator.verdict,
        is_ready=operator.ready.is_set,
        renewed=renewed,
    )
    await webhook.start()
    stack.push_async_callback(webhook.stop)
    return webhook


async def _install(kube: Kube, webhook: Webhook, host: str, *, install_all: bool) -> None:
    """CRDs and policies where wanted; the webhook's address and CA always, since they are this process's own."""
    configurations = webhook_configurations(webhook.certificates.ca_pem, f"https://{host}:{webhook.port}")
    if install_all:
        await install(kube, crds(), [*policies(await kube.whoami()), *configurations])
        return
    await kube.list(TENANT)
    for configuration in configurations:
        await kube.apply(configuration)


async def _start_gateway(
    stack: contextlib.AsyncExitStack,
    settings: Settings,
    upstreams: tuple[Upstream, ...],
    policy: CurrentPolicy,
    authority: LedgerAuthority,
    keeper: Keeper | None,
    parts: _Parts,
) -> RunningGateway:
    gateway = Gateway(
        GatewaySettings(
            settings.storage.directory,
            upstreams,
            host=settings.host,
            port=settings.ports.gateway,
            metrics_port=settings.ports.gateway_metrics,
            captured_body_bytes=settings.capture.largest_body_bytes,
        ),
        policy,
        authority,
        now,
        keeper,
    )
    running = await gateway.start()
    parts.gateway_fault = gateway.missing
    parts.oldest_unreported = lambda: gateway.oldest_unreported
    stack.push_async_callback(_stop_gateway, gateway)
    return running


async def _stop_gateway(gateway: Gateway) -> None:
    """Stop it, and say what it could not report: that is booked by the next start alone."""
    await gateway.stop()
    if waiting := gateway.unreported:
        requests = "1 request waits" if waiting == 1 else f"{waiting} requests wait"
        _log.warning(f"{requests} in the spool for the next start, which books what is there")


async def _start_console(
    stack: contextlib.AsyncExitStack, settings: Settings, policy: CurrentPolicy, authority: LedgerAuthority
) -> RunningConsole:
    console = Console(
        ConsoleSettings(host=settings.host, port=settings.ports.console),
        authority.reader,
        policy,
        authority.subscribe,
        now,
    )
    running = await console.start()
    stack.push_async_callback(console.stop)
    return running
