"""How long admission takes, on a local cluster of its own: `python bench/admission.py`.

Reviews straight to the webhook over TLS, from 16 connections; then pods through the API server (dry run), metered and
not, so that the difference is what Tollkeeper adds. Milliseconds, the goal for the webhook's own answer is p99 < 25.
"""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial

import aiohttp
import orjson
from prometheus_client.parser import text_string_to_metric_families

from tollkeeper.compile import compile_policy
from tollkeeper.crd import crds
from tollkeeper.gates import verdict
from tollkeeper.policy import PolicySet
from tollkeeper.prices import PriceList
from tollkeeper.references import read
from tollkeeper.tenants import METERED_LABEL, Namespace
from tollkeeper_cluster import LocalCluster
from tollkeeper_kube import Kube, Object, connect, install, kinds
from tollkeeper_webhook.configurations import webhook_configurations
from tollkeeper_webhook.policies import policies
from tollkeeper_webhook.server import Webhook
from tollkeeper_webhook.settings import WebhookSettings

REVIEWS, AT_ONCE = 4000, 16
PODS = 300
LIMITS = 50
CONFIGURED_SECONDS = 30.0
DRY_RUN = {"dryRun": "All"}


def policy() -> PolicySet:
    api = {"apiVersion": "tollkeeper.dev/v1alpha1"}
    tenant: Object = {
        **api,
        "kind": "Tenant",
        "metadata": {"name": "team"},
        "spec": {"level": "Team", "namespaces": {"names": ["default"]}},
    }
    budgets: list[Object] = [
        {
            **api,
            "kind": "TokenBudget",
            "metadata": {"name": f"b{number}", "namespace": "default"},
            "spec": {"tenantRef": {"name": "team"}, "allocation": "10", "period": {"every": "Month"}},
        }
        for number in range(LIMITS)
    ]
    resources, _ = read([tenant, *budgets])
    return compile_policy(resources, {"default": Namespace()}, (), PriceList(), 1).policy


def pod(metered: bool) -> Object:
    labels = {METERED_LABEL: "true"} if metered else {}
    spec = {"containers": [{"name": "app", "image": "example.test/app:1"}]}
    about = {"generateName": "bench-", "namespace": "default", "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": spec}


async def timed(calls: int, at_once: int, call: Callable[[], Awaitable[object]]) -> list[float]:
    seconds: list[float] = []
    left = iter(range(calls))

    async def worker() -> None:
        for _ in left:
            began = time.perf_counter()
            await call()
            seconds.append(time.perf_counter() - began)

    await asyncio.gather(*(worker() for _ in range(at_once)))
    return sorted(seconds)


def show(name: str, seconds: list[float]) -> None:
    at = {share: seconds[min(len(seconds) - 1, int(len(seconds) * share))] * 1000 for share in (0.5, 0.99)}
    print(f"{name:<52} p50 {at[0.5]:7.2f} ms   p99 {at[0.99]:7.2f} ms   ({len(seconds)} calls)")


async def straight(webhook: Webhook) -> None:
    trusting = ssl.create_default_context(cadata=webhook.certificates.ca_pem)
    request = {"uid": "u", "operation": "CREATE", "kind": {"kind": "Pod"}, "namespace": "default", "object": pod(True)}
    body = orjson.dumps({"request": request})
    address = f"https://127.0.0.1:{webhook.port}/mutate"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting)) as client:

        async def review() -> None:
            async with client.post(address, data=body) as answer:
                if not orjson.loads(await answer.read())["response"]["allowed"]:
                    raise RuntimeError("the pod was refused: nothing is measured")

        await timed(200, AT_ONCE, review)
        show(f"webhook, {AT_ONCE} at once", await timed(REVIEWS, AT_ONCE, review))
        show("webhook, one at a time", await timed(500, 1, review))


async def asked_by_the_api_server(kube: Kube, webhook: Webhook) -> None:
    """Wait until the API server asks the webhook about pods: it learns of the configurations by its own watch."""
    before = await reviews(webhook)
    create = partial(
        kube.call, "POST", kinds.POD.path("default"), what="creating a pod", body=pod(metered=True), query=DRY_RUN
    )
    async with asyncio.timeout(CONFIGURED_SECONDS):
        while await reviews(webhook) == before:
            await create()


async def reviews(webhook: Webhook) -> float:
    """How many reviews the webhook has answered."""
    async with (
        aiohttp.ClientSession() as client,
        client.get(f"http://127.0.0.1:{webhook.health_port}/metrics") as answer,
    ):
        families = text_string_to_metric_families(await answer.text())
        samples = [sample for family in families for sample in family.samples]
    return sum(sample.value for sample in samples if sample.name == "tollkeeper_admission_seconds_count")


async def through_the_api_server(kube: Kube) -> None:
    for metered in (False, True):
        body = pod(metered)
        create = partial(kube.call, "POST", kinds.POD.path("default"), what="creating a pod", body=body, query=DRY_RUN)
        await timed(20, 1, create)
        show(f"API server, {'metered' if metered else 'unmetered'} pod", await timed(PODS, 1, create))


async def measure(cluster: LocalCluster) -> None:
    in_force, now = policy(), datetime.now(UTC)
    began = time.perf_counter()
    verdicts = {"default": verdict(in_force, "default", {}, now)}
    print(f"judging a gate with {LIMITS} budgets, once a change: {(time.perf_counter() - began) * 1000:.2f} ms")
    async with await connect(kubeconfig=cluster.kubeconfig) as kube:
        await install(kube, crds(), policies(await kube.whoami()))
        gate: Object = {
            "apiVersion": "tollkeeper.dev/v1alpha1",
            "kind": "WorkloadGate",
            "metadata": {"name": "tollkeeper", "namespace": "default"},
        }
        await kube.apply(gate)
        await kube.apply_status({**gate, "status": {"open": True, "message": "open"}})
        webhook = Webhook(WebhookSettings(port=0, health_port=0), kube, verdicts.get)
        await webhook.start()
        for configuration in webhook_configurations(webhook.certificates.ca_pem, f"https://127.0.0.1:{webhook.port}"):
            await kube.apply(configuration)
        await straight(webhook)
        await asked_by_the_api_server(kube, webhook)
        await through_the_api_server(kube)
        await webhook.stop()


def main() -> None:
    with LocalCluster.start() as cluster:
        asyncio.run(measure(cluster))


if __name__ == "__main__":
    main()
