"""The informer: what it holds is what the server holds, whatever happens to the connection."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

import tollkeeper_kube as edge
from tollkeeper_cluster import LocalCluster
from tollkeeper_kube import Change, Informer, Kube, kinds

pytestmark = pytest.mark.cluster
DEADLINE = 20.0


@pytest.fixture
async def kube(cluster: LocalCluster) -> AsyncIterator[Kube]:
    async with await edge.connect(kubeconfig=cluster.kubeconfig) as connected:
        yield connected


def config_map(namespace: str, name: str, **data: str) -> edge.Object:
    about = {"name": name, "namespace": namespace, "labels": {"watched": "yes"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": data}


class Heard:
    """Every change that an informer told of, and a way to wait for one."""

    def __init__(self) -> None:
        self.changes: asyncio.Queue[Change] = asyncio.Queue()

    def __call__(self, change: Change) -> None:
        self.changes.put_nowait(change)

    async def next(self) -> Change:
        async with asyncio.timeout(DEADLINE):
            return await self.changes.get()


@pytest.fixture
async def heard() -> Heard:
    return Heard()


@pytest.fixture
async def informer(kube: Kube, namespace: str, heard: Heard) -> AsyncIterator[Informer]:
    await kube.create(config_map(namespace, "first"))
    watching = Informer(kube, kinds.CONFIG_MAP, namespace, "watched=yes", changed=heard)
    await watching.start()
    assert (await heard.next()).key == (namespace, "first")
    yield watching
    await watching.stop()


async def test_it_begins_with_what_is_there(informer: Informer, namespace: str) -> None:
    assert set(informer.objects) == {(namespace, "first")}
    assert informer.synced
    assert informer.fault is None
    assert (informer.age_seconds() or 0) < DEADLINE


async def test_it_hears_what_comes_changes_and_goes(
    informer: Informer, kube: Kube, namespace: str, heard: Heard
) -> None:
    await kube.create(config_map(namespace, "second"))
    came = await heard.next()
    await kube.apply(config_map(namespace, "second", colour="red"))
    changed = await heard.next()
    await kube.delete(kinds.CONFIG_MAP, "second", namespace)
    went = await heard.next()
    assert (came.old, changed.old, went.new) == (None, came.new, None)
    assert changed.new is not None
    assert changed.new["data"] == {"colour": "red"}
    assert set(informer.objects) == {(namespace, "first")}


async def test_one_that_never_syncs_says_what_is_wrong(kube: Kube) -> None:
    informer = Informer(kube, kinds.Kind(kinds.GROUP, "v9", "Toll", "tolls"))
    with pytest.raises(edge.MissingKind):
        await informer.start(seconds=1)


async def until_it_fails(informer: Informer) -> None:
    async with asyncio.timeout(DEADLINE):
        while informer.fault is None:  # noqa: ASYNC110 - the informer has no event for it
            await asyncio.sleep(0.01)
    assert isinstance(informer.fault, edge.ApiUnreachable)


async def forget_the_past(own: LocalCluster, revision: str) -> None:
    """Compact etcd, so that a watch from before `revision` is too old."""
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(own.folder / "etcd.sock"))) as etcd:
        body = {"revision": revision, "physical": True}
        async with etcd.post("http://etcd/v3/kv/compaction", json=body) as answer:
            assert answer.status == 200, await answer.text()


async def test_what_changed_while_the_server_was_away_is_told_afterwards() -> None:
    with LocalCluster.start() as own:
        async with await edge.connect(kubeconfig=own.kubeconfig) as kube:
            heard = Heard()
            first = await kube.create(config_map("default", "goes"))
            informer = Informer(kube, kinds.CONFIG_MAP, "default", "watched=yes", changed=heard)
            await informer.start()
            assert (await heard.next()).key == ("default", "goes")

            await asyncio.to_thread(own.stop_api_server)
            await until_it_fails(informer)
            await asyncio.to_thread(own.start_api_server)
            await kube.delete(kinds.CONFIG_MAP, "goes", "default")
            last = await kube.create(config_map("default", "comes"))
            told = [await heard.next(), await heard.next()]
            assert {(change.key[1], change.new is None) for change in told} == {("goes", True), ("comes", False)}
            await informer.stop()

            await asyncio.to_thread(own.stop_api_server)
            await forget_the_past(own, last["metadata"]["resourceVersion"])
            await asyncio.to_thread(own.start_api_server)
            with pytest.raises(edge.Expired):
                async for _ in kube.watch(kinds.CONFIG_MAP, resource_version=first["metadata"]["resourceVersion"]):
                    pass
