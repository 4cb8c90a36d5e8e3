"""The local cluster is a real API server with real controllers, and its own kubectl."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tollkeeper_cluster import ContextError, Kubectl, LocalCluster, find_cluster

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def second(cluster: LocalCluster) -> Iterator[LocalCluster]:
    """Another cluster, beside the session's."""
    with LocalCluster.start() as other:
        yield other


def as_user(cluster: LocalCluster, kubeconfig: Path) -> Kubectl:
    return Kubectl(cluster.kubectl, {**cluster.environment(), "KUBECONFIG": str(kubeconfig)})


def test_kubectl_and_the_api_server_are_of_the_same_version(kubectl: Kubectl) -> None:
    lines = kubectl("version").stdout.splitlines()
    versions = {line.rpartition(" ")[2] for line in lines if line.startswith(("Client", "Server"))}
    assert versions == {"v1.36.3"}


def test_a_new_namespace_gets_its_default_service_account(kubectl: Kubectl, namespace: str) -> None:
    kubectl("get", "serviceaccount", "default", namespace=namespace)


def test_a_deployment_makes_a_pod_object(kubectl: Kubectl, namespace: str) -> None:
    kubectl("create", "deployment", "web", "--image=example", namespace=namespace)
    kubectl("wait", "--for=create", "pod", "-l=app=web", "--timeout=30s", namespace=namespace)
    phases = kubectl("get", "pods", "-l=app=web", "-o=jsonpath={.items[*].status.phase}", namespace=namespace).stdout
    assert phases == "Pending"


def test_a_deleted_namespace_ends(kubectl: Kubectl) -> None:
    kubectl("create", "namespace", "short-lived")
    kubectl("delete", "namespace", "short-lived", "--wait", "--timeout=40s")
    assert "NotFound" in kubectl("get", "namespace", "short-lived", check=False).stderr


def test_a_service_account_token_is_accepted(cluster: LocalCluster, kubectl: Kubectl, namespace: str) -> None:
    token = kubectl("create", "token", "default", namespace=namespace).stdout.strip()
    authority = cluster.folder / "authority.crt"
    reached = [f"--server={cluster.server}", f"--certificate-authority={authority}", f"--token={token}"]
    nobody = Kubectl(cluster.kubectl, {**cluster.environment(), "KUBECONFIG": "/dev/null"})
    who = json.loads(nobody("auth", "whoami", "-o=json", *reached).stdout)
    assert who["status"]["userInfo"]["username"] == f"system:serviceaccount:{namespace}:default"


def test_a_user_is_who_the_kubeconfig_says_and_has_no_rights_of_its_own(cluster: LocalCluster) -> None:
    alice = as_user(cluster, cluster.kubeconfig_for("alice@example.com", ("research", "leads"), context="as-alice"))
    who = json.loads(alice("auth", "whoami", "-o=json").stdout)["status"]["userInfo"]
    assert who["username"] == "alice@example.com"
    assert set(who["groups"]) == {"research", "leads", "system:authenticated"}
    assert alice("config", "current-context").stdout.strip() == "as-alice"
    assert "Forbidden" in alice("get", "secrets", check=False).stderr


def test_kubeconfig_files_are_for_their_owner_alone(cluster: LocalCluster) -> None:
    files = [cluster.kubeconfig, cluster.kubeconfig_for("bob"), cluster.folder / "service-account.key"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert cluster.folder.stat().st_mode & 0o777 == 0o700


def test_two_clusters_side_by_side_share_nothing(cluster: LocalCluster, second: LocalCluster, kubectl: Kubectl) -> None:
    other = Kubectl(second.kubectl, second.environment())
    other("create", "namespace", "only-in-the-second")
    assert second.server != cluster.server
    assert "NotFound" in kubectl("get", "namespace", "only-in-the-second", check=False).stderr
    authority = kubectl("get", "configmap", "kube-root-ca.crt", "-o=jsonpath={.data}").stdout
    assert authority != other("get", "configmap", "kube-root-ca.crt", "-o=jsonpath={.data}").stdout


def test_a_stopped_api_server_refuses_connections_and_comes_back_with_its_data(second: LocalCluster) -> None:
    other = Kubectl(second.kubectl, second.environment())
    other("create", "namespace", "remembered")
    address = second.server
    second.stop_api_server()
    assert "refused" in other("get", "namespace", "remembered", check=False).stderr
    second.start_api_server()
    assert second.server == address
    other("get", "namespace", "remembered")


def test_a_named_context_is_used_and_outlives_us(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig_for("carol", ("system:masters",), context="theirs")))
    with find_cluster("theirs") as found:
        there = Kubectl(found.kubectl, found.environment())
        assert there("config", "current-context").stdout.strip() == found.context == "theirs"
        assert found.kubeconfig != cluster.kubeconfig
        there("get", "namespaces")
    assert not found.kubeconfig.exists()
    Kubectl(cluster.kubectl, cluster.environment())("get", "namespaces")


def test_a_context_that_does_not_exist_is_named_in_the_error(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    with pytest.raises(ContextError, match="no-such-context"):
        find_cluster("no-such-context")


def test_a_context_whose_api_server_is_gone_is_refused(second: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(second.kubeconfig))
    second.stop_api_server()
    try:
        with pytest.raises(ContextError, match="does not answer"):
            find_cluster("tollkeeper-local")
    finally:
        second.start_api_server()
