"""The official client, unchanged, against the simulated provider."""

import asyncio
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessageParam

from tollkeeper_provider import Buckets, RunningProvider, read_book, start_provider, totals, usage_header

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Say so."}]
KEY = "sk-simulated"


async def ask(
    client: openai.AsyncOpenAI,
    told: Buckets | None = None,
    *,
    behaviour: str | None = None,
    limit: int | openai.Omit = openai.omit,
    n: int | openai.Omit = openai.omit,
) -> ChatCompletion:
    return await client.chat.completions.create(
        model="gpt-5-mini",
        messages=MESSAGES,
        max_completion_tokens=limit,
        n=n,
        extra_headers=_headers(told, behaviour),
    )


async def stream(
    client: openai.AsyncOpenAI,
    told: Buckets | None = None,
    *,
    behaviour: str | None = None,
    include_usage: bool | None = True,
    limit: int | openai.Omit = openai.omit,
    n: int | openai.Omit = openai.omit,
    seen: Callable[[ChatCompletionChunk], None] = lambda _: None,
) -> list[ChatCompletionChunk]:
    chunks = []
    async with await client.chat.completions.create(
        model="gpt-5-mini",
        messages=MESSAGES,
        max_tokens=limit,
        n=n,
        stream=True,
        stream_options=openai.omit if include_usage is None else {"include_usage": include_usage},
        extra_headers=_headers(told, behaviour),
    ) as answer:
        async for chunk in answer:
            chunks.append(chunk)
            seen(chunk)
    return chunks


def _headers(told: Buckets | None, behaviour: str | None) -> dict[str, str]:
    headers = {} if told is None else {"Provider-Usage": usage_header(told)}
    return headers if behaviour is None else {**headers, "Provider-Behaviour": behaviour}


def _text(chunks: list[ChatCompletionChunk], index: int = 0) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices if choice.index == index)


def _buckets(usage: CompletionUsage) -> Buckets:
    """What the client was told, in disjoint buckets."""
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    assert prompt is not None
    assert completion is not None
    read, written, reasoning = prompt.cached_tokens or 0, prompt.cache_write_tokens or 0, completion.reasoning_tokens
    return Buckets(
        input=usage.prompt_tokens - read - written,
        cache_read=read,
        cache_write_5m=written,
        output=usage.completion_tokens - (reasoning or 0),
        reasoning=reasoning or 0,
    )


async def test_an_answer_counts_what_the_request_says(client: openai.AsyncOpenAI, provider: RunningProvider) -> None:
    told = Buckets(input=4808, cache_read=100, cache_write_5m=7, output=10, reasoning=5)

    answer = await ask(client, told)

    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (4915, 15, 4930)
    assert _buckets(answer.usage) == told
    assert answer.id.startswith("chatcmpl-")
    assert answer.choices[0].finish_reason == "stop"
    assert len((answer.choices[0].message.content or "").split()) == 10
    (booked,) = read_book(provider.book_path)
    assert (booked.id, booked.model, booked.stream, booked.completed) == (answer.id, "gpt-5-mini", False, True)
    assert booked.buckets == told
    assert booked.cost_nanodollars == 4808 * 250 + 7 * 250 + 100 * 25 + 15 * 2000
    assert abs(booked.time - datetime.now(UTC)) < timedelta(minutes=1)


async def test_without_a_header_a_request_is_counted_by_the_stated_rule(client: openai.AsyncOpenAI) -> None:
    answer = await ask(client)

    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (2, 16)


async def test_a_stream_that_asks_for_usage_ends_with_a_chunk_of_usage_alone(client: openai.AsyncOpenAI) -> None:
    *others, last = await stream(client, Buckets(input=9, output=3))

    assert all(chunk.usage is None and "usage" in chunk.model_fields_set for chunk in others)
    assert last.choices == []
    assert last.usage is not None
    assert _buckets(last.usage) == Buckets(input=9, output=3)
    assert _text(others) == "the and for "
    assert [chunk.choices[0].finish_reason for chunk in others] == [*[None] * 4, "stop"]
    assert others[0].choices[0].delta.role == "assistant"
    assert len({chunk.id for chunk in (*others, last)}) == 1


