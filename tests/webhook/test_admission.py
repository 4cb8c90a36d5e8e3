"""Admission as users meet it: a real API server that calls the webhook over TLS."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp
import pytest
import yaml

import tollkeeper_kube as edge
from tests.webhook.manifests import WORKLOADS, Apply, Manifest, pod, set_gate, workload
from tollkeeper.gates import GateVerdict
from tollkeeper_cluster import Kubectl
from tollkeeper_kube import Kube
from tollkeeper_webhook.configurations import webhook_configurations
from tollkeeper_webhook.errors import PortTaken
from tollkeeper_webhook.server import Webhook
from tollkeeper_webhook.settings import WebhookSettings

pytestmark = pytest.mark.cluster
DEADLINE = 20.0
SPENT = "TokenBudget team/monthly is used up: balance -0.11 USD, minimum -0.12, resets 2026-12-01 00:00 UTC"
FREE_PORTS = WebhookSettings(port=0, health_port=0)

Create = Callable[[Manifest], Awaitable[str]]


@dataclass
class Running:
    """A webhook in force, and the verdicts that it is asked to tell."""

    webhook: Webhook
    verdicts: dict[str, GateVerdict] = field(default_factory=dict)

    async def reviews(self) -> str:
        return "\n".join(line for line in (await self.get("/metrics")).splitlines() if "reviews_total{" in line)

    async def get(self, path: str, status: int = 200) -> str:
        address = f"http://127.0.0.1:{self.webhook.health_port}{path}"
        async with aiohttp.ClientSession() as client, client.get(address) as answer:
            assert answer.status == status
            return await answer.text()


@pytest.fixture
async def create(apply: Apply) -> Create:
    """Create a manifest off the event loop, on which the webhook answers."""

    async def in_thread(manifest: Manifest) -> str:
        return await asyncio.to_thread(apply, manifest)

    return in_thread


@pytest.fixture
async def running(operator: Kube, namespace: str, create: Create) -> AsyncIterator[Running]:
    verdicts: dict[str, GateVerdict] = {}
    webhook = Webhook(FREE_PORTS, operator, verdicts.get)
    await webhook.start()
    own = webhook_configurations(webhook.certificates.ca_pem, f"https://127.0.0.1:{webhook.port}")
    for configuration in own:
        await operator.apply(configuration)
    try:
        await in_force(create)
        yield Running(webhook, verdicts)
    finally:
        for configuration in own:
            await operator.delete(edge.kind_of(configuration), configuration["metadata"]["name"])
        await webhook.stop()


async def in_force(create: Create) -> None:
    """The API server learns of configurations by its own watch: wait until it asks us."""
    await until(lambda: create(budget("probe", "nobody")), "there is no Tenant nobody")
    await until(lambda: create(pod(f"probe-{time.monotonic_ns()}")), "no tenant owns")


async def until(attempt: Callable[[], Awaitable[str]], text: str) -> str:
    give_up = time.monotonic() + DEADLINE
    while text not in (said := await attempt()):
        assert time.monotonic() < give_up, said
    return said


def tenant(name: str, parent: str | None = None, namespaces: tuple[str, ...] = (), **spec: object) -> Manifest:
    above = {"parentRef": {"name": parent}} if parent else {}
    owned = {"namespaces": {"names": list(namespaces)}} if namespaces else {}
    return ours("Tenant", name, {"level": "Team", **above, **owned, **spec})


def budget(name: str, of: str, **spec: object) -> Manifest:
    return ours("TokenBudget", name, {"tenantRef": {"name": of}, "allocation": "10.00", **spec})


def grant(name: str, to: str, amount: str | int) -> Manifest:
    return ours("TokenGrant", name, {"budgetRef": {"name": to}, "amount": amount})


def ours(kind: str, name: str, spec: Manifest) -> Manifest:
    return {"apiVersion": "tollkeeper.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


@pytest.fixture
async def family(running: Running, namespace: str, kubectl: Kubectl) -> AsyncIterator[str]:
    """The tenants `top` → `mine`, which owns the test's namespace; `other` beside them."""
    made = [tenant("top"), tenant("mine", "top", (namespace,)), tenant("other", namespaces=("elsewhere",))]
    await asyncio.to_thread(kubectl, "create", "-f", "-", input=yaml.safe_dump_all(made))
    yield namespace
    await asyncio.to_thread(kubectl, "delete", "tenants", "--all")


