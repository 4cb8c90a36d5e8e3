"""Fixtures of the end-to-end tests: the simulated provider, a cluster identity for `tollkeeper up`, and a tenant to charge."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.programs import Up, simulated_provider, wait_for

from tollkeeper_cluster import Kubectl, LocalCluster

OPERATOR = "tollkeeper-operator"


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[LocalCluster]:
    """A control plane of this module's own: `tollkeeper up` installs policies that hold for a whole cluster."""
    with LocalCluster.start() as running:
        yield running


@pytest.fixture
def own_kubectl(own_cluster: LocalCluster) -> Kubectl:
    """kubectl as the administrator of the module's own cluster."""
    return Kubectl(own_cluster.kubectl, own_cluster.environment())


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The simulated provider's address and its book."""
    with simulated_provider(tmp_path) as running:
        yield running


@pytest.fixture
def up(own_cluster: LocalCluster, provider: tuple[str, Path], tmp_path: Path) -> Iterator[Up]:
    """`tollkeeper up`, not yet started, as an identity of its own; ended afterwards."""
    kubeconfig = own_cluster.kubeconfig_for(OPERATOR, ("system:masters",))
    running = Up(tmp_path, {**own_cluster.environment(), "KUBECONFIG": str(kubeconfig)}, provider[0])
    # Each test begins with books of its own; the cluster remembers those of the test before.
    kubectl = Kubectl(own_cluster.kubectl, own_cluster.environment())
    kubectl("delete", "lease", "tollkeeper-ledger", "-n", "tollkeeper-system", "--ignore-not-found")
    yield running
    running.kill()


POLICY = """
apiVersion: v1
kind: Namespace
metadata: {{name: {name}}}
---
apiVersion: tollkeeper.dev/v1alpha1
kind: Tenant
metadata: {{name: {name}}}
spec: {{displayName: Test, level: Team, namespaces: {{names: [{name}]}}}}
---
apiVersion: tollkeeper.dev/v1alpha1
kind: TokenBudget
metadata: {{name: monthly, namespace: {name}}}
spec:
  tenantRef: {{name: {name}}}
  unit: USD
  allocation: "{allocation}"
  period: {{every: Month, timeZone: Europe/Madrid}}
  minimumBalance: "0"
"""


def apply_policy(kubectl: Kubectl, name: str, allocation: str) -> None:
    """A namespace, its tenant and its monthly budget, in force."""
    policy = POLICY.format(name=name, allocation=allocation)
    namespace, _, rest = policy.partition("---")
    kubectl("apply", "-f", "-", input=namespace)
    kubectl("apply", "-f", "-", input=rest)
    wait_for("the budget to have a phase", lambda: phase_of(kubectl, name))


def phase_of(kubectl: Kubectl, name: str) -> str:
    """The budget's phase as `kubectl` shows it."""
    return kubectl("get", "tokenbudget", "monthly", "-o", "jsonpath={.status.phase}", namespace=name).stdout
