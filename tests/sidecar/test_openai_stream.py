"""Streamed chat completions: what is relayed, and what they tell."""

import itertools
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.usage import Buckets
from tollkeeper_sidecar.openai_stream import ChatStream
from tollkeeper_sidecar.openai_usage import buckets_of
from tollkeeper_sidecar.sse import EventSplitter, data_of

USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


def event(**fields: Any) -> bytes:
    return b"data: " + orjson.dumps({"id": "chatcmpl-7", **fields}) + b"\n\n"


def delta(text: str, **fields: Any) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": text}}], **fields)


DONE = b"data: [DONE]\n\n"
TEXTS = st.lists(st.text(max_size=12), max_size=8)


def relay(stream: ChatStream, data: bytes, cuts: list[int]) -> bytes:
    splitter, out = EventSplitter(), b""
    borders = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, stop in itertools.pairwise(borders):
        out += b"".join(stream.read(one) for one in splitter.feed(data[start:stop]))
    return out


@given(TEXTS, st.lists(st.integers(0, 10**6), max_size=10))
def test_usage_that_the_client_did_not_ask_for_is_taken_out_and_nothing_else(texts: list[str], cuts: list[int]) -> None:
    """F5."""
    asked = b"".join(delta(text, usage=None) for text in texts) + event(choices=[], usage=USAGE) + DONE
    not_asked = b"".join(delta(text) for text in texts) + DONE
    stream = ChatStream(hide_usage=True)
    assert relay(stream, asked, cuts) == not_asked
    assert stream.usage == Buckets(input=7, output=5)
    assert stream.output_bytes == sum(len(text.encode()) for text in texts)


@given(TEXTS, st.lists(st.integers(0, 10**6), max_size=10))
def test_a_stream_whose_usage_was_asked_for_passes_byte_for_byte(texts: list[str], cuts: list[int]) -> None:
    data = b": ping\n\n" + b"".join(delta(text, usage=None) for text in texts) + event(choices=[], usage=USAGE) + DONE
    stream = ChatStream(hide_usage=False)
    assert relay(stream, data, cuts) == data
    assert stream.usage == Buckets(input=7, output=5)


@given(st.text(max_size=30), st.booleans())
def test_null_usage_goes_wherever_it_stands(text: str, first: bool) -> None:
    chunk: dict[str, Any] = {"choices": [{"index": 0, "delta": {"content": text}}]}
    chunk = {"usage": None, **chunk} if first else {**chunk, "usage": None}
    out = ChatStream(hide_usage=True).read(event(**chunk))
    read = orjson.loads(data_of(out))
    assert "usage" not in read
    assert read["choices"] == chunk["choices"]


def test_a_text_that_looks_like_usage_is_left_alone() -> None:
    chunk = delta(',"usage":null}')
    assert ChatStream(hide_usage=True).read(chunk) == chunk


def test_the_request_must_be_settled_before_the_usage_chunk_is_relayed() -> None:
    stream = ChatStream(hide_usage=False)
    stream.read(delta("a", usage=None))
    assert not stream.settle_before
    stream.read(event(choices=[], usage=USAGE))
    assert stream.settle_before


def test_usage_on_every_chunk_counts_with_its_last_value() -> None:
    stream = ChatStream(hide_usage=False)
    for tokens in (1, 2, 3):
        stream.read(delta("a", usage={"prompt_tokens": 7, "completion_tokens": tokens}))
    assert not stream.settle_before
    stream.read(DONE)
    assert stream.settle_before
    assert stream.usage == Buckets(input=7, output=3)


def test_calls_of_tools_and_reasoning_count_as_output_seen() -> None:
    stream = ChatStream(hide_usage=False)
    call = {"index": 0, "function": {"name": "find", "arguments": '{"q":'}}
    stream.read(event(choices=[{"index": 0, "delta": {"role": "assistant", "tool_calls": [call], "reasoning": "hm"}}]))
    assert stream.output_bytes == len("find") + len('{"q":') + len("hm")


COUNTS = st.integers(0, 1000)


@given(COUNTS, COUNTS, st.dictionaries(st.sampled_from(["cached_tokens", "audio_tokens", "image_tokens"]), COUNTS))
def test_the_buckets_add_up_to_the_totals_whatever_the_details_claim(
    prompt: int, completion: int, details: dict[str, int]
) -> None:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "prompt_tokens_details": details}
    buckets = buckets_of(usage | {"completion_tokens_details": {"reasoning_tokens": details.get("image_tokens")}})
    assert buckets is not None
    assert (buckets.input_tokens, buckets.output_tokens) == (prompt, completion)


def test_a_usage_that_does_not_count_is_no_usage() -> None:
    for usage in (
        None,
        {},
        {"prompt_tokens": 3},
        {"prompt_tokens": -1, "completion_tokens": 2},
        {"prompt_tokens": "3"},
        {"prompt_tokens": 3, "completion_tokens": 2**64 - 1},
    ):
        assert buckets_of(usage) is None
