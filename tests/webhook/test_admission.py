"""Admission as users meet it: a real API server that calls the webhook over TLS."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

import tollkeeper_kube as edge
from tests.webhook.manifests import (
    WORKLOADS,
    Apply,
    Manifest,
    budget,
    grant,
    ours,
    pod,
    quota,
    set_gate,
    tenant,
    workload,
)
from tests.webhook.running import DEADLINE, Running, in_force, until
from tollkeeper.gates import GateVerdict
from tollkeeper_cluster import Kubectl, LocalCluster
from tollkeeper_kube import Kube

# One webhook for all of them: the API server needs a second to learn of each.
pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]
SPENT = "TokenBudget team/monthly is used up: balance -0.11 USD, minimum -0.12, resets 2026-12-01 00:00 UTC"

Create = Callable[[Manifest], Awaitable[str]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(installed: LocalCluster, operator_config: Path) -> AsyncIterator[Running]:
    async with in_force(operator_config) as webhook:
        yield webhook


@pytest_asyncio.fixture(loop_scope="module")
async def operator(running: Running, operator_config: Path) -> AsyncIterator[Kube]:
    async with await edge.connect(kubeconfig=operator_config) as connected:
        yield connected


@pytest.fixture
def create(apply: Apply) -> Create:
    """Create a manifest off the event loop, on which the webhook answers."""

    async def in_thread(manifest: Manifest) -> str:
        return await asyncio.to_thread(apply, manifest)

    return in_thread


@pytest_asyncio.fixture(loop_scope="module")
async def family(running: Running, namespace: str, kubectl: Kubectl) -> AsyncIterator[str]:
    """The tenants `top` → `mine`, which owns the test's namespace; `other` beside them."""
    made = [tenant("top"), tenant("mine", "top", (namespace,)), tenant("other", namespaces=("elsewhere",))]
    await asyncio.to_thread(kubectl, "create", "-f", "-", input=yaml.safe_dump_all(made))
    yield namespace
    await asyncio.to_thread(kubectl, "delete", "tenants", "--all")


async def test_an_object_that_the_server_names_is_checked_too(family: str, operator: Kube) -> None:
    waiting = {**grant("", "later", "5.00"), "metadata": {"generateName": "gift-", "namespace": family}}
    assert (await operator.create(waiting))["metadata"]["name"].startswith("gift-")


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
        "a pattern of redaction that would take too long",
        tenant("recorder", capture={"redact": {"patterns": [{"name": "a", "pattern": "(a?){1000}b"}]}}),
        "spec.capture.redact.patterns[0].pattern: '(a?){1000}b' has more than 2000 states: lower its repetitions",
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


async def test_it_refuses_another_key_for_a_limit_that_counts_already(
    family: str, create: Create, operator: Kube
) -> None:
    assert await create(quota("daily", "mine")) == ""
    changed = quota("daily", "mine", per=["User"])
    with pytest.raises(edge.Rejected, match=r"spec.limits\[0\].per: what was used stands.*give the limit another name"):
        await operator.apply({**changed, "metadata": {"name": "daily", "namespace": family}})


async def test_it_admits_another_match_and_says_what_stays_counted(
    family: str, create: Create, kubectl: Kubectl
) -> None:
    assert await create(budget("monthly", "mine")) == ""
    text = yaml.safe_dump(budget("monthly", "mine", match={"models": ["gpt-5*"]}))
    done = await asyncio.to_thread(kubectl, "apply", "--server-side", "-f", "-", input=text, namespace=family)
    assert "Warning: spec.match: what the former match counted stays counted" in done.stderr


async def test_it_refuses_a_grant_in_another_unit_than_its_budget(family: str, create: Create) -> None:
    assert await create(budget("monthly", "mine")) == ""
    assert "spec.amount: '2M' is not an amount of USD" in await create(grant("tokens", "monthly", "2M"))


async def test_the_system_namespace_may_bind_every_tenant(family: str, apply: Apply) -> None:
    selecting = ours("TokenBudget", "plan", {"tenantSelector": {"matchLabels": {"plan": "free"}}})
    for manifest in (budget("org", "top"), selecting):
        assert await asyncio.to_thread(apply, manifest, edge.SYSTEM_NAMESPACE) == ""


