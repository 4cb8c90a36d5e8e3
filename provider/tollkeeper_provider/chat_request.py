"""A chat completion request, read once at the edge into what the simulated provider needs of it."""

from dataclasses import dataclass
from typing import Any, Final

import orjson

from tollkeeper_provider.errors import Refusal

_MOST_CHOICES: Final = 128
_NOT_TEXT: Final = frozenset({"role", "type"})


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What of a request decides the answer. `prompt_bytes` is the UTF-8 length of all text for the model to read."""

    model: str
    prompt_bytes: int
    choices: int = 1
    output_limit: int | None = None
    stream: bool = False
    include_usage: bool = False


def parse_chat_request(body: bytes) -> ChatRequest:
    """Read a body of `POST /v1/chat/completions`. Raises `Refusal` (400) that names the field."""
    fields = _object(body)
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        raise Refusal(400, "you must provide a model parameter", param="model")
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refusal(400, "'messages' must be a list of at least one message", param="messages")
    stream = _boolean(fields, "stream")
    return ChatRequest(
        model=model,
        prompt_bytes=_text_bytes([messages, fields.get("tools")]),
        choices=_whole(fields, "n", most=_MOST_CHOICES) or 1,
        output_limit=_output_limit(fields),
        stream=stream,
        include_usage=_include_usage(fields, stream=stream),
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, f"the body is not valid JSON: {error}") from error
    if not isinstance(fields, dict):
        raise Refusal(400, "the body must be a JSON object")
    return fields


def _boolean(fields: dict[str, Any], name: str) -> bool:
    value = fields.get(name)
    if value is not None and not isinstance(value, bool):
        raise Refusal(400, f"'{name}' must be true or false", param=name, code="invalid_type")
    return bool(value)


def _whole(fields: dict[str, Any], name: str, most: int | None = None) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise Refusal(400, f"'{name}' must be a whole number", param=name, code="invalid_type")
    if value < 1 or (most is not None and value > most):
        bounds = "at least 1" if most is None else f"from 1 to {most}"
        raise Refusal(400, f"'{name}' is {value}; it must be {bounds}", param=name, code="invalid_value")
    return value


def _output_limit(fields: dict[str, Any]) -> int | None:
    """The smaller of the current name and the old one, so that both are honoured where both stand."""
    limits = [_whole(fields, "max_completion_tokens"), _whole(fields, "max_tokens")]
    return min((limit for limit in limits if limit is not None), default=None)


def _include_usage(fields: dict[str, Any], *, stream: bool) -> bool:
    options = fields.get("stream_options")
    if options is None:
        return False
    if not stream:
        raise Refusal(400, "'stream_options' is only allowed when 'stream' is true", param="stream_options")
    if not isinstance(options, dict):
        raise Refusal(400, "'stream_options' must be an object", param="stream_options", code="invalid_type")
    return _boolean(options, "include_usage")


def _text_bytes(root: object) -> int:
    """UTF-8 bytes of every string below `root`, but for the values of `role` and `type`, which are form, not text."""
    total, waiting = 0, [root]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            total += len(value.encode())
        elif isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, dict):
            waiting.extend(item for key, item in value.items() if key not in _NOT_TEXT)
    return total
