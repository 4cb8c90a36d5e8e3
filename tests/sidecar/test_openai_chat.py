"""Chat requests: read once, changed as little as may be."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper_sidecar.errors import RequestRefused
from tollkeeper_sidecar.openai_chat import body_with, parse_chat_request

HELLO = [{"role": "user", "content": "hello"}]


def body(**fields: Any) -> bytes:
    return orjson.dumps({"model": "gpt-5", "messages": HELLO, **fields})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**50), 2**50) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
EXTRAS = st.dictionaries(st.sampled_from(["temperature", "metadata", "tools", "stop", "seed"]), JSON)


@given(EXTRAS, st.integers(1, 10**6))
def test_a_body_that_needs_no_change_is_the_same_bytes(extra: dict[str, Any], limit: int) -> None:
    """F5."""
    raw = body(max_tokens=limit, **extra)
    chat = parse_chat_request(raw)
    assert body_with(chat, limit, ask_usage=False) is chat.body
    assert body_with(chat, None, ask_usage=False) is chat.body


@given(EXTRAS, st.integers(1, 10**6), st.booleans())
def test_a_limit_and_the_usage_are_put_in_and_all_else_stays(extra: dict[str, Any], limit: int, ask: bool) -> None:
    raw = body(stream=True, **extra)
    changed = orjson.loads(body_with(parse_chat_request(raw), limit, ask_usage=ask))
    assert changed.pop("max_completion_tokens") == limit
    assert changed.pop("stream_options", None) == ({"include_usage": True} if ask else None)
    assert changed == orjson.loads(raw)


def test_what_is_missing_is_put_in_front_of_bytes_that_stay() -> None:
    raw = b' { "model" : "gpt-5", "messages":[], "temperature":1.00 }'
    assert body_with(parse_chat_request(raw), 20, ask_usage=False) == b' {"max_completion_tokens":20,' + raw[2:]


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_limit_is_lowered_under_the_name_that_the_request_used(name: str) -> None:
    changed = orjson.loads(body_with(parse_chat_request(body(**{name: 500})), 16, ask_usage=False))
    assert {key: value for key, value in changed.items() if key.startswith("max_")} == {name: 16}


def test_of_two_limits_the_smaller_counts_and_both_are_set_to_it() -> None:
    chat = parse_chat_request(body(max_tokens=50, max_completion_tokens=100))
    assert chat.output_limit == 50
    changed = orjson.loads(body_with(chat, 50, ask_usage=False))
    assert (changed["max_tokens"], changed["max_completion_tokens"]) == (50, 50)


def test_other_stream_options_are_kept() -> None:
    chat = parse_chat_request(body(stream=True, stream_options={"include_obfuscation": False}))
    changed = orjson.loads(body_with(chat, None, ask_usage=True))
    assert changed["stream_options"] == {"include_obfuscation": False, "include_usage": True}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": "x" * 300}, "model"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "12"}, "max_tokens"),
        ({"max_completion_tokens": True}, "max_completion_tokens"),
        ({"n": -1}, "n"),
        ({"stream": "yes"}, "stream"),
        ({"stream": True, "stream_options": []}, "stream_options"),
    ],
)
def test_a_field_that_cannot_be_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        parse_chat_request(body(**fields))
    assert refused.value.param == param


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model":"cheap","messages":[],"model":"dear"}',
        b'{"model":"cheap","messages":[],"mod\\u0065l":"dear"}',
        b'{"model":"cheap","max_tokens":5,"messages":[],"max_tokens":50000}',
    ],
)
def test_a_field_that_stands_twice_is_refused(raw: bytes) -> None:
    with pytest.raises(RequestRefused, match="stands twice"):
        parse_chat_request(raw)


@pytest.mark.parametrize("name", ["N", "Model", "MAX_TOKENS", "max_token\u017f", "Best_Of"])
def test_a_field_in_other_letters_is_refused_since_some_providers_would_take_it(name: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        parse_chat_request(body(**{name: 50_000}))
    assert refused.value.param == name


@pytest.mark.parametrize(
    ("fields", "choices"), [({}, 1), ({"n": 3}, 3), ({"best_of": 5}, 5), ({"n": 2, "best_of": 4}, 4)]
)
def test_choices_that_are_thrown_away_count_too(fields: dict[str, int], choices: int) -> None:
    assert parse_chat_request(body(**fields)).choices == choices


def test_the_names_of_fields_may_stand_elsewhere() -> None:
    schema = {"type": "object", "properties": {"model": {"type": "string"}, "n": {"type": "integer"}}}
    tools = [{"type": "function", "function": {"name": "model", "parameters": schema}}]
    assert parse_chat_request(body(tools=tools, n=2)).choices == 2


@pytest.mark.parametrize(
    ("fields", "by_reference"),
    [
        ({}, False),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}, False),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, False),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x"}}]}]}, True),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]}, True),
        ({"messages": [{"role": "assistant", "audio": {"id": "a"}}]}, True),
        ({"web_search_options": {"user_location": {}}}, True),
        ({"web_search_options": {}}, True),
        ({"web_search_options": None}, False),
        ({"tools": [{"type": "file_search"}]}, True),
    ],
)
def test_content_by_reference_is_seen(fields: dict[str, Any], by_reference: bool) -> None:
    assert parse_chat_request(body(**fields)).by_reference is by_reference


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b'"x"', b"\xff", b'{"model":"x"} trailing'])
def test_a_body_that_is_no_json_object_is_refused(raw: bytes) -> None:
    with pytest.raises(RequestRefused):
        parse_chat_request(raw)
