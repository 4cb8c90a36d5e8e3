"""The webhook's coming and going: what holds without it, what its health says, what a taken port looks like."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.webhook.manifests import Apply, Manifest, budget, pod, set_gate, workload
from tests.webhook.running import FREE_PORTS, Running, in_force, until
from tollkeeper_cluster import LocalCluster
from tollkeeper_kube import Kube
from tollkeeper_webhook.errors import PortTaken
from tollkeeper_webhook.server import Webhook
from tollkeeper_webhook.settings import WebhookSettings

pytestmark = pytest.mark.cluster
SPENT = "TokenBudget team/monthly is used up: balance -0.11 USD, minimum -0.12, resets 2026-12-01 00:00 UTC"

Create = Callable[[Manifest], Awaitable[str]]


@pytest.fixture
async def stopped(installed: LocalCluster, operator_config: Path) -> AsyncIterator[Running]:
    """A webhook that the API server is told to ask, and that no longer answers."""
    async with in_force(operator_config) as running:
        await running.webhook.stop()
        yield running


@pytest.fixture
def create(apply: Apply) -> Create:
    async def in_thread(manifest: Manifest) -> str:
        return await asyncio.to_thread(apply, manifest)

    return in_thread


@pytest.mark.usefixtures("stopped")
async def test_without_the_webhook_the_policies_decide_and_our_own_objects_wait(
    operator: Kube, namespace: str, create: Create
) -> None:
    assert await create(pod("plain", metered=None)) == ""
    assert await create(workload("Deployment", metered=None)) == ""

    await set_gate(operator, namespace, is_open=False, message=SPENT)
    said = await until(lambda: create(pod()), SPENT)
    assert "ValidatingAdmissionPolicy 'tollkeeper-gate-pods'" in said
    assert SPENT in await create(workload("Job"))

    await set_gate(operator, namespace, is_open=True)
    await until(lambda: create(pod("metered")), "")

    assert "failed calling webhook" in await create(budget("monthly", "mine"))


async def test_health_follows_freshness(operator: Kube) -> None:
    fresh = [True]
    webhook = Webhook(FREE_PORTS, operator, lambda _: None, is_ready=lambda: fresh[0])
    await webhook.start()
    running = Running(webhook)
    await running.get("/healthz")
    await running.get("/readyz")
    fresh[0] = False
    assert await running.get("/readyz", 503) == "not ready\n"
    await webhook.stop()


async def test_a_taken_port_is_one_clear_line(operator: Kube) -> None:
    first = Webhook(FREE_PORTS, operator, lambda _: None)
    await first.start()
    second = Webhook(WebhookSettings(port=first.port, health_port=0), operator, lambda _: None)
    with pytest.raises(PortTaken, match=rf"^cannot listen on 127.0.0.1:{first.port}: address already in use; free"):
        await second.start()
    await first.stop()