@pytest.mark.parametrize("include_usage", [None, False])
async def test_a_stream_that_does_not_ask_for_usage_is_told_none(
    client: openai.AsyncOpenAI, provider: RunningProvider, include_usage: bool | None
) -> None:
    chunks = await stream(client, Buckets(input=9, output=3), include_usage=include_usage)

    assert all("usage" not in chunk.model_fields_set and chunk.choices for chunk in chunks)
    assert read_book(provider.book_path)[0].buckets == Buckets(input=9, output=3)


async def test_the_requests_output_limit_wins_over_the_header(client: openai.AsyncOpenAI) -> None:
    told = Buckets(input=1, output=50, reasoning=10)

    answer = await ask(client, told, limit=20)
    chunks = await stream(client, told, limit=20)

    assert answer.usage is not None
    assert _buckets(answer.usage) == Buckets(input=1, output=10, reasoning=10)
    assert answer.choices[0].finish_reason == "length"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 20
    assert chunks[-2].choices[0].finish_reason == "length"


async def test_each_of_n_choices_is_generated_and_counted(client: openai.AsyncOpenAI) -> None:
    told = Buckets(input=8, output=2)

    answer = await ask(client, told, n=3)
    chunks = await stream(client, told, n=3)

    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert answer.usage is not None
    assert _buckets(answer.usage) == Buckets(input=8, output=6)
    assert [_text(chunks, index) for index in range(3)] == ["the and "] * 3
    assert chunks[-1].usage is not None
    assert _buckets(chunks[-1].usage) == Buckets(input=8, output=6)


async def test_models_are_listed_as_the_simulated_providers_own(client: openai.AsyncOpenAI) -> None:
    listed = [model async for model in client.models.list()]

    assert [model.id for model in listed] == ["gpt-5", "gpt-5-mini", "gpt-5-nano"]
    assert {model.owned_by for model in listed} == {"tollkeeper-simulated-provider"}


async def test_another_key_is_refused_and_nothing_booked(client: openai.AsyncOpenAI, provider: RunningProvider) -> None:
    with pytest.raises(openai.AuthenticationError) as raised:
        await ask(client.with_options(api_key="sk-other"))

    assert raised.value.code == "invalid_api_key"
    assert "sk-" not in raised.value.message
    assert read_book(provider.book_path) == []


async def test_another_endpoint_is_not_found_in_openais_shape(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match=r"Invalid URL \(POST /v1/embeddings\)") as raised:
        await client.embeddings.create(model="text-embedding-3-small", input="x")
    assert raised.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    ("header", "value"), [("Provider-Usage", "input=many"), ("Provider-Behaviour", "strange"), ("Provider-Usage", "")]
)
async def test_a_bad_header_is_a_bad_request_that_names_it(
    client: openai.AsyncOpenAI, provider: RunningProvider, header: str, value: str
) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        await client.chat.completions.create(model="gpt-5", messages=MESSAGES, extra_headers={header: value})

    assert raised.value.param == header
    assert raised.value.message.count("\n") == 0
    assert read_book(provider.book_path) == []


async def test_every_answer_carries_a_request_id_and_says_that_it_is_simulated(client: openai.AsyncOpenAI) -> None:
    raw = await client.models.with_raw_response.list()
    named = await client.models.with_raw_response.list(extra_headers={"X-Request-Id": "mine-7"})

    assert raw.headers["x-request-id"].startswith("req_")
    assert raw.headers["server"] == "tollkeeper-simulated-provider"
    assert named.headers["x-request-id"] == "mine-7"


async def test_a_provider_told_to_ignore_the_limit_does(client: openai.AsyncOpenAI) -> None:
    answer = await ask(client, Buckets(output=50), limit=20, behaviour="ignore-limit")

    assert answer.usage is not None
    assert answer.usage.completion_tokens == 50
    assert answer.choices[0].finish_reason == "stop"


