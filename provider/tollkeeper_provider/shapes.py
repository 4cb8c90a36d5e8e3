"""OpenAI's JSON, built. Shapes follow the API reference for chat completions, models and errors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tollkeeper_provider.answer import FinishReason, text
from tollkeeper_provider.buckets import Buckets
from tollkeeper_provider.errors import Refusal

NAME: Final = "tollkeeper-simulated-provider"
_FINGERPRINT: Final = "fp_simulated"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Heading:
    """What every chunk of an answer repeats: its id, its time in whole Unix seconds, the model that was asked for."""

    id: str
    created: int
    model: str

    def as_json(self, kind: str) -> Json:
        """The heading's fields for an `object` of this kind."""
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "service_tier": "default",
            "system_fingerprint": _FINGERPRINT,
        }


def usage(buckets: Buckets) -> Json:
    """The `usage` object: OpenAI's prompt and completion counts contain their details."""
    return {
        "prompt_tokens": buckets.prompt,
        "completion_tokens": buckets.completion,
        "total_tokens": buckets.total,
        "prompt_tokens_details": {
            "cached_tokens": buckets.cache_read,
            "cache_write_tokens": buckets.cache_write,
            "audio_tokens": buckets.audio_input,
            "image_tokens": buckets.image,
        },
        "completion_tokens_details": {
            "reasoning_tokens": buckets.reasoning,
            "audio_tokens": buckets.audio_output,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def completion(
    heading: Heading, choice: Buckets, choices: int, finish_reason: FinishReason, counted: Buckets | None
) -> Json:
    """A whole `chat.completion`; without `usage` when nothing is to be told."""
    message: Json = {"role": "assistant", "content": text(choice.output), "refusal": None, "annotations": []}
    body = heading.as_json("chat.completion")
    body["choices"] = [
        {"index": index, "message": message, "logprobs": None, "finish_reason": finish_reason}
        for index in range(choices)
    ]
    if counted is not None:
        body["usage"] = usage(counted)
    return body


def chunk(heading: Heading, index: int, delta: Mapping[str, object], finish_reason: FinishReason | None = None) -> Json:
    """One `chat.completion.chunk` of one choice."""
    body = heading.as_json("chat.completion.chunk")
    body["choices"] = [{"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]
    return body


def usage_chunk(heading: Heading, buckets: Buckets) -> Json:
    """The last chunk of a stream that was asked to include usage: no choices, the counts of all of them."""
    body = heading.as_json("chat.completion.chunk")
    body["choices"] = []
    body["usage"] = usage(buckets)
    return body


def error(refusal: Refusal) -> Json:
    """The error object of a refusal."""
    return {
        "error": {
            "message": refusal.message,
            "type": refusal.type,
            "param": refusal.param,
            "code": refusal.code,
        }
    }


def models(names: tuple[str, ...], created: int) -> Json:
    """The list of models: named as what they are."""
    return {
        "object": "list",
        "data": [{"id": name, "object": "model", "created": created, "owned_by": NAME} for name in names],
    }
