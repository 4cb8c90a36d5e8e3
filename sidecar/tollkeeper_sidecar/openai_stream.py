"""A streamed chat completion, event by event: what to relay, and what it tells about usage. Sans-I/O.

- `settle_before` becomes true with the event before whose relay the request must be settled: the chunk that carries the
  usage alone, or `[DONE]` where no such chunk came.
- With `hide_usage` the client did not ask for usage: the chunk that carries it alone is left out, and the field is taken
  out of other chunks (F5). Everything else is relayed byte for byte.
"""

import re
from typing import Any, Final

import orjson

from tollkeeper.usage import Buckets
from tollkeeper_sidecar.openai_usage import buckets_of, generated_bytes, id_of
from tollkeeper_sidecar.sse import data_of

_NULL_AT_END: Final = re.compile(rb',\s*"usage"\s*:\s*null\s*\}\s*\Z')


class ChatStream:
    """Reads the events of one stream in order.

    `output_bytes` is the UTF-8 length of all generated text seen so far: no fewer than its tokens.
    """

    __slots__ = ("_hide_usage", "done", "output_bytes", "settle_before", "upstream_id", "usage")

    def __init__(self, *, hide_usage: bool) -> None:
        self._hide_usage = hide_usage
        self.usage: Buckets | None = None
        self.upstream_id: str | None = None
        self.output_bytes = 0
        self.settle_before = False
        self.done = False

    def read(self, event: bytes) -> bytes:
        """Take in one whole event; returns what the client gets of it, which may be nothing."""
        data = data_of(event)
        if not data:
            return event
        if data == b"[DONE]":
            self.done = self.settle_before = True
            return event
        try:
            chunk = orjson.loads(data)
        except orjson.JSONDecodeError:
            self.output_bytes += len(data)
            return event
        return self._chunk(event, data, chunk) if isinstance(chunk, dict) else event

    def _chunk(self, event: bytes, data: bytes, chunk: dict[str, Any]) -> bytes:
        if self.upstream_id is None:
            self.upstream_id = id_of(chunk)
        choices = chunk.get("choices")
        if choices:
            self.output_bytes += sum(_generated(choice) for choice in choices)
        if "usage" not in chunk:
            return event
        self.usage = buckets_of(chunk["usage"]) or self.usage
        if not choices and chunk["usage"] is not None:
            self.settle_before = True
            return b"" if self._hide_usage else event
        return _without_usage(data, chunk) if self._hide_usage else event


def _without_usage(data: bytes, chunk: dict[str, Any]) -> bytes:
    if _NULL_AT_END.search(data):
        return b"data: " + _NULL_AT_END.sub(b"}", data) + b"\n\n"
    return b"data: " + orjson.dumps({key: value for key, value in chunk.items() if key != "usage"}) + b"\n\n"


def _generated(choice: object) -> int:
    """Bytes of all text in a choice's delta: content, refusals, reasoning, calls of tools."""
    delta = choice.get("delta") if isinstance(choice, dict) else None
    if isinstance(delta, dict) and len(delta) == 1 and isinstance(content := delta.get("content"), str):
        return len(content.encode())
    return generated_bytes(delta)