async def test_a_provider_told_to_fail_answers_500_and_books_nothing(
    client: openai.AsyncOpenAI, provider: RunningProvider
) -> None:
    with pytest.raises(openai.InternalServerError, match="simulated provider failed"):
        await ask(client, behaviour="error-500")
    assert read_book(provider.book_path) == []


async def test_a_provider_told_to_leave_usage_out_books_it_all_the_same(
    client: openai.AsyncOpenAI, provider: RunningProvider
) -> None:
    answer = await ask(client, Buckets(input=3, output=2), behaviour="no-usage")
    chunks = await stream(client, Buckets(input=3, output=2), behaviour="no-usage")

    assert answer.usage is None
    assert all("usage" not in chunk.model_fields_set for chunk in chunks)
    assert [entry.buckets for entry in read_book(provider.book_path)] == [Buckets(input=3, output=2)] * 2


async def test_an_answer_that_dies_midway_is_booked_with_the_half_that_was_generated(
    client: openai.AsyncOpenAI, provider: RunningProvider
) -> None:
    told, chunks = Buckets(input=3, output=80, reasoning=20), list[ChatCompletionChunk]()

    with pytest.raises(openai.APIConnectionError):
        await ask(client, told, behaviour="die-midway")
    with pytest.raises(openai.APIConnectionError):
        await stream(client, told, behaviour="die-midway", seen=chunks.append)

    assert len(_text(chunks).split()) == 30
    booked = read_book(provider.book_path)
    assert [entry.buckets for entry in booked] == [Buckets(input=3, output=30, reasoning=20)] * 2
    assert [(entry.stream, entry.completed) for entry in booked] == [(False, False), (True, False)]


async def test_a_slow_answer_takes_its_time_for_each_token(client: openai.AsyncOpenAI) -> None:
    began = asyncio.get_running_loop().time()
    await stream(client, Buckets(output=5, reasoning=5), behaviour="slow=10")

    assert asyncio.get_running_loop().time() - began >= 0.1


async def test_a_stream_whose_client_goes_away_is_booked_with_what_was_generated(
    client: openai.AsyncOpenAI, provider: RunningProvider
) -> None:
    async with await client.chat.completions.create(
        model="gpt-5",
        messages=MESSAGES,
        stream=True,
        extra_headers=_headers(Buckets(input=3, output=10_000), "slow=1"),
    ) as answer:
        async for chunk in answer:
            if chunk.choices[0].delta.content:
                break

    async with asyncio.timeout(10):
        while not (booked := read_book(provider.book_path)):  # noqa: ASYNC110 - the condition is a file's
            await asyncio.sleep(0.005)
    assert not booked[0].completed
    assert booked[0].buckets.input == 3
    assert 1 <= booked[0].buckets.output < 10_000


exact = st.builds(
    Buckets,
    input=st.integers(0, 50_000),
    cache_read=st.integers(0, 500),
    cache_write_5m=st.integers(0, 500),
    output=st.integers(0, 40),
    reasoning=st.integers(0, 40),
)


@settings(max_examples=10, deadline=None)  # each example is a server of its own
@given(st.lists(st.tuples(exact, st.booleans(), st.integers(1, 50)), min_size=1, max_size=12))
def test_the_book_is_the_sum_of_what_the_client_was_told(wanted: list[tuple[Buckets, bool, int]]) -> None:
    async def usages(base_url: str) -> list[Buckets]:
        async with openai.AsyncOpenAI(base_url=base_url, api_key=KEY, max_retries=0) as client:

            async def one(told: Buckets, streamed: bool, limit: int) -> Buckets:
                answer = (
                    (await stream(client, told, limit=limit))[-1] if streamed else await ask(client, told, limit=limit)
                )
                assert answer.usage is not None
                return _buckets(answer.usage)

            return await asyncio.gather(*(one(*request) for request in wanted))

    async def compare(folder: Path) -> None:
        running = await start_provider("127.0.0.1", 0, KEY, folder / "book")
        seen = await usages(running.openai_base_url)
        await running.stop()
        summed = totals(read_book(folder / "book"))
        assert summed.answers == len(wanted)
        assert summed.incomplete == 0
        assert summed.buckets == sum(seen, Buckets())

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(compare(Path(folder)))
