"""Captures: the bodies of a request and its answer, kept where a tenant asks for it (R27). Values, and who keeps them.

They are no part of accounting: nothing is charged by them, and nothing waits for them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from tollkeeper.redactionrules import Redaction


@dataclass(frozen=True, slots=True)
class KeptBodies:
    """How a tenant's bodies are kept: how long, and what is taken out of them before."""

    retention: timedelta
    redaction: Redaction


@dataclass(frozen=True, slots=True)
class Body:
    """One body: what was sent as its type, and its bytes. `size` is how many it had; `truncated`: not all of them are here."""

    content_type: str
    content: bytes = field(repr=False)
    size: int
    truncated: bool


@dataclass(frozen=True, slots=True)
class Capture:
    """The request as its caller sent it and the answer as the caller got it. `status` is the answer's; times are UTC."""

    request_id: str
    tenant: str
    captured_at: datetime
    expires_at: datetime
    status: int
    request: Body
    answer: Body


class Keeper(Protocol):
    """Where captures go. Called on a thread that may wait."""

    def keep(self, captures: Sequence[Capture]) -> None:
        """Write these down, all of them or none. Raises `Unavailable`: none is kept."""
        ...
