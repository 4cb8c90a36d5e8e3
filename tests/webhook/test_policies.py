"""What the API server refuses by itself, with nothing of ours running (I7, K1, K2, K4, K5)."""

import asyncio
import time

import pytest

import tollkeeper_kube as edge
from tests.webhook.manifests import WORKLOADS, Apply, gate, pod, set_gate, workload
from tollkeeper_cluster import Kubectl, LocalCluster
from tollkeeper_kube import Kube, kinds

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("installed")]
DEADLINE = 20.0
SPENT = "TokenBudget team/monthly is used up: balance -0.11 USD, minimum -0.12, resets 2026-12-01 00:00 UTC"
METERED = "tollkeeper.dev/metered=true"


async def refused(apply: Apply, text: str) -> None:
    """Wait until a metered pod is refused with these words: policies take effect a moment after they are written."""
    until = time.monotonic() + DEADLINE
    said = ""
    while text not in said:
        assert time.monotonic() < until, f"not refused with {text!r} but {said!r}"
        said = await asyncio.to_thread(apply, pod(f"probe-{time.monotonic_ns()}"))


async def test_a_metered_pod_without_a_gate_is_refused(apply: Apply) -> None:
    await refused(apply, "no params found")


@pytest.fixture
async def closed(operator: Kube, namespace: str, apply: Apply) -> str:
    await set_gate(operator, namespace, is_open=False, message=SPENT)
    await refused(apply, SPENT)
    return namespace


async def test_a_closed_gate_refuses_metered_pods_with_its_message(closed: str, apply: Apply) -> None:
    said = apply(pod())
    assert "Forbidden" in said
    assert SPENT in said


@pytest.mark.parametrize("kind", WORKLOADS)
async def test_a_closed_gate_refuses_workloads_of_metered_pods(closed: str, apply: Apply, kind: str) -> None:
    assert SPENT in apply(workload(kind))


async def test_a_closed_gate_lets_pass_what_is_not_metered(closed: str, apply: Apply) -> None:
    passed = [apply(pod(metered=None)), *(apply(workload(kind, kind.lower(), metered=None)) for kind in WORKLOADS)]
    assert passed == [""] * len(passed)


async def test_an_open_gate_lets_metered_workloads_pass(operator: Kube, namespace: str, apply: Apply) -> None:
    await set_gate(operator, namespace, is_open=True)
    await passes(apply)
    passed = [apply(workload(kind, kind.lower())) for kind in WORKLOADS]
    assert passed == [""] * len(passed)


async def passes(apply: Apply) -> None:
    until = time.monotonic() + DEADLINE
    while said := await asyncio.to_thread(apply, pod(f"probe-{time.monotonic_ns()}")):
        assert time.monotonic() < until, said


async def test_a_gate_takes_effect_at_the_next_request(closed: str, operator: Kube, apply: Apply) -> None:
    for is_open in (True, False, True):
        await set_gate(operator, closed, is_open=is_open, message=SPENT)
        # The API server's own watch brings the gate to its policies: milliseconds, never none.
        await (passes(apply) if is_open else refused(apply, SPENT))


async def test_a_gate_without_a_verdict_is_closed(operator: Kube, namespace: str, apply: Apply) -> None:
    await operator.apply(gate(namespace))
    await refused(apply, "has no verdict yet")


async def test_without_a_gate_unmetered_workloads_pass(apply: Apply) -> None:
    passed = [apply(pod(metered=None)), *(apply(workload(kind, kind.lower(), metered=None)) for kind in WORKLOADS)]
    assert passed == [""] * len(passed)


async def test_in_a_labelled_namespace_every_pod_needs_the_gate(closed: str, apply: Apply, kubectl: Kubectl) -> None:
    kubectl("label", "namespace", closed, METERED)
    until = time.monotonic() + DEADLINE
    while SPENT not in apply(pod("plain", metered=None)):
        kubectl("delete", "pod", "plain", namespace=closed)
        assert time.monotonic() < until
    for kind in WORKLOADS:
        assert SPENT in apply(workload(kind, metered=None))


async def test_a_pod_opts_out_only_where_its_namespace_lets_it(closed: str, apply: Apply, kubectl: Kubectl) -> None:
    kubectl("label", "namespace", closed, METERED)
    until = time.monotonic() + DEADLINE
    while "lets no pod opt out" not in apply(pod("out", metered="false")):
        kubectl("delete", "pod", "out", "--ignore-not-found", namespace=closed)
        assert time.monotonic() < until
    assert "lets no pod opt out" in apply(workload("Deployment", metered="false"))
    kubectl("annotate", "namespace", closed, "tollkeeper.dev/allow-opt-out=true")
    while apply(pod("out", metered="false")):
        assert time.monotonic() < until
    assert apply(workload("Deployment", metered="false")) == ""


async def test_a_pod_whose_label_is_neither_true_nor_false_is_refused(apply: Apply) -> None:
    until = time.monotonic() + DEADLINE
    while 'is "true" or "false"' not in apply(pod(f"odd-{time.monotonic_ns()}", metered="yes")):
        assert time.monotonic() < until


@pytest.mark.parametrize("verb", ["status", "delete", "create"])
async def test_nobody_but_the_operator_writes_gates(closed: str, cluster: LocalCluster, verb: str) -> None:
    async with await edge.connect(kubeconfig=cluster.kubeconfig) as administrator:
        writing = {
            "status": administrator.apply_status({**gate(closed), "status": {"open": True}}),
            "delete": administrator.delete(kinds.WORKLOAD_GATE, "tollkeeper", closed),
            "create": administrator.create(gate("default")),
        }
        with pytest.raises(edge.Rejected, match="Only Tollkeeper's operator writes WorkloadGates"):
            await writing.pop(verb)
        for left in writing.values():
            left.close()


async def test_a_namespace_with_a_gate_can_be_deleted(cluster: LocalCluster, kubectl: Kubectl, operator: Kube) -> None:
    if not cluster.has_controllers:
        pytest.skip("deleting a namespace needs the controller manager")
    kubectl("create", "namespace", "ends")
    await set_gate(operator, "ends", is_open=False, message=SPENT)
    await asyncio.to_thread(kubectl, "delete", "namespace", "ends", "--timeout=60s")


async def test_the_api_server_finds_no_fault_in_the_expressions(operator: Kube) -> None:
    for name in ("gate-pods", "gate-templates", "opt-out", "metered-label", "gate-writers"):
        until = time.monotonic() + DEADLINE
        while "typeChecking" not in (await operator.get(kinds.POLICY, f"tollkeeper-{name}")).get("status", {}):
            assert time.monotonic() < until
            await asyncio.sleep(0.05)
        status = (await operator.get(kinds.POLICY, f"tollkeeper-{name}"))["status"]
        assert status["typeChecking"].get("expressionWarnings", []) == []