async def test_objects_created_at_once_know_each_other(running: Running, namespace: str, kubectl: Kubectl) -> None:
    together = [
        tenant("one", namespaces=(namespace,)),
        tenant("two", "one"),
        budget("monthly", "two"),
        grant("first", "monthly", "5.00"),
    ]
    done = await asyncio.to_thread(
        kubectl, "create", "-f", "-", input=yaml.safe_dump_all(together), namespace=namespace
    )
    assert done.stdout.count(" created") == 4
    assert done.stderr == ""
    await asyncio.to_thread(kubectl, "delete", "tenants", "--all")


REFUSED: list[tuple[str, Manifest, str]] = [
    (
        "a parent that does not exist",
        tenant("child", "nowhere"),
        "spec.parentRef.name: there is no Tenant nowhere; create the Tenant nowhere, or name another parent",
    ),
    (
        "a namespace that another tenant owns",
        tenant("greedy", namespaces=("elsewhere",)),
        "spec.namespaces.names: it names the namespace elsewhere, which the tenant other claims too",
    ),
    (
        "a budget for a tenant that does not exist",
        budget("lost", "nobody"),
        "spec.tenantRef.name: there is no Tenant nobody; create the Tenant nobody first, or name another one",
    ),
    ("a budget for the tenant above", budget("up", "top"), "belongs to the tenant mine, and top is neither"),
    ("a budget for a tenant beside", budget("beside", "other"), "belongs to the tenant mine, and other is neither"),
    (
        "a selector outside the system namespace",
        ours("TokenBudget", "all", {"tenantSelector": {"matchLabels": {"plan": "free"}}}),
        "spec.tenantSelector: only objects in the namespace tollkeeper-system may bind tenants by label",
    ),
    (
        "suspending workloads, which this version does not do",
        budget("acts", "mine", onExhausted={"workloads": "SuspendJobs"}),
        "spec.onExhausted.workloads: acting on running workloads is not available in this version",
    ),
    (
        "keeping bodies, which this version does not do",
        tenant("recorder", capture={"bodies": "Always"}),
        "spec.capture.bodies: keeping bodies is not available in this version",
    ),
]


