"""A webhook in force: started, registered with the API server, and asked by it."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

import tollkeeper_kube as edge
from tests.webhook.manifests import budget, pod
from tollkeeper.gates import GateVerdict
from tollkeeper_kube import Kube, KubeError, Object
from tollkeeper_webhook.configurations import webhook_configurations
from tollkeeper_webhook.server import Webhook
from tollkeeper_webhook.settings import WebhookSettings

DEADLINE = 20.0
FREE_PORTS = WebhookSettings(port=0, health_port=0)


@dataclass
class Running:
    """A webhook, and the verdicts that it is asked to tell."""

    webhook: Webhook
    verdicts: dict[str, GateVerdict] = field(default_factory=dict)

    async def reviews(self) -> str:
        return "\n".join(line for line in (await self.get("/metrics")).splitlines() if "reviews_total{" in line)

    async def get(self, path: str, status: int = 200) -> str:
        address = f"http://127.0.0.1:{self.webhook.health_port}{path}"
        async with aiohttp.ClientSession() as client, client.get(address) as answer:
            assert answer.status == status
            return await answer.text()


@asynccontextmanager
async def in_force(kubeconfig: Path) -> AsyncIterator[Running]:
    """A webhook that the API server asks: it learns of configurations by its own watch, so both are probed."""
    async with await edge.connect(kubeconfig=kubeconfig) as kube:
        verdicts: dict[str, GateVerdict] = {}
        webhook = Webhook(FREE_PORTS, kube, verdicts.get)
        await webhook.start()
        own = webhook_configurations(webhook.certificates.ca_pem, f"https://127.0.0.1:{webhook.port}")
        try:
            for configuration in own:
                await kube.apply(configuration)
            await until(lambda: refusal(kube, budget("probe", "nobody")), "there is no Tenant nobody")
            await until(lambda: refusal(kube, pod("probe")), "no tenant owns")
            yield Running(webhook, verdicts)
        finally:
            for configuration in own:
                await kube.delete(edge.kind_of(configuration), configuration["metadata"]["name"])
            await webhook.stop()


async def refusal(kube: Kube, manifest: Object) -> str:
    """What is said to an object in the namespace `default`, which stays without a tenant; nothing is created."""
    about = {**manifest["metadata"], "namespace": "default"}
    kind = edge.kind_of(manifest)
    try:
        await kube.call(
            "POST", kind.path("default"), what="probing", body={**manifest, "metadata": about}, query={"dryRun": "All"}
        )
    except KubeError as refused:
        return str(refused)
    return ""


async def until(attempt: Callable[[], Awaitable[str]], text: str) -> str:
    """Wait for an answer with these words; for none at all when they are empty."""
    give_up = time.monotonic() + DEADLINE
    while (text not in (said := await attempt())) if text else (said := await attempt()):
        assert time.monotonic() < give_up, said
        await asyncio.sleep(0.02)
    return said