MALFORMED: list[tuple[str, Manifest, str]] = [
    (
        "money without quotes",
        budget("plain", "mine", allocation=25.5),
        "spec.allocation: 25.5 is not an amount: write money as a quoted decimal string such as",
    ),
    (
        "a grant without quotes",
        grant("plain", "monthly", 25.5),
        "spec.amount: 25.5 is not an amount above zero: write money as a quoted decimal string such as",
    ),
    (
        "a price without quotes",
        ours("PriceBook", "plain", {"tools": [{"name": "search", "perCall": 0.04}]}),
        "spec.tools[0].perCall: 0.04 is not money, 0 or above and below 100000: write a quoted decimal string",
    ),
    (
        "a count with decimals",
        quota("plain", "mine", amount=2.5),
        "spec.limits[0].amount: 2.5 is not a count, 0 or above: write a whole number, or one with k, M or G",
    ),
    (
        "a weight without quotes",
        quota("plain", "mine", unit="WeightedTokens", weights={"output": 0.5}),
        "spec.limits[0].weights.output: 0.5 is not a weight from 0 to 9999: write a quoted decimal string",
    ),
    (
        "an invoice's number without quotes",
        ours("TokenGrant", "plain", {"budgetRef": {"name": "monthly"}, "amount": "5.00", "reference": 20261123}),
        "spec.reference: 20261123 is not text in quotes",
    ),
]


@pytest.mark.parametrize(("manifest", "said"), [row[1:] for row in MALFORMED], ids=[row[0] for row in MALFORMED])
async def test_a_value_that_the_schema_refuses_by_its_type_is_refused_in_words(
    family: str, create: Create, manifest: Manifest, said: str
) -> None:
    answer = await create(manifest)
    assert 'admission webhook "forms.tollkeeper.dev" denied the request: ' + said in answer
    assert "must be of type" not in answer


async def test_an_amount_without_quotes_is_refused_in_words_when_it_is_applied_by_the_server(
    family: str, kubectl: Kubectl
) -> None:
    text = yaml.safe_dump(budget("plain", "mine", allocation=25.5))
    done = await asyncio.to_thread(
        kubectl, "apply", "--server-side", "-f", "-", input=text, namespace=family, check=False
    )
    assert "spec.allocation: 25.5 is not an amount: write money as a quoted decimal string" in done.stderr


async def test_a_change_to_a_malformed_value_is_refused_in_words(family: str, create: Create, kubectl: Kubectl) -> None:
    assert await create(budget("monthly", "mine")) == ""
    patch = '{"spec": {"allocation": 25.5}}'
    done = await asyncio.to_thread(
        kubectl, "patch", "tb", "monthly", "--type=merge", "-p", patch, namespace=family, check=False
    )
    assert "spec.allocation: 25.5 is not an amount: write money as a quoted decimal string" in done.stderr


async def test_it_refuses_two_prices_of_one_model_from_one_time(family: str, create: Create) -> None:
    price = {"provider": "openai", "model": "gpt-5*", "perMillion": {"input": "1", "output": "2"}}
    said = await create(ours("PriceBook", "doubled", {"models": [price, price]}))
    assert (
        "spec.models[1]: openai gpt-5* without effectiveFrom has a price already, at spec.models[0]; remove one" in said
    )


async def test_it_refuses_whole_dollars_without_quotes_once_the_budget_says_that_they_are_dollars(
    family: str, create: Create
) -> None:
    assert await create(budget("monthly", "mine")) == ""
    said = await create(grant("plain", "monthly", 25))
    assert "spec.amount: 25 is not an amount of USD" in said
    assert 'create a grant in USD, such as "25.00" with its quotes' in said


async def test_a_grant_that_has_lapsed_is_admitted_with_a_warning_and_may_be_applied_again(
    family: str, create: Create, kubectl: Kubectl
) -> None:
    assert await create(budget("monthly", "mine")) == ""
    old = grant("old", "monthly", "5.00")
    text = yaml.safe_dump({**old, "spec": {**old["spec"], "expiresAt": "2025-11-30T00:00:00Z"}})

    def applied(*changes: str) -> str:
        return kubectl("apply", *changes, "-f", "-", input=text, namespace=family).stderr

    assert "Warning: spec.expiresAt: 2025-11-30T00:00:00Z has passed already" in await asyncio.to_thread(applied)
    await asyncio.to_thread(kubectl, "label", "tg", "old", "team=red", namespace=family)
    assert await asyncio.to_thread(applied, "--server-side", "--force-conflicts") == ""


ADMITTED: list[tuple[str, Manifest, str]] = [
    ("a grant that waits for its budget", grant("early", "later", "5.00"), "there is no TokenBudget later"),
    ("a namespace that does not exist", tenant("early", "top", ("hoem",)), "there is no namespace hoem; see that"),
    ("a level above its parent's", tenant("grand", "top", level="Organization"), "it is the level Organization, and"),
    (
        "borrowing of nobody",
        budget("borrower", "mine", borrowing={"limit": "5.00"}),
        "spec.borrowing: no tenant above mine has a budget that lends to this one",
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
