"""OpenAI's `usage` object, read into disjoint buckets (M3)."""

from dataclasses import dataclass
from typing import Any, Final

import orjson

from tollkeeper.usage import Buckets

_NOT_GENERATED: Final = frozenset({"role", "finish_reason"})

MOST_TOKENS: Final = 2**32
"""No answer has more tokens than this: a count beyond it is not one, and must not reach the books."""


def buckets_of(usage: object) -> Buckets | None:
    """The buckets of a `usage` object of chat completions; `None` when it does not say what was used.

    The details are parts of `prompt_tokens` and `completion_tokens`: whatever they claim, the totals stay the totals.
    """
    if not isinstance(usage, dict):
        return None
    prompt, completion = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    if prompt is None or completion is None:
        return None
    ins, outs = _details(usage, "prompt_tokens_details"), _details(usage, "completion_tokens_details")
    left, cache_read = _part(prompt, ins.get("cached_tokens"))
    left, cache_write = _part(left, ins.get("cache_write_tokens"))
    left, audio_input = _part(left, ins.get("audio_tokens"))
    fresh, image = _part(left, ins.get("image_tokens"))
    left, reasoning = _part(completion, outs.get("reasoning_tokens"))
    output, audio_output = _part(left, outs.get("audio_tokens"))
    return Buckets(
        input=fresh,
        cache_read=cache_read,
        cache_write_5m=cache_write,
        output=output,
        reasoning=reasoning,
        audio_input=audio_input,
        audio_output=audio_output,
        image=image,
    )


@dataclass(frozen=True, slots=True)
class WholeAnswer:
    """What an answer in one piece tells; `output_bytes` bounds its output tokens where it tells no usage."""

    usage: Buckets | None
    upstream_id: str | None
    output_bytes: int


def read_answer(body: bytes) -> WholeAnswer:
    """Read a `chat.completion`. A body that is none tells nothing, and all of it may be output."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        return WholeAnswer(None, None, len(body))
    if not isinstance(fields, dict):
        return WholeAnswer(None, None, len(body))
    usage = buckets_of(fields.get("usage"))
    return WholeAnswer(usage, id_of(fields), 0 if usage else generated_bytes(fields.get("choices")))


def generated_bytes(value: object) -> int:
    """UTF-8 bytes of all text below a value, but for roles and finish reasons: no fewer than its tokens."""
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, list):
        return sum(generated_bytes(item) for item in value)
    if isinstance(value, dict):
        return sum(generated_bytes(item) for key, item in value.items() if key not in _NOT_GENERATED)
    return 0


def id_of(fields: dict[str, Any]) -> str | None:
    """The provider's own id of an answer or a chunk."""
    own = fields.get("id")
    return own if isinstance(own, str) and own else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS else None


def _details(usage: dict[str, Any], name: str) -> dict[str, Any]:
    details = usage.get(name)
    return details if isinstance(details, dict) else {}


def _part(whole: int, part: object) -> tuple[int, int]:
    """What is left of a whole without a part of it, and the part."""
    taken = min(whole, _count(part) or 0)
    return whole - taken, taken
