"""Hard limits hold under concurrency, through the whole gateway."""

import asyncio

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.sidecar.builders import MODEL, account_of, limit, policy
from tests.sidecar.conftest import SetUp, Stage, now
from tollkeeper.amounts import Unit
from tollkeeper.limits import Enforcement

WORDS: list[ChatCompletionMessageParam] = [{"role": "user", "content": "word " * 100}]
USES = {"Provider-Usage": "input=500,output=100"}
COST = 500 * 1250 + 100 * 10_000


async def ask(client: openai.AsyncOpenAI, stream: bool, headers: dict[str, str] = USES) -> str:
    """How one request ended: `ok`, or the code of its refusal."""
    try:
        answer = await client.chat.completions.create(
            model=MODEL, messages=WORDS, max_completion_tokens=100, stream=stream, extra_headers=headers
        )
        if isinstance(answer, openai.AsyncStream):
            async for _ in answer:
                pass
    except openai.RateLimitError as refused:
        return str(refused.code)
    return "ok"


def served_tokens(running: Stage) -> int:
    return sum(sum(entry.buckets.counted().values()) for entry in running.served())


@pytest.mark.parametrize("output_limit", ["Keep", "Lower"])
async def test_64_callers_on_one_budget_with_room_for_a_third_overshoot_by_nothing(
    stage: SetUp, output_limit: str
) -> None:
    """R21."""
    budget = limit(allocation=21 * COST, minimum=0)
    running = await stage(policy(budget, output_limit=output_limit))
    clients = [await running.client() for _ in range(64)]
    ended = await asyncio.gather(*(ask(one, number % 2 == 0) for number, one in enumerate(clients)))
    await running.finished()
    account = running.account(budget)
    assert account.overshoot == 0
    assert (account.held, account.unreconciled) == (0, 0)
    assert account.spent <= account.cap(budget)
    assert ended.count("ok") == len(running.served()) == account.requests
    assert set(ended) <= {"ok", "rate_limit_exceeded", "insufficient_quota"}
    assert account.spent == sum(
        500 * 1250 + entry.buckets.counted().get("output", 0) * 10_000 for entry in running.served()
    )
    assert ended.count("ok") >= 10


async def test_callers_that_retry_use_a_quota_to_its_last_request(stage: SetUp) -> None:
    quota = limit("requests", 20, Unit.REQUESTS)
    tokens = limit("tokens", 10**7, Unit.TOKENS)
    running = await stage(policy(quota, tokens))
    client = await running.client(max_retries=5)
    ended = await asyncio.gather(*(ask(client, stream=False) for _ in range(48)))
    await running.finished()
    assert ended.count("ok") == 20
    assert set(ended) == {"ok", "insufficient_quota"}
    assert running.account(quota).spent == 20
    assert running.account(tokens).spent == served_tokens(running) == 20 * 600


async def test_the_last_room_lowers_the_output_and_never_below_16(stage: SetUp) -> None:
    quota = limit("tokens", 1500, Unit.TOKENS)
    running = await stage(policy(quota))
    client = await running.client()
    answer = await client.chat.completions.create(
        model=MODEL, messages=WORDS, extra_headers={"Provider-Usage": "input=500,output=5000"}
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert 16 <= answer.usage.completion_tokens < 1000
    await running.finished()
    account = running.account(quota)
    assert account.spent == 500 + answer.usage.completion_tokens
    assert account.overshoot == 0


async def test_soft_and_shadow_limits_count_and_do_not_block(stage: SetUp) -> None:
    """R7."""
    soft = limit("soft", 1, Unit.TOKENS, enforcement=Enforcement.SOFT)
    shadow = limit("shadow", 1, Unit.TOKENS, enforcement=Enforcement.SHADOW)
    running = await stage(policy(soft, shadow))
    assert await ask(await running.client(), stream=True) == "ok"
    await running.finished()
    assert running.account(soft).spent == running.account(shadow).spent == 600


async def test_a_provider_that_ignores_its_limit_is_charged_and_stands_as_overshoot(stage: SetUp) -> None:
    """R21: the bound that was passed stands in status."""
    quota = limit("tokens", 1500, Unit.TOKENS)
    running = await stage(policy(quota))
    client = await running.client()
    headers = {"Provider-Usage": "input=500,output=5000", "Provider-Behaviour": "ignore-limit"}
    await client.chat.completions.create(model=MODEL, messages=WORDS, extra_headers=headers)
    await running.finished()
    account = running.account(quota)
    assert (account.spent, account.overshoot, account.held) == (5500, 4000, 0)
    assert account_of(quota, now=now()) == account.id
