"""The operator on a real API server: statuses, gates and Events follow objects and balances."""

import asyncio
import base64
import json
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from tests.operator.conftest import Clock, Running, Start, eventually

from tollkeeper.accounts import Account
from tollkeeper.errors import Unavailable
from tollkeeper.keys import KEY_FIELD, KEY_LABEL, ApiKey
from tollkeeper.limits import Limit
from tollkeeper_kube import NotFound
from tollkeeper_kube.kinds import TENANT, TOKEN_BUDGET, TOKEN_GRANT, TOKEN_QUOTA, WORKLOAD_GATE

pytestmark = pytest.mark.cluster

DOLLAR = 10**9
EXAMPLES = Path(__file__).parents[2] / "examples"


def tenant(namespace: str) -> str:
    return f"""---
apiVersion: tollkeeper.dev/v1alpha1
kind: Tenant
metadata: {{name: {namespace}}}
spec: {{displayName: Research, level: Department, namespaces: {{names: [{namespace}]}}}}
"""


def budget(namespace: str, allocation: str = "10.00", tenant: str = "", period: str = "Month") -> str:
    return f"""---
apiVersion: tollkeeper.dev/v1alpha1
kind: TokenBudget
metadata: {{name: monthly, namespace: {namespace}}}
spec:
  tenantRef: {{name: {tenant or namespace}}}
  allocation: "{allocation}"
  period: {{every: {period}, timeZone: Europe/Madrid}}
  minimumBalance: "0"
  lowBalanceThreshold: "2.00"
"""


def grant(namespace: str, name: str = "top-up", amount: str = "5.00") -> str:
    return f"""---
apiVersion: tollkeeper.dev/v1alpha1
kind: TokenGrant
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{budgetRef: {{name: monthly}}, amount: "{amount}"}}
"""


def quota(namespace: str, requests: int) -> str:
    return f"""---
apiVersion: tollkeeper.dev/v1alpha1
kind: TokenQuota
metadata: {{name: daily, namespace: {namespace}}}
spec:
  tenantRef: {{name: {namespace}}}
  limits:
  - {{name: requests, unit: Requests, amount: {requests}, window: {{every: Day}}}}
  - {{name: each, unit: Requests, amount: {10 * requests}, window: {{every: Day}}, per: [User]}}
"""


async def test_a_budget_becomes_ready_and_its_columns_tell_the_story(start: Start, namespace: str) -> None:
    async with start() as running:
        await running.apply(tenant(namespace) + budget(namespace))
        await running.ready("tokenbudget/monthly", namespace)
        shown = await running.run("get", "tokenbudgets", namespace=namespace)
    heads, row = (line.split("  ") for line in shown.splitlines())
    words = [word.strip() for word in row if word.strip()]
    assert [word.strip() for word in heads if word.strip()][:-1] == [
        "NAME",
        "PHASE",
        "BALANCE",
        "SPENT",
        "USED%",
        "FORECAST",
        "EXHAUSTED",
        "RESETS",
    ]
    assert words[:7] == ["monthly", "Sufficient", "10.00", "0.00", "0", "not enough history", "-"]
    assert words[7].endswith(":00")


async def test_a_spent_budget_closes_the_gate_and_a_grant_opens_it(start: Start, namespace: str) -> None:
    async with start() as running:
        await running.apply(tenant(namespace) + budget(namespace))
        await running.ready("tokenbudget/monthly", namespace)
        await running.until(WORKLOAD_GATE, "tollkeeper", namespace, open=True)
        await running.spend(namespace, DOLLAR, times=9)
        await running.until(TOKEN_BUDGET, "monthly", namespace, phase="Low", balance="1.00", spent="9.00")
        await running.spend(namespace, DOLLAR)
        shut = await running.until(WORKLOAD_GATE, "tollkeeper", namespace, open=False)
        verdict = running.operator.verdict(namespace)
        assert verdict is not None
        assert verdict.message == shut["message"]
        await running.until(TOKEN_BUDGET, "monthly", namespace, phase="Insufficient", utilization=100)
        await running.until(TENANT, namespace, enforcement="Blocked")
        await running.apply(grant(namespace))
        await running.until(TOKEN_GRANT, "top-up", namespace, booked=True, remaining="5.00")
        await running.until(WORKLOAD_GATE, "tollkeeper", namespace, open=True)
        await running.until(TOKEN_BUDGET, "monthly", namespace, phase="Sufficient", granted="5.00", balance="5.00")
        await running.until(TENANT, namespace, enforcement="Open")
        for reason in STORY:
            await eventually(partial(running.events, namespace, reason), lambda: "an Event is missing")


