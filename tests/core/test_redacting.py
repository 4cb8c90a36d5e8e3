"""Redaction of bodies: JSON whole or cut off, streams of events, and what is neither (R27)."""

import json
import time
import tracemalloc
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.test_redaction import FOUND
from tollkeeper.detectors import names_secret
from tollkeeper.jsontexts import read_document, spans_in_raw
from tollkeeper.patterns import Deadline, TookTooLong, within
from tollkeeper.redacting import redacted_body
from tollkeeper.redaction import MOST_LEVELS, redacted
from tollkeeper.redactionrules import UNLESS_STATED, BuiltIn, OwnPattern, Redaction

SECRET = "alice@example.com"
GONE = "[redacted:EmailAddresses]"
texts = st.one_of(st.text(max_size=20), st.sampled_from([SECRET, f"to {SECRET}!", "4111111111111111", '"\\{[,:']))
names = texts.filter(lambda name: not names_secret(name))
values = st.recursive(
    st.one_of(texts, st.none(), st.booleans(), st.integers(-(10**9), 10**9)),
    lambda below: st.one_of(st.lists(below, max_size=4), st.dictionaries(names, below, max_size=4)),
    max_leaves=15,
)


def body(raw: str | bytes, redaction: Redaction | None = None, *, stream: bool = False) -> str:
    content = raw.encode() if isinstance(raw, str) else raw
    left = redacted_body(content, redaction or Redaction(), is_stream=stream)
    return left.decode("utf-8", "surrogateescape")


def events(*deltas: dict[str, Any], done: bool = True) -> str:
    lines = [f"data: {json.dumps({'id': 'c1', 'choices': [delta]})}\n\n" for delta in deltas]
    return "".join(lines) + ("data: [DONE]\n\n" if done else "")


def said(stream: str, index: int = 0) -> str:
    """What a client puts together of a stream."""
    chunks = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
    choices = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
    return "".join(choice["delta"].get("content", "") for choice in choices)


def redacted_value(value: Any) -> Any:
    match value:
        case str():
            return redacted(value, Redaction())
        case list():
            return [redacted_value(one) for one in value]
        case dict():
            return {redacted_value(key): redacted_value(one) for key, one in value.items()}
        case _:
            return value


@given(values)
def test_of_a_document_each_text_is_redacted_and_all_else_stays(value: Any) -> None:
    document = {"messages": value}
    assert json.loads(body(json.dumps(document))) == redacted_value(document)
    assert json.loads(body(orjson.dumps(document))) == redacted_value(document)


@given(values)
def test_a_redacted_document_comes_out_as_it_went_in(value: Any) -> None:
    once = body(json.dumps({"messages": value}))
    assert body(once) == once


@given(st.binary(max_size=200), st.booleans())
def test_bytes_that_are_nothing_are_redacted_as_text(raw: bytes, stream: bool) -> None:
    left = redacted_body(raw + b" " + SECRET.encode() + b" ", Redaction(), is_stream=stream)
    assert SECRET.encode() not in left


@given(values, st.data())
def test_a_document_that_is_cut_off_keeps_no_whole_secret(value: Any, data: st.DataObject) -> None:
    whole = json.dumps({"a": SECRET, "b": value})
    cut = data.draw(st.integers(len('{"a": "') + len(SECRET), len(whole)))
    assert SECRET not in body(whole[:cut])


def test_what_has_nothing_to_redact_is_the_same_bytes() -> None:
    raw = b'{ "model" : "gpt-5",\n "n": 1.0e3, "messages":[ {"content":"caf\\u00e9 \\/"} ] }'
    assert redacted_body(raw, Redaction(), is_stream=False) is raw


def test_escapes_hide_nothing() -> None:
    assert json.loads(body(r'{"m": "\u0061lice\u0040example\u002ecom"}')) == {"m": GONE}


def test_an_escape_that_is_cut_off_hides_nothing_before_it() -> None:
    assert body(r'{"m": "alice\u0040example.com \u00') == '{"m": "[redacted:EmailAddresses] '


def test_numbers_without_quotes_are_looked_at() -> None:
    assert body('{"card": 4111111111111111}') == '{"card": "[redacted:CardNumbers]"}'


def test_keys_are_looked_at() -> None:
    assert body(f'{{"{SECRET}": 1}}') == f'{{"{GONE}": 1}}'


