"""Usage without a price: told once for each model, where people look, until the model has a price (M6, K8)."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from tests.operator.conftest import SETTINGS, Running, Start, eventually
from tests.operator.test_reconciling import DOLLAR, budget, quota, tenant

from tollkeeper.conditions import message_of, status_of
from tollkeeper.counted import Counted
from tollkeeper.limits import LimitRef
from tollkeeper.problems import ObjectRef
from tollkeeper_kube.kinds import PRICE_BOOK, TOKEN_BUDGET, TOKEN_QUOTA
from tollkeeper_operator import unpriced
from tollkeeper_operator.unpriced import UnpricedUsage

pytestmark = pytest.mark.cluster

AT_ONCE = replace(SETTINGS, unpriced=0.0)


def soft(namespace: str) -> str:
    return budget(namespace).rstrip() + "\n  enforcement: Soft\n"


def book(name: str, model: str) -> str:
    return f"""---
apiVersion: tollkeeper.dev/v1alpha1
kind: PriceBook
metadata: {{name: {name}}}
spec:
  models: [{{provider: openai, model: {model}, perMillion: {{input: "1", output: "1"}}}}]
"""


async def unpriced_status(running: Running, namespace: str, wanted: str) -> dict[str, Any]:
    """The budget's status once its condition tells of this usage."""

    async def told() -> dict[str, Any] | None:
        status = await running.status(TOKEN_BUDGET, "monthly", namespace)
        return status if wanted in message_of(status, "Priced") else None

    found: dict[str, Any] = await eventually(told, lambda: f"the budget does not say {wanted}")
    return found


async def test_usage_without_a_price_is_told_on_every_limit_that_counts_it(start: Start, namespace: str) -> None:
    async with start(settings=AT_ONCE) as running:
        await running.apply(tenant(namespace) + soft(namespace) + quota(namespace, 100))
        await running.ready("tokenbudget/monthly", namespace)
        await running.ready("tokenquota/daily", namespace)
        await running.spend(namespace, None, times=2, model=f"mystery-{namespace}")
        status = await unpriced_status(running, namespace, f"openai/mystery-{namespace} (2 requests, 30 tokens)")
        assert status_of(status, "Priced") == "False"
        assert status_of(status, "Ready") == "True"

        async def both() -> list[str] | None:
            events = await running.events(namespace, "Unpriced")
            return events if len(events) == 2 else None

        for message in await eventually(both, lambda: "an Event is missing"):
            assert message.startswith(f"openai/mystery-{namespace} has no price: so far ")
            assert "PriceBook" in message
        assert "mystery" in message_of(await running.status(TOKEN_QUOTA, "daily", namespace), "Priced")


async def test_it_is_told_once_for_each_model_after_a_restart_too(start: Start, namespace: str) -> None:
    async with start(settings=AT_ONCE) as running:
        await running.apply(tenant(namespace) + soft(namespace))
        await running.ready("tokenbudget/monthly", namespace)
        await running.spend(namespace, None, model="first")
        await unpriced_status(running, namespace, "openai/first (1 request, 15 tokens)")
        await running.spend(namespace, None, times=2, model="second")
        await unpriced_status(running, namespace, "openai/second (2 requests, 30 tokens)")
        told = await eventually(partial(_told, running, namespace, 2), lambda: "an Event is missing")
        await running.run("delete", "events", "--all", namespace=namespace)
    async with start(settings=AT_ONCE) as again:
        await again.spend(namespace, None, model="first")
        status = await unpriced_status(again, namespace, "openai/first (2 requests, 30 tokens)")
        assert "openai/second (2 requests, 30 tokens)" in message_of(status, "Priced")
        await again.spend(namespace, None, model="third")
        (third,) = await eventually(partial(_told, again, namespace, 1), lambda: "an Event is missing")
    assert third.startswith("openai/third")
    assert [message.split()[0] for message in sorted(told)] == ["openai/first", "openai/second"]


async def _told(running: Running, namespace: str, count: int) -> list[str]:
    events = await running.events(namespace, "Unpriced")
    return events if len(events) >= count else []


async def test_a_price_ends_it_and_priced_usage_never_begins_it(start: Start, namespace: str) -> None:
    model = f"mystery-{namespace}"
    async with start(settings=AT_ONCE) as running:
        await running.apply(tenant(namespace) + soft(namespace))
        await running.ready("tokenbudget/monthly", namespace)
        await running.spend(namespace, DOLLAR)
        status = await running.until(TOKEN_BUDGET, "monthly", namespace, spent="1.00")
        assert status_of(status, "Priced") is None
        await running.spend(namespace, None, model=model)
        await unpriced_status(running, namespace, f"openai/{model}")
        await running.apply(book(namespace, model))
        try:

            async def ended() -> bool:
                return status_of(await running.status(TOKEN_BUDGET, "monthly", namespace), "Priced") is None

            await eventually(ended, lambda: "the budget still says that the model has no price")
        finally:
            await running.kube.delete(PRICE_BOOK, namespace)


async def test_a_restart_finds_every_model_whatever_was_used_since(
    start: Start, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpriced, "AT_ONCE", 3)
    ref, limit_ref = (ObjectRef("TokenBudget", namespace, "monthly"), LimitRef("TokenBudget", namespace, "monthly"))
    async with start() as running:
        await running.apply(tenant(namespace) + soft(namespace))
        await running.ready("tokenbudget/monthly", namespace)
        with ThreadPoolExecutor(1) as threads:
            usage = UnpricedUsage(running.ledger, threads, 0.0)

            async def looked(by: UnpricedUsage) -> dict[str, int]:
                limit = running.policy.value.limit(limit_ref)
                assert limit is not None
                accounts = tuple(running.ledger.reader.accounts_of(limit))
                counted = [Counted(limit, limit.calendar.window_at(running.clock()), accounts)]
                await by.look(ref, counted)
                assert by.due(ref, counted) is None
                found = by.known(ref, counted)
                return {one.model: one.requests for one in found.models} | {"others": found.others}

            await running.spend(namespace, None, times=4, model="early")
            assert await looked(usage) == {"early": 4, "others": 0}
            await running.spend(namespace, DOLLAR // 100, times=10)
            assert await looked(usage) == {"early": 4, "others": 0}
            assert await looked(UnpricedUsage(running.ledger, threads, 0.0)) == {"early": 4, "others": 0}
            await running.spend(namespace, None, times=4, model="late")
            assert await looked(usage) == {"early": 4, "late": 4, "others": 0}
            assert await looked(UnpricedUsage(running.ledger, threads, 0.0)) == {"early": 4, "late": 4, "others": 0}
            # Of names that callers make up only so many are told apart; no request of theirs is lost.
            monkeypatch.setattr(unpriced, "MOST_MODELS", 1)
            assert await looked(UnpricedUsage(running.ledger, threads, 0.0)) == {"early": 4, "others": 4}
