"""Captures, sealed and not, of tenant `research` an hour before noon."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

from tollkeeper.captures import Body, Capture
from tollkeeper_ledger.captures.sealing import KEY_BYTES, Keys, parse_keys
from tollkeeper_ledger.captures.storage import Sealed

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
CAPTURED = NOON - timedelta(hours=1)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def key(letter: str) -> str:
    """A key as its file has it."""
    return base64.b64encode(letter.encode() * KEY_BYTES).decode()


def keys(letters: str = "a") -> Keys:
    return parse_keys("\n".join(map(key, letters)))


def sealed(request_id: str = "r1", **changes: Any) -> Sealed:
    values: dict[str, Any] = {
        "tenant": "research",
        "captured_at": CAPTURED,
        "expires_at": CAPTURED + DAY,
        "status": 200,
        "request": b"sealed request",
        "answer": b"sealed answer",
    }
    return Sealed(request_id, **(values | changes))


def body(content: bytes = b'{"model":"gpt-5"}', **changes: Any) -> Body:
    values: dict[str, Any] = {"content_type": "application/json", "size": len(content), "truncated": False}
    return Body(content=content, **(values | changes))


def capture(request_id: str = "r1", **changes: Any) -> Capture:
    values: dict[str, Any] = {
        "tenant": "research",
        "captured_at": CAPTURED,
        "expires_at": CAPTURED + DAY,
        "status": 200,
        "request": body(b'{"question":"why"}'),
        "answer": body(b'data: {"answer":"because"}\n\n', content_type="text/event-stream", size=99, truncated=True),
    }
    return Capture(request_id, **(values | changes))
