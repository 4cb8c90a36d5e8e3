"""The watches: they leave nothing behind when they end, however slow the server is to say goodbye."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import kopf
import pytest

from tollkeeper_cluster import LocalCluster
from tollkeeper_kube import Informer, connect
from tollkeeper_kube.kinds import NAMESPACE
from tollkeeper_operator.kopf_watch import KopfWatch

pytestmark = pytest.mark.cluster

NAME = "seen-by-an-informer"


@dataclass
class Relay:
    """Passes bytes on between a client and a server; those of the server so many seconds late."""

    port: int = 0
    late_seconds: float = 0.0


@asynccontextmanager
async def relay_to(host: str, port: int) -> AsyncIterator[Relay]:
    relay, pumping = Relay(), set[asyncio.Task[None]]()

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, from_server: bool) -> None:
        try:
            while chunk := await source.read(65536):
                await asyncio.sleep(relay.late_seconds * from_server)
                sink.write(chunk)
                await sink.drain()
        except ConnectionError:
            pass
        finally:
            sink.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_server = await asyncio.open_connection(host, port)
        pumping.add(asyncio.create_task(pump(reader, to_server[1], from_server=False)))
        pumping.add(asyncio.create_task(pump(to_server[0], writer, from_server=True)))

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        relay.port = server.sockets[0].getsockname()[1]
        yield relay
        server.close()
        await asyncio.gather(*pumping)


async def test_no_connection_outlives_the_watch(installed: LocalCluster) -> None:
    async with await connect(kubeconfig=installed.kubeconfig) as kube:
        us = await kube.credentials()
    address = urlsplit(us.server)
    assert address.hostname is not None
    async with relay_to(address.hostname, address.port or 443) as relay:

        async def login() -> kopf.ConnectionInfo:
            return kopf.ConnectionInfo(
                server=f"https://127.0.0.1:{relay.port}",
                ca_path=us.ca_file,
                certificate_path=us.certificate_file,
                private_key_path=us.key_file,
                token=us.token,
            )

        heard, stop = asyncio.Event(), asyncio.Event()
        watch = KopfWatch((NAMESPACE,), login, lambda *_: heard.set())
        watching = asyncio.create_task(watch.run(stop))
        async with asyncio.timeout(20):
            await heard.wait()
        relay.late_seconds = 0.5
        stop.set()
        await watching
    # A transport that was never closed says so when it is thrown away, and that fails this test.
    gc.collect()


async def test_no_connection_outlives_an_informer(installed: LocalCluster, tmp_path: Path) -> None:
    async with await connect(kubeconfig=installed.kubeconfig) as kube:
        address = urlsplit((await kube.credentials()).server)
    assert address.hostname is not None
    async with relay_to(address.hostname, address.port or 443) as relay:
        way = tmp_path / "kubeconfig"
        way.write_text(installed.kubeconfig.read_text().replace(f":{address.port}", f":{relay.port}"))

        async def inform() -> None:
            async with await connect(kubeconfig=way) as kube:
                informer = Informer(kube, NAMESPACE)
                await informer.start()
                await kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME}})
                async with asyncio.timeout(10):
                    while ("", NAME) not in informer.objects:  # noqa: ASYNC110 - it tells nobody
                        await asyncio.sleep(0.01)
                relay.late_seconds = 0.5
                await informer.stop()

        # A loop of its own, which ends with the last line: what is open then stays open.
        await asyncio.to_thread(asyncio.run, inform())
        gc.collect()