def test_a_document_within_a_text_is_looked_at() -> None:
    arguments = json.dumps({"to": SECRET})
    assert SECRET not in body(json.dumps({"tool_calls": [{"function": {"arguments": arguments}}]}))


@pytest.mark.parametrize(
    "key",
    [
        *(
            "password",
            "apiKey",
            "API_KEY",
            "client-secret",
            "Authorization",
            "db_password",
            "aws_secret_access_key",
            "token",
        ),
        *("userPassword", "x-api-key", "sessionToken", "AccountKey", "spring.datasource.password"),
    ],
)
def test_a_text_under_the_name_of_a_secret_is_one(key: str) -> None:
    assert json.loads(body(json.dumps({"x": {key: "swordfish"}}))) == {"x": {key: "[redacted:Secrets]"}}
    assert "swordfish" in body(json.dumps({key: "swordfish"}), Redaction((BuiltIn.EMAIL_ADDRESSES,)))


@pytest.mark.parametrize("nested", [False, True])
def test_everything_beneath_the_name_of_a_secret_is_one(nested: bool) -> None:
    value = {
        "password": ["abc", 12345, None, True, ""],
        "db_password": {"value": "abc", "more": [{"x": "d"}]},
        "user": "ann",
    }
    raw = json.dumps({"m": json.dumps(value)} if nested else value)
    left = body(raw)
    gone = "[redacted:Secrets]" if nested else '"[redacted:Secrets]"'
    inner = json.loads(left)["m"] if nested else left
    assert inner == json.dumps(value).replace('"abc"', '"GONE"').replace("12345", gone).replace(
        '"d"', '"GONE"'
    ).replace("GONE", "[redacted:Secrets]")
    assert body(left) == left


def test_a_secret_in_what_a_stream_goes_on_with_is_one() -> None:
    assert "swordfish" not in body(events({"index": 0, "delta": {"password": "swordfish"}}), stream=True)


def test_of_a_schema_only_the_samples_of_a_secret_are_one() -> None:
    schema = {"properties": {"password": {"type": "string", "description": "of the user", "default": "swordfish"}}}
    left = json.loads(body(json.dumps({"parameters": schema})))
    described = left["parameters"]["properties"]["password"]
    assert described == {"type": "string", "description": "of the user", "default": "[redacted:Secrets]"}
    assert (
        json.loads(body('{"properties": {"password": "swordfish"}}'))["properties"]["password"] == "[redacted:Secrets]"
    )


def test_the_names_of_the_protocol_are_no_secrets() -> None:
    raw = {
        "model": "gpt-5",
        "max_tokens": 100000,
        "max_completion_tokens": 123456,
        "logprobs": True,
        "top_logprobs": 5,
        "prompt_cache_key": "conversation-42",
        "logit_bias": {"50256": -100},
        "usage": {"prompt_tokens": 12, "completion_tokens": 345, "total_tokens": 357, "reasoning_tokens": 3},
        "completion_tokens_details": {"accepted_prediction_tokens": 0},
        "tool_choice": {"type": "function", "function": {"name": "get_password_policy"}},
        "nested": '{"max_tokens": 123456, "tokens": ["some", "words"]}',
    }
    assert json.loads(body(json.dumps(raw))) == raw


def test_a_secret_that_is_cut_apart_between_events_is_found() -> None:
    """R27."""
    stream = events(
        *({"index": 0, "delta": {"content": piece}} for piece in ("to al", "ice@exam", "", "ple.com, ", "ok"))
    )
    left = body(stream, stream=True)
    assert said(left) == f"to {GONE}, ok"
    assert left.count("data: ") == stream.count("data: ")
    assert body(left, stream=True) == left


@given(st.lists(st.integers(0, 30), max_size=6), st.booleans())
def test_the_choices_of_a_stream_are_each_one_text(places: list[int], index_first: bool) -> None:
    text = f"write to {SECRET} soon"
    cuts = sorted(places)
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    choices = [(index, piece) for piece in pieces for index in (0, 1)]
    deltas = [
        {"index": index, "delta": {"content": piece}} if index_first else {"delta": {"content": piece}, "index": index}
        for index, piece in choices
    ]
    left = body(events(*deltas), stream=True)
    assert said(left, 0) == said(left, 1) == f"write to {GONE} soon"


