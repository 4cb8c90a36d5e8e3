"""The gateway as callers meet it: the official client, the simulated provider, a real ledger."""

from datetime import UTC, datetime
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.sidecar.builders import MODEL, SECRET, key, limit, policy
from tests.sidecar.conftest import SetUp
from tollkeeper.amounts import Unit
from tollkeeper_sidecar import Gateway, GatewaySettings, Upstream

PROMPT: list[ChatCompletionMessageParam] = [{"role": "user", "content": "word " * 200}]


async def test_an_answer_is_charged_to_the_nano_dollar(stage: SetUp) -> None:
    budget = limit()
    running = await stage(policy(budget))
    client = await running.client()
    raw = await client.chat.completions.with_raw_response.create(
        model=MODEL, messages=PROMPT, extra_headers={"Provider-Usage": "input=700,cache_read=100,output=40,reasoning=8"}
    )
    answer = raw.parse()
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 48
    assert raw.headers["Tollkeeper-Request-Id"]
    await running.finished()
    cost = 700 * 1250 + 100 * 125 + 48 * 10_000
    account = running.account(budget)
    assert (account.spent, account.held, account.unreconciled) == (cost, 0, 0)


async def test_a_stream_is_charged_and_shows_no_usage_that_was_not_asked_for(stage: SetUp) -> None:
    quota = limit("tokens", 10**9, Unit.TOKENS)
    running = await stage(policy(quota))
    client = await running.client()
    stream = await client.chat.completions.create(
        model=MODEL, messages=PROMPT, stream=True, extra_headers={"Provider-Usage": "input=700,output=40"}
    )
    chunks = [chunk async for chunk in stream]
    assert all(chunk.choices for chunk in chunks)
    assert not any("usage" in chunk.model_fields_set for chunk in chunks)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks).count(" ") == 40
    await running.finished()
    assert running.account(quota).spent == 740


async def test_usage_that_was_asked_for_is_shown(stage: SetUp) -> None:
    running = await stage(policy(limit()))
    client = await running.client()
    stream = await client.chat.completions.create(
        model=MODEL, messages=PROMPT, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[-1].usage is not None
    assert chunks[0].usage is None
    assert "usage" in chunks[0].model_fields_set


async def test_a_used_up_budget_raises_the_clients_own_quota_error(stage: SetUp) -> None:
    budget = limit(allocation=1000)
    running = await stage(policy(budget))
    client = await running.client(max_retries=2)
    with pytest.raises(openai.RateLimitError) as refused:
        await client.chat.completions.create(model=MODEL, messages=PROMPT)
    assert refused.value.code == "insufficient_quota"
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert refused.value.response.headers["Tollkeeper-Reset"].endswith("Z")
    assert refused.value.response.headers["Tollkeeper-Request-Id"]
    assert "TokenBudget research/monthly" in refused.value.message
    assert "balance 0.000001 USD" in refused.value.message
    assert running.served() == []


async def test_a_refusal_holds_every_limit_that_was_looked_at_as_data(stage: SetUp) -> None:
    above = limit("company", tenants=frozenset({"acme", "research"}))
    gone, enough = limit(allocation=1000), limit("tokens", 10**6, unit=Unit.TOKENS)
    running = await stage(policy(gone, enough, above))
    client = await running.client()
    with pytest.raises(openai.RateLimitError) as refused:
        await client.chat.completions.create(model=MODEL, messages=PROMPT, max_tokens=16)
    error: dict[str, Any] = refused.value.body  # type: ignore[assignment]
    told = {one["limit"]: one for one in error["limits"]}
    assert {name: (one["refuses"], one["decides"]) for name, one in told.items()} == {
        "TokenBudget research/monthly": (True, True),
        "TokenQuota research/quota limit tokens": (False, False),
        "TokenBudget research/company": (False, False),
    }
    named = told["TokenBudget research/monthly"]
    assert (named["reason"], named["balance"], named["unit"]) == ("used_up", "0.000001", "USD")
    assert told["TokenQuota research/quota limit tokens"]["available"] == 10**6
    assert "balance" not in told["TokenBudget research/company"]


async def test_a_wrong_key_is_refused_as_openai_would(stage: SetUp) -> None:
    running = await stage(policy())
    client = await running.client("tk_000000000000_wrong")
    with pytest.raises(openai.AuthenticationError) as refused:
        await client.chat.completions.create(model=MODEL, messages=PROMPT)
    assert refused.value.code == "invalid_api_key"


async def test_a_key_that_the_provider_refuses_is_our_fault_and_not_the_callers(stage: SetUp) -> None:
    running = await stage(policy())
    wrong = Upstream("openai", running.provider.url, "sk-not-the-provider's")
    gateway = Gateway(
        GatewaySettings(running.provider.book_path.parent / "other", (wrong,), port=0, metrics_port=0),
        running.policy,
        running.authority,
        lambda: datetime.now(UTC),
    )
    address = await gateway.start()
    async with openai.AsyncOpenAI(base_url=f"{address.url}/openai/v1", api_key=SECRET, max_retries=0) as client:
        with pytest.raises(openai.InternalServerError, match=r"upstreams\.openai\.key") as refused:
            await client.chat.completions.create(model=MODEL, messages=PROMPT)
    await gateway.stop()
    assert refused.value.status_code == 503


async def test_models_pass_unmetered_and_other_endpoints_are_refused(stage: SetUp) -> None:
    running = await stage(policy())
    client = await running.client()
    assert [model.id async for model in await client.models.list()]
    with pytest.raises(openai.PermissionDeniedError) as refused:
        await client.embeddings.create(model="text-embedding-3-small", input="hello")
    assert refused.value.code == "not_metered"


def test_the_secret_belongs_to_the_key() -> None:
    assert key().fingerprint in policy().keys
    assert SECRET.startswith("tk_")
