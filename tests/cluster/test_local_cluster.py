"""The local cluster is a real API server with real controllers."""

import pytest

from tollkeeper_cluster import Kubectl

pytestmark = pytest.mark.cluster


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