def test_arguments_of_a_tool_that_come_in_pieces_are_one_text() -> None:
    pieces = ['{"to": "ali', "ce@example", '.com"}']
    calls = [{"index": 0, "delta": {"tool_calls": [{"index": 1, "function": {"arguments": one}}]}} for one in pieces]
    left = body(events(*calls), stream=True)
    assert "example" not in left
    assert "[redacted:EmailAddresses]" in left


def test_a_document_that_is_nested_without_end_takes_no_longer_than_another() -> None:
    deep = '{"delta":[' * 20_000 + f'"{SECRET}","x",' * 5_000
    assert SECRET not in body(deep)


def test_logprobs_which_say_the_answer_again_go_as_a_whole() -> None:
    logprobs = {"content": [{"token": "ali", "bytes": [97]}, {"token": "ce@example.com", "bytes": [64]}]}
    left = body(events({"index": 0, "delta": {"content": "hi"}, "logprobs": logprobs}), stream=True)
    assert "ali" not in left
    assert '"logprobs": "[redacted:logprobs]"' in left
    assert said(left) == "hi"


def test_lines_of_a_stream_that_are_no_documents_are_looked_at() -> None:
    left = body(f": ping {SECRET}\r\n\r\ndata: hello {SECRET}\r\rdata: [DONE]\n\n", stream=True)
    assert left == f": ping {GONE}\r\n\r\ndata: hello {GONE}\r\rdata: [DONE]\n\n"


def test_an_error_page_is_one_text() -> None:
    assert body(f"<p>ask {SECRET}</p>") == f"<p>ask {GONE}</p>"


def test_without_rules_nothing_is_changed() -> None:
    raw = SECRET.encode()
    assert redacted_body(raw, Redaction((), ()), is_stream=False) is raw


def test_a_pattern_of_ones_own_may_look_at_a_texts_ends() -> None:
    own = Redaction((), (OwnPattern("whole", "^secret$"),))
    assert json.loads(body('["secret", "secrets", "a secret"]', own)) == ["[redacted:whole]", "secrets", "a secret"]


@given(values)
def test_the_texts_of_a_document_are_those_that_a_parser_finds(value: Any) -> None:
    def quoted(one: Any) -> list[str]:
        match one:
            case str():
                return [one]
            case list():
                return [text for item in one for text in quoted(item)]
            case dict():
                return [text for key, item in one.items() for text in (key, *quoted(item))]
            case _:
                return []

    found = read_document(json.dumps(value)).texts
    assert [text.value for text in found if text.quoted] == quoted(value)


WRITTEN = {
    "path": ".env",
    "content": "A=1\nsk-proj-abcdefghijklmnop1234\n078-05-1120\n212-555-1234\nAKIAIOSFODNN7EXAMPLE\npassword: hunter22\n"
    "Bearer abcdefghijklmnopqrstuvwxyz\tbob@example.com",
    "password": "correct horse battery staple",
}
PARTS_WRITTEN = (
    *("sk-proj", "078-05", "555-1234", "AKIA", "hunter22", "abcdefghij", "bob", "correct", "horse", "battery"),
    "staple",
)


def test_each_line_that_a_tool_is_to_write_is_looked_at() -> None:
    """R27: a line's end is two characters in the arguments of a tool, of which the second is a letter."""
    arguments = json.dumps(WRITTEN).replace("@", "\\u0040")
    pieces = [arguments[at : at + 7] for at in range(0, len(arguments), 7)]
    calls = [{"index": 0, "delta": {"tool_calls": [{"index": 1, "function": {"arguments": one}}]}} for one in pieces]
    left = body(events(*calls), stream=True)
    chunks = [json.loads(line[6:]) for line in left.splitlines() if line.startswith("data: {")]
    together = "".join(one["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"] for one in chunks)
    assert not [part for part in PARTS_WRITTEN if part in together]
    assert json.loads(together)["password"] == "[redacted:Secrets]"
    assert json.loads(together)["path"] == ".env"


def test_each_line_that_a_tool_answers_is_looked_at() -> None:
    """R27."""
    left = body(json.dumps({"messages": [{"role": "tool", "content": json.dumps(WRITTEN)}]}))
    assert not [part for part in PARTS_WRITTEN if part in left]
    assert json.loads(json.loads(left)["messages"][0]["content"])["content"].startswith("A=1\n[redacted:Secrets]\n")