@pytest.mark.parametrize(("manifest", "said"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
async def test_it_refuses(family: str, create: Create, manifest: Manifest, said: str) -> None:
    assert said in await create(manifest)


async def test_it_refuses_a_change_that_closes_a_circle(family: str, operator: Kube) -> None:
    with pytest.raises(
        edge.Rejected, match="the tenants mine → top → mine are each above the other; take parentRef off"
    ):
        await operator.apply(tenant("top", "mine"))


async def test_it_refuses_another_unit_for_a_budget_that_counts_already(
    family: str, create: Create, operator: Kube
) -> None:
    assert await create(budget("monthly", "mine")) == ""
    changed = budget("monthly", "mine", unit="Tokens", allocation=5)
    with pytest.raises(edge.Rejected, match=r"spec.unit: its account counts USD.*create another budget"):
        await operator.apply({**changed, "metadata": {"name": "monthly", "namespace": family}})


async def test_it_refuses_a_grant_in_another_unit_than_its_budget(family: str, create: Create) -> None:
    assert await create(budget("monthly", "mine")) == ""
    assert "spec.amount: '2M' is not an amount of USD" in await create(grant("tokens", "monthly", "2M"))


async def test_the_system_namespace_may_bind_every_tenant(family: str, apply: Apply) -> None:
    selecting = ours("TokenBudget", "plan", {"tenantSelector": {"matchLabels": {"plan": "free"}}})
    for manifest in (budget("org", "top"), selecting):
        assert await asyncio.to_thread(apply, manifest, edge.SYSTEM_NAMESPACE) == ""


ADMITTED: list[tuple[str, Manifest, str]] = [
    ("a grant that waits for its budget", grant("early", "later", "5.00"), "there is no TokenBudget later"),
    (
        "borrowing, which this version does not do",
        budget("lender", "mine", borrowing={"limit": "5.00"}),
        "spec.borrowing: borrowing is not available in this version",
    ),
]


@pytest.mark.parametrize(("manifest", "warned"), [row[1:] for row in ADMITTED], ids=[row[0] for row in ADMITTED])
async def test_it_admits_with_a_warning(family: str, kubectl: Kubectl, manifest: Manifest, warned: str) -> None:
    text = yaml.safe_dump(manifest)
    done = await asyncio.to_thread(kubectl, "create", "-f", "-", input=text, namespace=family)
    assert "Warning: " in done.stderr
    assert warned in done.stderr


async def test_deleting_a_tenant_tells_what_it_leaves_behind(family: str, kubectl: Kubectl) -> None:
    done = await asyncio.to_thread(kubectl, "delete", "tenant", "top")
    assert "Warning: Tenant mine: spec.parentRef.name: there is no Tenant top" in done.stderr


async def test_a_closed_verdict_refuses_before_the_gate_is_written(
    running: Running, namespace: str, create: Create
) -> None:
    running.verdicts[namespace] = GateVerdict(open=False, message=SPENT)
    for manifest in (pod(), *(workload(kind) for kind in WORKLOADS)):
        said = await create(manifest)
        assert 'admission webhook "gate.tollkeeper.dev" denied the request: ' + SPENT in said


async def test_an_open_verdict_warns_of_what_runs_low(
    running: Running, operator: Kube, namespace: str, kubectl: Kubectl
) -> None:
    await set_gate(operator, namespace, is_open=True)
    running.verdicts[namespace] = GateVerdict(open=True, message="open", warnings=("TokenBudget team/m runs low",))
    text, give_up = yaml.safe_dump(pod()), time.monotonic() + DEADLINE
    while True:
        done = await asyncio.to_thread(kubectl, "create", "-f", "-", input=text, namespace=namespace, check=False)
        if done.returncode == 0:
            break
        assert time.monotonic() < give_up, done.stderr
    assert done.stderr == "Warning: TokenBudget team/m runs low\n"


async def test_unmetered_workloads_are_not_brought_to_the_webhook(
    running: Running, namespace: str, create: Create
) -> None:
    running.verdicts[namespace] = GateVerdict(open=False, message=SPENT)
    before = await running.reviews()
    assert await create(pod(metered=None)) == ""
    assert [await create(workload(kind, kind.lower(), metered=None)) for kind in WORKLOADS] == [""] * len(WORKLOADS)
    assert await running.reviews() == before


async def test_in_a_labelled_namespace_unmarked_pods_are_brought(
    running: Running, namespace: str, create: Create, kubectl: Kubectl
) -> None:
    running.verdicts[namespace] = GateVerdict(open=False, message=SPENT)
    await asyncio.to_thread(kubectl, "label", "namespace", namespace, "tollkeeper.dev/metered=true")
    said = await until(lambda: create(pod(f"plain-{time.monotonic_ns()}", metered=None)), "webhook")
    assert SPENT in said


async def test_without_a_tenant_the_refusal_says_so(running: Running, namespace: str, create: Create) -> None:
    assert f"no tenant owns the namespace {namespace}" in await create(pod())


async def test_without_a_gate_the_refusal_says_that_it_is_being_prepared(family: str, create: Create) -> None:
    assert f"the gate of the namespace {family} is being prepared; try again" in await create(workload("Deployment"))


async def test_with_the_webhook_stopped_the_policies_decide(
    running: Running, operator: Kube, namespace: str, create: Create
) -> None:
    await running.webhook.stop()
    assert await create(pod("plain", metered=None)) == ""
    assert await create(workload("Deployment", metered=None)) == ""
    await set_gate(operator, namespace, is_open=False, message=SPENT)
    said = await until(lambda: create(pod()), SPENT)
    assert "ValidatingAdmissionPolicy 'tollkeeper-gate-pods'" in said
    assert SPENT in await create(workload("Job"))
    await set_gate(operator, namespace, is_open=True)
    give_up = time.monotonic() + DEADLINE
    while said := await create(pod("metered")):
        assert time.monotonic() < give_up, said


async def test_with_the_webhook_stopped_our_own_objects_wait(running: Running, create: Create) -> None:
    await running.webhook.stop()
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
