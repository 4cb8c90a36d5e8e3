"""What the operator does while the API server or the ledger cannot be reached, and afterwards."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import aiohttp
import pytest
from tests.operator.conftest import SETTINGS, Start, eventually, put_kinds
from tests.operator.test_reconciling import DOLLAR, budget, tenant

from tollkeeper.accounts import Account
from tollkeeper.errors import Unavailable
from tollkeeper.limits import Limit
from tollkeeper_cluster import LocalCluster
from tollkeeper_kube.kinds import TOKEN_BUDGET, WORKLOAD_GATE
from tollkeeper_operator import OperatorSettings

pytestmark = pytest.mark.cluster


@pytest.fixture
def own_cluster() -> Iterator[LocalCluster]:
    """A cluster that nobody else minds losing."""
    with LocalCluster.start() as own:
        asyncio.run(put_kinds(own))
        yield own


async def answer(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as response:
        return response.status, await response.text()


async def test_an_outage_of_the_api_server_costs_nothing_but_time(
    start: Start, own_cluster: LocalCluster, free_port: int
) -> None:
    settings: OperatorSettings = replace(SETTINGS, port=free_port, relist=2.0)
    async with start(cluster=own_cluster, settings=settings) as running:
        await running.run("create", "namespace", "acme")
        await running.apply(tenant("acme") + budget("acme"))
        await running.until(TOKEN_BUDGET, "monthly", "acme", phase="Sufficient")
        assert await answer(free_port, "/readyz") == (200, "[+] first round: ok\n[+] cluster: ok\n[+] ledger: ok\n")
        await asyncio.to_thread(own_cluster.stop_api_server)

        async def told() -> bool:
            status, text = await answer(free_port, "/readyz")
            return status == 503 and "[-] cluster: " in text

        await eventually(told, lambda: "readyz does not say that the cluster is gone")
        # The ledger goes on, and so do the verdicts that the webhook reads.
        await running.spend("acme", DOLLAR, times=10)

        async def shut() -> bool:
            verdict = running.operator.verdict("acme")
            return verdict is not None and not verdict.open

        await eventually(shut, lambda: "the verdict stays open")
        status, text = await answer(free_port, "/healthz")
        assert (status, "[+] decisions: ok" in text, "[-] cluster: " in text) == (200, True, True)
        await asyncio.to_thread(own_cluster.start_api_server)
        await running.until(WORKLOAD_GATE, "tollkeeper", "acme", open=False)
        await running.until(TOKEN_BUDGET, "monthly", "acme", phase="Insufficient", spent="10.00")
        await running.run("delete", "tokenbudget", "monthly", namespace="acme")
        await running.until(WORKLOAD_GATE, "tollkeeper", "acme", open=True)
        status, text = await answer(free_port, "/metrics")
        assert 'tollkeeper_operator_gates{state="open"} 1.0' in text


async def test_a_ledger_that_cannot_be_read_opens_no_gate_and_makes_numbers_stale(
    start: Start, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start() as running:
        await running.apply(tenant(namespace) + budget(namespace, allocation="0"))
        await running.until(WORKLOAD_GATE, "tollkeeper", namespace, open=False)
        opened: Callable[..., Any] = running.ledger.open

        async def full(limit: Limit, key: tuple[str, ...], at: datetime) -> Account:
            raise Unavailable("ledger ledger.sqlite: database or disk is full; free some space")

        monkeypatch.setattr(running.ledger, "open", full)
        await running.apply(budget(namespace, allocation="50.00"))

        async def stale() -> bool:
            conditions = (await running.status(TOKEN_BUDGET, "monthly", namespace)).get("conditions", ())
            return any(one["type"] == "UsageFresh" and "disk is full" in one["message"] for one in conditions)

        await eventually(stale, lambda: "the status does not say that the ledger is full")
        verdict = running.operator.verdict(namespace)
        assert verdict is not None
        assert not verdict.open
        monkeypatch.setattr(running.ledger, "open", opened)
        await running.until(TOKEN_BUDGET, "monthly", namespace, balance="50.00", phase="Sufficient")
        await running.until(WORKLOAD_GATE, "tollkeeper", namespace, open=True)


async def test_a_taken_port_is_one_clear_line(start: Start, free_port: int) -> None:
    taken = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", free_port)
    async with taken:
        with pytest.raises(Unavailable, match=f"cannot listen on 127.0.0.1:{free_port}"):
            async with start(settings=replace(SETTINGS, port=free_port)):
                pass