@pytest.mark.parametrize("around", ["Result: {}", "```json\n{}\n```", "He said:\n{} and left"])
def test_a_document_behind_words_is_looked_at(around: str) -> None:
    left = body(json.dumps({"content": around.replace("{}", json.dumps(WRITTEN))}))
    assert not [part for part in PARTS_WRITTEN if part in left]


def test_arguments_that_are_cut_off_are_looked_at() -> None:
    left = body(json.dumps({"arguments": json.dumps(WRITTEN)[:60]}))
    assert "sk-proj" not in left


@given(
    st.sampled_from([text for kind in UNLESS_STATED for text in FOUND[kind]]),
    st.sampled_from(["", "\n", "\t", "\r", "\b", "\f", '"', "\\", "a\n", "\\'\n", "é\n", "🧮\n"]),
    st.lists(st.sampled_from(["text", "list", "dict"]), max_size=MOST_LEVELS),
    st.booleans(),
)
def test_what_is_known_by_name_is_found_at_each_level(
    secret: str, before: str, levels: list[str], escaped: bool
) -> None:
    """R27."""
    value: Any = before + secret
    for level in levels:
        value = json.dumps({"text": value, "list": [value], "dict": {"a": value}}[level], ensure_ascii=escaped)
    left = body(json.dumps({"content": value}))
    inner = json.loads(left)["content"]
    for _ in levels:
        inner = json.loads(inner)
        inner = next(iter(inner.values())) if isinstance(inner, dict) else inner
        inner = inner[0] if isinstance(inner, list) else inner
    assert secret not in inner
    assert "[redacted:" in inner
    assert body(left) == left


@given(st.text(), st.data())
def test_a_place_of_a_text_as_it_reads_is_found_as_it_is_written(text: str, data: st.DataObject) -> None:
    end = data.draw(st.integers(0, len(text)))
    start = data.draw(st.integers(0, end))
    raw = json.dumps(text)[1:-1]
    [(first, last)] = spans_in_raw(raw, [(start, end)])
    assert json.loads(f'"{raw[first:last]}"') == text[start:end]


def test_a_document_of_many_numbers_ends_in_time() -> None:
    began = time.monotonic()
    with (
        within(Deadline(0.1)),
        pytest.raises(TookTooLong, match=r"reading JSON, which is no pattern of the tenant's own"),
    ):
        body("[" + '"",' * 1_000_000 + "1]")
    assert time.monotonic() - began < 2


def test_a_list_of_many_numbers_takes_little_memory_and_time() -> None:
    raw = b'{"input":[' + b"1,0.25,-3e-5,null," * 2**16 + b"1]}"
    tracemalloc.start()
    try:
        assert redacted_body(raw, Redaction(), is_stream=False) is raw
        assert tracemalloc.get_traced_memory()[1] < 10 * len(raw)
    finally:
        tracemalloc.stop()


def test_a_text_of_many_escapes_takes_little_memory() -> None:
    """A search that may give back what it took remembers each place."""
    raw = '{"m":"' + "\\\\" * 2**19 + '"}'
    tracemalloc.start()
    try:
        read_document(raw)
        assert tracemalloc.get_traced_memory()[1] < 10 * len(raw)
    finally:
        tracemalloc.stop()


def test_a_long_number_among_many_is_looked_at() -> None:
    left = body('{"a": [1, 2, 3, 4111111111111111, 5, 6], "b": [1, 2, 00441234567, 3], "c": [0.4111111111111111, 1]}')
    assert left == (
        '{"a": [1, 2, 3, "[redacted:CardNumbers]", 5, 6], "b": [1, 2, "[redacted:PhoneNumbers]", 3],'
        ' "c": [0.4111111111111111, 1]}'
    )


def test_a_pattern_of_ones_own_sees_each_number() -> None:
    own = Redaction((), (OwnPattern("answer", "^42$"),))
    assert body('{"a": [1, 42, 3], "b": 42}', own) == '{"a": [1, "[redacted:answer]", 3], "b": "[redacted:answer]"}'


@given(
    st.lists(st.one_of(st.integers(), st.none(), st.booleans(), st.floats(), st.just("x")), max_size=20), st.booleans()
)
def test_the_place_of_a_text_in_a_list_counts_what_is_before_it(items: list[Any], numbers: bool) -> None:
    found = read_document(json.dumps(items), numbers=numbers).texts
    assert [text.key for text in found if text.quoted] == [number for number, one in enumerate(items) if one == "x"]
