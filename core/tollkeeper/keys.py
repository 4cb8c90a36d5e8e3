"""API keys of the gateway: 256 bits, of which only a hash is ever stored (W5), bound to a tenant (W1).

A key reads `tk_<id>_<secret>`: the id is public and names the key in lists and ledgers.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime

PREFIX = "tk_"
SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What a key permits. Empty `assistants` or `models` permit all; `delegate` lets callers name a user (W1)."""

    id: str
    fingerprint: str
    tenant: str
    user: str | None = None
    assistants: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    delegate: bool = False
    created: datetime | None = None
    revoked: datetime | None = None


def new_secret() -> tuple[str, str]:
    """A fresh key and its id: the key is shown once and never stored."""
    key_id = secrets.token_hex(6)
    return f"{PREFIX}{key_id}_{secrets.token_urlsafe(SECRET_BYTES)}", key_id


def fingerprint(key: str) -> str:
    """The SHA-256 of a key, in hex. Keys are 256 random bits, so a slow hash would add nothing."""
    return hashlib.sha256(key.encode()).hexdigest()