STORY = (
    "ThresholdCrossed",
    "BudgetLow",
    "BudgetInsufficient",
    "GateClosed",
    "GrantBooked",
    "GateOpened",
    "BudgetRestored",
)


async def test_a_gate_says_what_closed_it_and_what_to_do(start: Start, namespace: str) -> None:
    async with start() as running:
        await running.apply(tenant(namespace) + budget(namespace, allocation="0"))
        shut = await running.until(WORKLOAD_GATE, "tollkeeper", namespace, open=False)
    assert f"TokenBudget {namespace}/monthly has nothing in it: balance 0.00 USD, minimum 0.00" in shut["message"]
    assert "TokenGrant" in shut["message"]
    assert [(limit["kind"], limit["name"]) for limit in shut["limits"]] == [("TokenBudget", "monthly")]


async def test_a_namespace_has_a_gate_as_long_as_somebody_governs_it(start: Start, namespace: str) -> None:
    async with start() as running:
        await running.run("label", "namespace", namespace, "tollkeeper.dev/metered=true")
        shut = await running.until(WORKLOAD_GATE, "tollkeeper", namespace, open=False)
        assert "no tenant owns" in shut["message"]
        await running.apply(tenant(namespace))
        await running.until(WORKLOAD_GATE, "tollkeeper", namespace, open=True)
        await running.run("delete", "tenant", namespace)
        await running.run("label", "namespace", namespace, "tollkeeper.dev/metered-")

        async def gone() -> bool:
            return await running.kube.find(WORKLOAD_GATE, "tollkeeper", namespace) is None

        await eventually(gone, lambda: "the gate stays")
        assert running.operator.verdict(namespace) is None


async def test_a_gate_that_an_outsider_opens_or_deletes_is_put_right(start: Start, namespace: str) -> None:
    async with start() as running:
        await running.apply(tenant(namespace) + budget(namespace, allocation="0"))
        await running.until(WORKLOAD_GATE, "tollkeeper", namespace, open=False)
        forged = {"status": {"open": True, "message": "come in", "limits": []}}
        await running.kube.patch(WORKLOAD_GATE, "tollkeeper", forged, namespace, "status")
        await running.until(WORKLOAD_GATE, "tollkeeper", namespace, open=False)
        await running.kube.delete(WORKLOAD_GATE, "tollkeeper", namespace)
        await running.until(WORKLOAD_GATE, "tollkeeper", namespace, open=False)


async def test_a_grant_waits_for_its_budget(start: Start, namespace: str) -> None:
    """B8."""
    async with start() as running:
        await running.apply(tenant(namespace) + grant(namespace))
        await running.until(TOKEN_GRANT, "top-up", namespace, booked=False)
        reason = "jsonpath={.status.conditions[?(@.type=='Ready')].reason}"
        assert await running.run("get", "tokengrant", "top-up", "-o", reason, namespace=namespace) == "BudgetNotFound"
        await running.apply(budget(namespace))
        await running.until(TOKEN_GRANT, "top-up", namespace, booked=True)
        await running.until(TOKEN_BUDGET, "monthly", namespace, granted="5.00")


async def test_b8_deleting_a_grant_undoes_nothing(start: Start, namespace: str) -> None:
    async with start() as running:
        await running.apply(tenant(namespace) + budget(namespace) + grant(namespace))
        await running.until(TOKEN_BUDGET, "monthly", namespace, granted="5.00")
        await running.run("delete", "tokengrant", "top-up", namespace=namespace)
        await running.spend(namespace, DOLLAR)
        await running.until(TOKEN_BUDGET, "monthly", namespace, spent="1.00", granted="5.00", balance="14.00")


