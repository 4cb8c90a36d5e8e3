"""Manifests as users write them: pods, workloads of every kind, gates."""

from collections.abc import Callable
from typing import Any

from tollkeeper_kube import Kube

Manifest = dict[str, Any]
Apply = Callable[..., str]
"""Creates a manifest; answers empty, or what was refused."""


def pod(name: str = "agent", metered: str | None = "true") -> Manifest:
    labels = {} if metered is None else {"tollkeeper.dev/metered": metered}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": pod_spec(),
    }


def pod_spec(restart: str = "Always") -> Manifest:
    return {"restartPolicy": restart, "containers": [{"name": "app", "image": "example.test/app:1"}]}


def workload(kind: str, name: str = "agents", metered: str | None = "true") -> Manifest:
    labels = {"app": name} | ({} if metered is None else {"tollkeeper.dev/metered": metered})
    runs_once = kind in ("Job", "CronJob")
    template = {"metadata": {"labels": labels}, "spec": pod_spec("Never" if runs_once else "Always")}
    selected: Manifest = {"template": template, "selector": {"matchLabels": {"app": name}}}
    specs: dict[str, Manifest] = {
        "Job": {"template": template},
        "CronJob": {"schedule": "@daily", "jobTemplate": {"spec": {"template": template}}},
        "StatefulSet": {**selected, "serviceName": name},
    }
    return {
        "apiVersion": "batch/v1" if runs_once else "apps/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": specs.get(kind, selected),
    }


WORKLOADS = ("Job", "CronJob", "Deployment", "StatefulSet", "ReplicaSet", "DaemonSet")


def gate(namespace: str) -> Manifest:
    return {
        "apiVersion": "tollkeeper.dev/v1alpha1",
        "kind": "WorkloadGate",
        "metadata": {"name": "tollkeeper", "namespace": namespace},
    }


async def set_gate(operator: Kube, namespace: str, *, is_open: bool, message: str = "") -> None:
    """Write a gate's verdict as the operator does."""
    await operator.apply(gate(namespace))
    await operator.apply_status({**gate(namespace), "status": {"open": is_open, "message": message or "open"}})


def tenant(name: str, parent: str | None = None, namespaces: tuple[str, ...] = (), **spec: object) -> Manifest:
    above = {"parentRef": {"name": parent}} if parent else {}
    owned = {"namespaces": {"names": list(namespaces)}} if namespaces else {}
    return ours("Tenant", name, {"level": "Team", **above, **owned, **spec})


def budget(name: str, of: str, **spec: object) -> Manifest:
    return ours("TokenBudget", name, {"tenantRef": {"name": of}, "allocation": "10.00", **spec})


def quota(name: str, of: str, **limit: object) -> Manifest:
    whole = {"name": "daily", "amount": 1000, "window": {"every": "Day"}, **limit}
    return ours("TokenQuota", name, {"tenantRef": {"name": of}, "limits": [whole]})


def grant(name: str, to: str, amount: str | float) -> Manifest:
    return ours("TokenGrant", name, {"budgetRef": {"name": to}, "amount": amount})


def ours(kind: str, name: str, spec: Manifest) -> Manifest:
    return {"apiVersion": "tollkeeper.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
