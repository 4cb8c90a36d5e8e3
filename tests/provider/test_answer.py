from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper_provider import Buckets
from tollkeeper_provider.answer import BYTES_PER_TOKEN, MOST_GENERATED, counted_by_rule, decide, text
from tollkeeper_provider.behaviour import Behaviour
from tollkeeper_provider.chat_request import ChatRequest
from tollkeeper_provider.errors import Refusal

small = st.integers(0, 40)
told = st.none() | st.builds(
    Buckets, input=small, cache_read=small, cache_write_5m=small, output=small, reasoning=small, audio_output=small
)
requests = st.builds(
    ChatRequest,
    model=st.just("gpt-5"),
    prompt_bytes=st.integers(0, 5000),
    choices=st.integers(1, 4),
    output_limit=st.none() | st.integers(1, 60),
)


@given(requests, told)
def test_no_choice_passes_the_requests_output_limit(request: ChatRequest, wanted: Buckets | None) -> None:
    answer = decide(request, wanted, Behaviour())
    without_limit = decide(request, wanted, Behaviour(ignore_limit=True)).choice.completion

    if request.output_limit is None:
        assert (answer.choice.completion, answer.finish_reason) == (without_limit, "stop")
    else:
        assert answer.choice.completion == min(request.output_limit, without_limit)
        assert (answer.finish_reason == "length") == (without_limit > request.output_limit)


@given(requests, told)
def test_choices_multiply_the_output_and_not_the_prompt(request: ChatRequest, wanted: Buckets | None) -> None:
    answer = decide(request, wanted, Behaviour())

    assert answer.buckets == answer.prompt + answer.choice.times(request.choices)


@given(requests, told, st.integers(0, 1000))
def test_what_is_counted_midway_is_the_prompt_and_the_tokens_out_by_then(
    request: ChatRequest, wanted: Buckets | None, generated: int
) -> None:
    answer = decide(request, wanted, Behaviour())
    counted = answer.after(generated)
    seen = [word for _, word in islice(answer.tokens(), generated)]

    assert counted.prompt == answer.prompt.prompt
    assert counted.completion == len(seen)
    assert counted.output == sum(word is not None for word in seen)


@given(requests, told)
def test_a_choices_text_is_its_tokens_in_a_row(request: ChatRequest, wanted: Buckets | None) -> None:
    answer = decide(request, wanted, Behaviour())

    for choice in range(request.choices):
        streamed = "".join(word or "" for index, word in answer.tokens() if index == choice)
        assert streamed == text(answer.choice.output)
        assert len(streamed.encode()) == answer.choice.output * BYTES_PER_TOKEN


@given(st.integers(0, 10**9))
def test_by_rule_a_prompt_never_has_more_tokens_than_bytes(prompt_bytes: int) -> None:
    counted = counted_by_rule(prompt_bytes)

    assert counted.input <= prompt_bytes
    assert 4 * counted.input >= prompt_bytes
    assert 16 <= counted.output <= 256


def test_reasoning_is_generated_before_text() -> None:
    answer = decide(ChatRequest("gpt-5", 0, output_limit=5), Buckets(output=10, reasoning=8), Behaviour())

    assert answer.choice == Buckets(reasoning=5)
    assert answer.finish_reason == "length"


def test_a_cache_of_an_hour_has_no_field_in_openais_usage() -> None:
    with pytest.raises(Refusal, match="cache_write_1h has no field"):
        decide(ChatRequest("gpt-5", 0), Buckets(cache_write_1h=1), Behaviour())


def test_a_request_does_not_generate_without_bound() -> None:
    with pytest.raises(Refusal, match=f"at most {MOST_GENERATED} tokens"):
        decide(ChatRequest("gpt-5", 0, choices=2), Buckets(output=MOST_GENERATED), Behaviour())