async def test_a_restart_books_no_grant_and_fires_no_threshold_again(start: Start, namespace: str) -> None:
    async with start() as running:
        await running.apply(tenant(namespace) + budget(namespace) + grant(namespace))
        await running.until(TOKEN_BUDGET, "monthly", namespace, granted="5.00")
        await running.spend(namespace, DOLLAR, times=8)
        await running.until(TOKEN_BUDGET, "monthly", namespace, utilization=53)
        told = await eventually(partial(running.events, namespace, "ThresholdCrossed"))
        booked = await running.until(TOKEN_GRANT, "top-up", namespace, booked=True, remaining="5.00")
    async with start() as again:
        await again.spend(namespace, DOLLAR)
        after = await again.until(TOKEN_BUDGET, "monthly", namespace, spent="9.00")
        assert after["granted"] == "5.00"
        assert await again.events(namespace, "ThresholdCrossed") == told
        assert (await again.status(TOKEN_GRANT, "top-up", namespace))["transaction"] == booked["transaction"]


async def test_a_limit_that_binds_nobody_says_why_and_stops_no_other(start: Start, namespace: str) -> None:
    async with start(Clock.at_noon()) as running:
        await running.apply(tenant(namespace) + quota(namespace, 10) + budget(namespace, tenant="somebody-else"))
        await running.until(TOKEN_QUOTA, "daily", namespace, columns=QUOTA_COLUMNS | {"resets": next_midnight(running)})
        status = await eventually(lambda: running.status(TOKEN_BUDGET, "monthly", namespace))
    ready = next(condition for condition in status["conditions"] if condition["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "TenantNotFound")
    assert "spec.tenantRef.name" in ready["message"]
    assert "phase" not in status


QUOTA_COLUMNS = {"limits": 2, "tightest": "requests", "utilization": 0}


def next_midnight(running: Running) -> str:
    return f"{(running.clock() + timedelta(days=1)).date()} 00:00"


async def test_a_new_window_opens_the_gate_and_counts_from_nothing(start: Start, namespace: str) -> None:
    clock = Clock.at_noon()
    async with start(clock) as running:
        await running.apply(tenant(namespace) + quota(namespace, 2))
        await running.ready("tokenquota/daily", namespace)
        await running.spend(namespace, DOLLAR, times=2, user="ada")
        await running.until(WORKLOAD_GATE, "tollkeeper", namespace, open=False)
        await running.until(TENANT, namespace, enforcement="Blocked")
        clock.ahead += timedelta(days=1)
        await running.until(WORKLOAD_GATE, "tollkeeper", namespace, open=True)
        await running.until(TENANT, namespace, enforcement="Open")

        async def counted_anew() -> bool:
            limits = (await running.status(TOKEN_QUOTA, "daily", namespace)).get("limits", [])
            return [limit["used"] for limit in limits] == ["0", "0"]

        await eventually(counted_anew, lambda: "the quota still shows yesterday")


async def test_a_new_window_opens_the_gate_of_a_key_that_nobody_used_in_it(start: Start, namespace: str) -> None:
    clock = Clock.at_noon()
    lines = quota(namespace, 1).replace("per: [User]", "per: [Namespace]").replace("amount: 10,", "amount: 1,")
    alone = "\n".join(line for line in lines.splitlines() if "name: requests" not in line)
    async with start(clock) as running:
        await running.apply(f"{tenant(namespace)}{alone}\n")
        await running.ready("tokenquota/daily", namespace)
        await running.spend(namespace, DOLLAR, namespace=namespace)
        shut = await running.until(WORKLOAD_GATE, "tollkeeper", namespace, open=False)
        assert [limit["name"] for limit in shut["limits"]] == ["daily/each"]
        clock.ahead += timedelta(days=1)
        await running.until(WORKLOAD_GATE, "tollkeeper", namespace, open=True)


async def test_a_new_window_that_the_ledger_could_not_open_at_once_opens_the_gate_later(
    start: Start, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock.at_noon()
    async with start(clock) as running:
        opened, refused = running.ledger.open, asyncio.Event()

        async def failing(limit: Limit, key: tuple[str, ...], at: datetime) -> Account:
            if limit.ref.name == "monthly":
                refused.set()
                raise Unavailable("ledger ledger.sqlite: database or disk is full; free some space")
            return await opened(limit, key, at)

        await running.apply(tenant(namespace) + quota(namespace, 1) + budget(namespace, period="Day"))
        await running.ready("tokenquota/daily", namespace)
        await running.ready("tokenbudget/monthly", namespace)
        await running.spend(namespace, DOLLAR)
        await running.until(WORKLOAD_GATE, "tollkeeper", namespace, open=False)
        monkeypatch.setattr(running.ledger, "open", failing)
        clock.ahead += timedelta(days=1)
        async with asyncio.timeout(20):
            await refused.wait()
        monkeypatch.setattr(running.ledger, "open", opened)
        await running.until(WORKLOAD_GATE, "tollkeeper", namespace, open=True)
        await running.until(TOKEN_BUDGET, "monthly", namespace, spent="0.00")


async def test_nothing_is_written_on_the_users_objects_but_their_status(start: Start, namespace: str) -> None:
    async with start() as running:
        await running.apply(tenant(namespace) + budget(namespace))
        await running.until(TOKEN_BUDGET, "monthly", namespace, phase="Sufficient")
        raw = await running.kube.get(TOKEN_BUDGET, "monthly", namespace)
    assert "finalizers" not in raw["metadata"]
    assert set(raw["metadata"]["annotations"]) == {"kubectl.kubernetes.io/last-applied-configuration"}
    managers = {(one["manager"], one.get("subresource")) for one in raw["metadata"]["managedFields"]}
    assert managers == {("kubectl-client-side-apply", None), ("tollkeeper", "status")}


async def test_a_key_is_in_force_as_long_as_its_secret_says_so(start: Start, namespace: str) -> None:
    def secret(key: ApiKey) -> dict[str, object]:
        data = {KEY_FIELD: base64.b64encode(key.to_json().encode()).decode()}
        metadata = {"name": f"key-{namespace}", "namespace": "tollkeeper-system", "labels": {KEY_LABEL: key.id}}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}

    async with start() as running:
        key = ApiKey(id=f"id-{namespace}", fingerprint=f"print-{namespace}", tenant=namespace)
        await running.apply(tenant(namespace) + json.dumps(secret(key)).join(("---\n", "\n")))

        async def in_force() -> bool:
            return key.fingerprint in running.policy.value.keys

        await eventually(in_force, lambda: "the key is not in force", seconds=5)
        await running.run("delete", "secret", f"key-{namespace}", namespace="tollkeeper-system")

        async def revoked() -> bool:
            return not await in_force()

        await eventually(revoked, lambda: "the key is still in force", seconds=5)


async def test_the_examples_come_into_force(start: Start) -> None:
    async with start() as running:
        await running.run("apply", "-f", str(EXAMPLES))
        try:
            for file in sorted(EXAMPLES.glob("[2-6]*.yaml")):
                await running.run("wait", "--for=condition=Ready", "-f", str(file), "--timeout=20s")
            await running.until(TOKEN_BUDGET, "prepaid", "support", balance="60.00", phase="Sufficient")
            for name in ("acme", "research", "search", "support"):
                await running.until(WORKLOAD_GATE, "tollkeeper", name, open=True)
            assert (await running.status(TENANT, "search"))["path"] == "acme/research/search"
        finally:
            await running.run("delete", "-f", str(EXAMPLES), "--wait=false")


async def test_a_gate_of_a_deleted_namespace_is_forgotten(start: Start, namespace: str) -> None:
    async with start() as running:
        await running.apply(tenant(namespace))
        await running.until(WORKLOAD_GATE, "tollkeeper", namespace, open=True)
        await running.run("delete", "namespace", namespace, "--wait=true", "--timeout=30s")

        async def forgotten() -> bool:
            return running.operator.verdict(namespace) is None

        await eventually(forgotten, lambda: "the gate is still judged")
        with pytest.raises(NotFound):
            await running.kube.get(WORKLOAD_GATE, "tollkeeper", namespace)
        await running.run("create", "namespace", namespace)
