"""The verbs of the API server's edge, on a real API server."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import tollkeeper_kube as edge
from tollkeeper_cluster import LocalCluster
from tollkeeper_kube import Kube, kinds

pytestmark = pytest.mark.cluster


@pytest.fixture
async def kube(cluster: LocalCluster) -> AsyncIterator[Kube]:
    async with await edge.connect(kubeconfig=cluster.kubeconfig) as connected:
        yield connected


def config_map(namespace: str, name: str = "settings", **data: str) -> edge.Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": {"made-by": "test"}},
        "data": data,
    }


async def test_applying_creates_and_then_changes(kube: Kube, namespace: str) -> None:
    await kube.apply(config_map(namespace, colour="red"))
    await kube.apply(config_map(namespace, colour="blue"))
    found = await kube.get(kinds.CONFIG_MAP, "settings", namespace)
    assert found["data"] == {"colour": "blue"}
    assert {entry["manager"] for entry in found["metadata"]["managedFields"]} == {edge.FIELD_MANAGER}


async def test_applying_takes_fields_over_from_others(kube: Kube, namespace: str, kubectl: object) -> None:
    await kube.create(config_map(namespace, colour="red"))
    await kube.patch(kinds.CONFIG_MAP, "settings", {"data": {"colour": "green"}}, namespace)
    assert (await kube.apply(config_map(namespace, colour="blue")))["data"] == {"colour": "blue"}


EVERY_CHARACTER = {
    "first-plane": "".join(map(chr, range(0xD800))) + "".join(map(chr, range(0xE000, 0x10000))),
    "others": "".join(chr(plane << 16 | place) for plane in range(1, 17) for place in (0, 0xF600, 0xFFFE, 0xFFFF)),
    "written": '用户😀 jürgen\u2028\u0085\ufeff \\ud83d \\ " \\u0041 \x7f',
}


async def test_every_character_comes_to_the_server_as_it_is_by_whichever_verb(kube: Kube, namespace: str) -> None:
    """What is applied is read as YAML there, which has other rules for escapes, breaks and control characters than JSON."""
    made = config_map(namespace, **EVERY_CHARACTER)
    answers = [
        await kube.create(made),
        await kube.apply(made),
        await kube.replace(made),
        await kube.patch(kinds.CONFIG_MAP, "settings", {"data": EVERY_CHARACTER}, namespace),
        await kube.get(kinds.CONFIG_MAP, "settings", namespace),
    ]
    for answer in answers:
        assert answer["data"] == EVERY_CHARACTER


async def test_half_a_character_comes_to_the_server_as_the_sign_for_what_cannot_be_said(
    kube: Kube, namespace: str
) -> None:
    """No text has any on its own; none may keep what stands beside it from being written."""
    for verb in (kube.create, kube.apply):
        answer = await verb(config_map(namespace, halves="a\ud83d b\udcff", whole="c"))
        assert answer["data"] == {"halves": "a\ufffd b\ufffd", "whole": "c"}


async def test_a_dry_run_changes_nothing(kube: Kube, namespace: str) -> None:
    await kube.apply(config_map(namespace), dry_run=True)
    assert await kube.find(kinds.CONFIG_MAP, "settings", namespace) is None


async def test_a_list_is_whole_however_many_pages_it_takes(
    kube: Kube, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tollkeeper_kube.kube.PAGE", 2)
    await asyncio.gather(*(kube.create(config_map(namespace, f"map-{number}")) for number in range(7)))
    found = await kube.list(kinds.CONFIG_MAP, namespace, "made-by=test")
    assert {item["metadata"]["name"] for item in found} == {f"map-{number}" for number in range(7)}
    assert {item["kind"] for item in found} == {"ConfigMap"}


async def test_an_object_that_is_not_there_is_not_found(kube: Kube, namespace: str) -> None:
    with pytest.raises(edge.NotFound, match=f'^reading ConfigMap {namespace}/nothing: configmaps "nothing" not found$'):
        await kube.get(kinds.CONFIG_MAP, "nothing", namespace)
    with pytest.raises(edge.NotFound):
        await kube.delete(kinds.CONFIG_MAP, "nothing", namespace)


async def test_creating_twice_says_that_it_exists(kube: Kube, namespace: str) -> None:
    await kube.create(config_map(namespace))
    with pytest.raises(edge.AlreadyExists, match="already exists"):
        await kube.create(config_map(namespace))


async def test_replacing_what_somebody_changed_is_a_conflict(kube: Kube, namespace: str) -> None:
    seen = await kube.create(config_map(namespace))
    await kube.apply(config_map(namespace, colour="red"))
    with pytest.raises(edge.Conflict):
        await kube.replace(seen)


async def test_an_object_that_cannot_be_is_rejected(kube: Kube, namespace: str) -> None:
    with pytest.raises(edge.Rejected, match=r"^creating ConfigMap .*/Not A Name: .*RFC 1123"):
        await kube.create(config_map(namespace, "Not A Name"))


async def test_a_missing_kind_says_how_to_install_it(kube: Kube) -> None:
    unknown = kinds.Kind(kinds.GROUP, "v9", "Toll", "tolls")
    for call in (kube.list(unknown), kube.get(unknown, "any", "default")):
        with pytest.raises(edge.MissingKind, match=r"tollkeeper crds \| kubectl apply -f -"):
            await call


async def test_a_user_without_rights_is_told_so(cluster: LocalCluster) -> None:
    async with await edge.connect(kubeconfig=cluster.kubeconfig_for("alice", ())) as alice:
        assert await alice.whoami() == "alice"
        with pytest.raises(edge.Forbidden, match='User "alice" cannot list'):
            await alice.list(kinds.SECRET, "default")


async def test_nobody_at_the_address_is_one_clear_line(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        "{apiVersion: v1, kind: Config, current-context: x, contexts: [{name: x, context: {cluster: x, user: x}}],"
        " clusters: [{name: x, cluster: {server: 'https://127.0.0.1:1'}}], users: [{name: x, user: {token: x}}]}"
    )
    with pytest.raises(edge.ApiUnreachable, match=r"^connecting|cannot reach the API server at https://127.0.0.1:1 "):
        await edge.connect(kubeconfig=config)


async def test_an_unknown_context_is_named(cluster: LocalCluster) -> None:
    with pytest.raises(edge.NoCluster, match=r"context 'nowhere' of .*--context"):
        await edge.connect("nowhere", cluster.kubeconfig)


@pytest.mark.parametrize("text", [None, "", "[]", "kind: Config", "{: }", "{clusters: 3, contexts: 4}"])
async def test_a_kubeconfig_that_is_none_is_one_clear_line(tmp_path: Path, text: str | None) -> None:
    config = tmp_path / "config"
    if text is not None:
        config.write_text(text)
    with pytest.raises(edge.NoCluster, match=r"^no connection from .*config: .*KUBECONFIG$"):
        await edge.connect(kubeconfig=config)
