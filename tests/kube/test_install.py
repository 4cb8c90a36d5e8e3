"""Installing kinds and policies: served when it returns, harmless when repeated."""

from collections.abc import AsyncIterator

import pytest

import tollkeeper_kube as edge
from tollkeeper_cluster import LocalCluster
from tollkeeper_kube import Kube, kinds

pytestmark = pytest.mark.cluster


@pytest.fixture
async def kube(cluster: LocalCluster) -> AsyncIterator[Kube]:
    async with await edge.connect(kubeconfig=cluster.kubeconfig) as connected:
        yield connected


def definition(plural: str, kind: str) -> edge.Object:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.install.test"},
        "spec": {
            "group": "install.test",
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }


async def test_an_installed_kind_is_served_at_once(kube: Kube) -> None:
    await edge.install(kube, [definition("tolls", "Toll"), definition("booths", "Booth")])
    assert await kube.list(kinds.Kind("install.test", "v1", "Toll", "tolls")) == ()
    assert await kube.list(kinds.Kind("install.test", "v1", "Booth", "booths")) == ()
    assert await kube.find(kinds.NAMESPACE, edge.SYSTEM_NAMESPACE) is not None


async def test_installing_again_changes_nothing(kube: Kube) -> None:
    await edge.install(kube, [definition("tolls", "Toll")])
    before = await kube.get(kinds.CRD, "tolls.install.test")
    await edge.install(kube, [definition("tolls", "Toll")])
    assert await kube.get(kinds.CRD, "tolls.install.test") == before


async def test_two_kinds_of_one_name_are_refused_with_the_reason(kube: Kube) -> None:
    await edge.install(kube, [definition("gates", "Gate")])
    with pytest.raises(edge.Rejected, match=r"others.install.test: .*Gate.* is already in use; remove"):
        await edge.install(kube, [definition("others", "Gate")])
