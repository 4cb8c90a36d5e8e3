import json

import pytest

from tollkeeper_provider.behaviour import Behaviour, parse_behaviour
from tollkeeper_provider.chat_request import ChatRequest, parse_chat_request
from tollkeeper_provider.errors import HeaderError, Refusal

MESSAGES = [{"role": "user", "content": "Where is it?"}]


def body(**fields: object) -> bytes:
    return json.dumps({"model": "gpt-5", "messages": MESSAGES, **fields}).encode()


def test_the_text_of_a_request_is_all_its_strings_but_roles_and_types() -> None:
    messages = [
        {"role": "system", "content": "né"},
        {"role": "user", "name": "Ada", "content": [{"type": "text", "text": "four"}]},
    ]
    tools = [{"type": "function", "function": {"name": "find", "description": "it"}}]

    assert parse_chat_request(body(messages=messages, tools=tools)).prompt_bytes == len("néAdafourfindit".encode())


def test_what_is_not_said_has_openais_defaults() -> None:
    assert parse_chat_request(body()) == ChatRequest("gpt-5", prompt_bytes=len("Where is it?"))


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        ({"max_tokens": 7}, 7),
        ({"max_completion_tokens": 8}, 8),
        ({"max_tokens": 7, "max_completion_tokens": 8}, 7),
        ({"max_tokens": 9, "max_completion_tokens": 8}, 8),
        ({"max_tokens": None}, None),
    ],
)
def test_both_names_of_the_output_limit_are_honoured(limits: dict[str, int | None], limit: int | None) -> None:
    assert parse_chat_request(body(**limits)).output_limit == limit


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": ""}, "model"),
        ({"model": 5}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"n": True}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 1.5}, "max_completion_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": 1}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "include_usage"),
    ],
)
def test_a_field_that_openai_would_refuse_is_refused_by_name(fields: dict[str, object], param: str) -> None:
    with pytest.raises(Refusal) as raised:
        parse_chat_request(body(**fields))
    assert (raised.value.status, raised.value.param) == (400, param)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff", b'{"a":' * 5000])
def test_a_body_that_is_no_json_object_is_refused(raw: bytes) -> None:
    with pytest.raises(Refusal, match="JSON"):
        parse_chat_request(raw)


def test_faults_are_listed_in_a_header() -> None:
    assert parse_behaviour(None) == Behaviour()
    assert parse_behaviour("die-midway, slow=20") == Behaviour(die_midway=True, milliseconds_per_token=20)
    assert parse_behaviour("ignore-limit,error-500,no-usage") == Behaviour(
        ignore_limit=True, error_500=True, no_usage=True
    )


@pytest.mark.parametrize("header", ["", "die", "slow", "slow=", "slow=-1", "slow=60001", "slow=1e3", "no-usage=1"])
def test_an_unknown_fault_is_refused(header: str) -> None:
    with pytest.raises(HeaderError, match=r"^Provider-Behaviour: .* is unknown; write ignore-limit"):
        parse_behaviour(header)
