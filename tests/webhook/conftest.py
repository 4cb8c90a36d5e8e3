"""A cluster with our kinds and policies in it, and the objects that the tests apply."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import yaml

import tollkeeper_kube as edge
from tests.ledger.conftest import postgres
from tests.webhook.manifests import Apply, Manifest
from tollkeeper.crd import crds
from tollkeeper_cluster import Kubectl, KubectlError, LocalCluster
from tollkeeper_kube import Kube
from tollkeeper_webhook.policies import policies

__all__ = ["postgres"]

OPERATOR = "tollkeeper-operator-of-the-tests"


@pytest.fixture(scope="session")
def operator_config(cluster: LocalCluster, kubectl: Kubectl) -> Path:
    """A kubeconfig of the only user who may write gates."""
    kubectl("create", "clusterrolebinding", OPERATOR, "--clusterrole=cluster-admin", f"--user={OPERATOR}")
    return cluster.kubeconfig_for(OPERATOR)


@pytest.fixture(scope="session")
def installed(cluster: LocalCluster, kubectl: Kubectl, operator_config: Path) -> Iterator[LocalCluster]:
    """Our kinds and policies are in the cluster, and in force."""
    for manifest in crds():
        kubectl("apply", "--server-side", "-f", "-", input=yaml.safe_dump(manifest))
    kubectl(
        "wait", "--for=condition=Established", "--timeout=30s", *(f"crd/{crd['metadata']['name']}" for crd in crds())
    )
    kubectl("create", "namespace", edge.SYSTEM_NAMESPACE, check=False)
    own = policies(OPERATOR)
    for manifest in own:
        kubectl("apply", "--server-side", "-f", "-", input=yaml.safe_dump(manifest))
    yield cluster
    for manifest in own:
        kubectl("delete", manifest["kind"], manifest["metadata"]["name"])


@pytest.fixture
async def operator(installed: LocalCluster, operator_config: Path) -> AsyncIterator[Kube]:
    async with await edge.connect(kubeconfig=operator_config) as connected:
        yield connected


@pytest.fixture
def apply(kubectl: Kubectl, namespace: str) -> Apply:
    """Create a manifest in the test's namespace as the administrator; the answer is empty, or what was refused."""

    def create(manifest: Manifest, in_namespace: str | None = namespace) -> str:
        try:
            kubectl("create", "-f", "-", input=yaml.safe_dump(manifest), namespace=in_namespace)
        except KubectlError as refused:
            return str(refused)
        return ""

    return create
