"""How long admission takes, on a local cluster of its own.

Reviews straight to the webhook over TLS, from 16 connections; then pods through the API server (dry run), metered and
not, so that the difference is what Tollkeeper adds: an unmetered pod is the peer.
"""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from functools import partial

import aiohttp
import orjson
from prometheus_client.parser import text_string_to_metric_families

from bench.rows import Row, at_most
from bench.workspace import CannotMeasure, Workspace, percentile
from tollkeeper.compile import compile_policy
from tollkeeper.crd import crds
from tollkeeper.gates import verdict
from tollkeeper.policy import PolicySet
from tollkeeper.prices import PriceList
from tollkeeper.references import read
from tollkeeper.tenants import METERED_LABEL, Namespace
from tollkeeper_cluster import LocalCluster
from tollkeeper_cluster.errors import ClusterError
from tollkeeper_kube import Kube, Object, connect, install, kinds
from tollkeeper_webhook.configurations import webhook_configurations
from tollkeeper_webhook.policies import policies
from tollkeeper_webhook.server import Webhook
from tollkeeper_webhook.settings import WebhookSettings

AT_ONCE = 16
LIMITS = 50
"""Budgets that the gate is judged by."""

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
    """Milliseconds of each call."""
    taken: list[float] = []
    left = iter(range(calls))

    async def worker() -> None:
        for _ in left:
            began = time.perf_counter()
            await call()
            taken.append((time.perf_counter() - began) * 1000)

    await asyncio.gather(*(worker() for _ in range(at_once)))
    return taken


async def straight(webhook: Webhook, reviews: int) -> list[Row]:
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
        at_once, alone = await timed(reviews, AT_ONCE, review), await timed(reviews // 8, 1, review)
    return [
        Row(f"admission, {AT_ONCE} reviews at once: p99", percentile(at_once, 0.99), "ms", goal=at_most(25)),
        Row("admission, one review at a time: p50", percentile(alone, 0.5), "ms"),
    ]


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


async def through_the_api_server(kube: Kube, pods: int) -> Row:
    """The median of creating a metered pod, beside that of one that is not."""
    medians: dict[bool, float] = {}
    for metered in (False, True):
        body = pod(metered)
        create = partial(kube.call, "POST", kinds.POD.path("default"), what="creating a pod", body=body, query=DRY_RUN)
        await timed(20, 1, create)
        medians[metered] = percentile(await timed(pods, 1, create), 0.5)
    return Row("creating a metered pod: p50", medians[True], "ms", "an unmetered pod", medians[False])


async def measured(cluster: LocalCluster, place: Workspace) -> list[Row]:
    """All rows, on a cluster that has our policies and webhook."""
    in_force, now = policy(), datetime.now(UTC)
    began = time.perf_counter()
    verdicts = {"default": verdict(in_force, "default", {}, now)}
    judging = (time.perf_counter() - began) * 1000
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
        found = await straight(webhook, place.size(4000, 400))
        await asked_by_the_api_server(kube, webhook)
        found.append(await through_the_api_server(kube, place.size(200, 20)))
        await webhook.stop()
    return [Row(f"judging a gate by {LIMITS} budgets, once a change", judging, "ms"), *found]


def rows(place: Workspace) -> Iterator[Row]:
    """Admission's rows, where a cluster can be started."""
    try:
        with LocalCluster.start() as cluster:
            yield from asyncio.run(measured(cluster, place))
    except ClusterError as missing:
        raise CannotMeasure(str(missing)) from missing
