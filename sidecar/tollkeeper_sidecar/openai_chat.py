"""A chat completion request, read once: what metering needs of it, and the few fields that may have to change.

A body that needs no change is passed on byte for byte (F5). A field that is missing is put in front of the others; only
a field that stands there with another value makes the body be written anew.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from tollkeeper.usage import LONGEST_NAME, is_name
from tollkeeper_sidecar.errors import Denial, RequestRefused

LIMIT_FIELDS: Final = ("max_completion_tokens", "max_tokens")
"""The names of the output limit; the first is today's, the second the old one."""

_CHOICE_FIELDS: Final = ("n", "best_of")
_GOVERNING: Final = ("model", *_CHOICE_FIELDS, "stream", "stream_options", *LIMIT_FIELDS)
_REFERENCES: Final = (
    "previous_response_id",
    "conversation",
    "prompt",
    "web_search_options",
    "data_sources",
    "extra_body",
)
_TEXT_PARTS: Final = frozenset({"text", "refusal"})
_TEXT_TOOLS: Final = frozenset({"function", "custom"})
_MOST_CHOICES: Final = 1024


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What of a chat completion request decides its bound, its price and the way its answer is read.

    `output_limit` is the smaller of the limits that it names, for each of its `choices`. `by_reference`: something in it
    stands for content that is not in the body (H1). `prediction_bytes` is the text that it predicts: what of it is not
    used counts as output.
    """

    body: bytes
    fields: Mapping[str, Any]
    model: str
    stream: bool
    wants_usage: bool
    choices: int
    output_limit: int | None
    messages: int
    by_reference: bool
    prediction_bytes: int

    @property
    def prompt_bytes(self) -> int:
        """Bytes of the whole body: no fewer than its text has as UTF-8, since JSON only ever makes text longer."""
        return len(self.body)


def parse_chat_request(body: bytes) -> ChatRequest:
    """Read the body of `POST …/v1/chat/completions`. Raises `RequestRefused` (bad request) that names the field."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _bad(f"the body is not valid JSON: {error}", None) from error
    if not isinstance(fields, dict):
        raise _bad("the body must be a JSON object", None)
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        raise _bad("you must provide a model parameter", "model")
    if not is_name(model):
        raise _bad(f"'model' must have at most {LONGEST_NAME} printable characters", "model")
    _refuse_lookalikes(fields)
    _refuse_doubles(body)
    messages = fields.get("messages")
    stream = _boolean(fields, "stream")
    limits = [limit for name in LIMIT_FIELDS if (limit := _whole(fields, name)) is not None]
    return ChatRequest(
        body=body,
        fields=fields,
        model=model,
        stream=stream,
        wants_usage=stream and _wants_usage(fields),
        choices=max(_whole(fields, name, most=_MOST_CHOICES) or 1 for name in _CHOICE_FIELDS),
        output_limit=min(limits, default=None),
        messages=len(messages) if isinstance(messages, list) else 0,
        by_reference=_by_reference(fields, messages),
        prediction_bytes=len(orjson.dumps(fields["prediction"])) if fields.get("prediction") else 0,
    )


def body_with(chat: ChatRequest, output_limit: int | None, *, ask_usage: bool) -> bytes:
    """The body to pass on: with this output limit, where one is given, and with the usage of a stream asked for."""
    changes: dict[str, Any] = {}
    if output_limit is not None:
        present = [name for name in LIMIT_FIELDS if chat.fields.get(name) is not None] or [LIMIT_FIELDS[0]]
        changes |= {name: output_limit for name in present if chat.fields.get(name) != output_limit}
    if ask_usage and not chat.wants_usage:
        changes["stream_options"] = {**(chat.fields.get("stream_options") or {}), "include_usage": True}
    if not changes:
        return chat.body
    if changes.keys() & chat.fields.keys():
        return orjson.dumps({**chat.fields, **changes})
    opening = chat.body.index(b"{") + 1
    return chat.body[:opening] + orjson.dumps(changes)[1:-1] + b"," + chat.body[opening:]


def _bad(message: str, param: str | None) -> RequestRefused:
    return RequestRefused(Denial.BAD_REQUEST, message, param=param)


def _boolean(fields: Mapping[str, Any], name: str) -> bool:
    value = fields.get(name)
    if value is not None and not isinstance(value, bool):
        raise _bad(f"'{name}' must be true or false", name)
    return bool(value)


def _whole(fields: Mapping[str, Any], name: str, most: int = 2**31) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise _bad(f"'{name}' must be a whole number from 1 to {most}", name)
    return value


def _wants_usage(fields: Mapping[str, Any]) -> bool:
    options = fields.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise _bad("'stream_options' must be an object", "stream_options")
    return _boolean(options, "include_usage")


def _by_reference(fields: Mapping[str, Any], messages: object) -> bool:
    """Whether something stands in the body for content that does not: its size is known to the provider alone."""
    # An empty object is a reference too: `web_search_options: {}` has the provider search.
    if any(fields.get(name) is not None for name in _REFERENCES):
        return True
    tools = fields.get("tools")
    if isinstance(tools, list) and any(not isinstance(t, dict) or t.get("type") not in _TEXT_TOOLS for t in tools):
        return True
    return isinstance(messages, list) and any(_refers(message) for message in messages)


def _refers(message: object) -> bool:
    if not isinstance(message, dict):
        return False
    content = message.get("content")
    if isinstance(content, dict) or message.get("audio"):
        return True
    if not isinstance(content, list):
        return False
    return any(isinstance(part, dict) and part.get("type") not in _TEXT_PARTS for part in content)


def _refuse_lookalikes(fields: Mapping[str, Any]) -> None:
    """Refuse a governing field in other letters: providers that ignore case would take it, and it was not held for."""
    for name in fields:
        if name not in _GOVERNING and (meant := name.casefold()) in _GOVERNING:
            raise _bad(f"write {name!r} as '{meant}'", name)


def _refuse_doubles(body: bytes) -> None:
    """Refuse a body that names a governing field twice: the provider might take the one that was not held for.

    Such a body has the name twice as a quoted word, or hides one behind an escape; only then it is read thoroughly.
    """
    if b"\\u00" not in body and all(body.count(b'"%s"' % name.encode()) < 2 for name in _GOVERNING):
        return
    outermost: list[list[tuple[str, Any]]] = [[]]

    def keep(pairs: list[tuple[str, Any]]) -> None:
        outermost[0] = pairs

    json.loads(body, object_pairs_hook=keep)
    names = [name for name, _ in outermost[0]]
    for name in _GOVERNING:
        if names.count(name) > 1:
            raise _bad(f"'{name}' stands twice in the body", name)
