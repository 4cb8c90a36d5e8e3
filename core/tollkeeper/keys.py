"""API keys of the gateway: 256 bits, of which only a hash is ever stored (W5), bound to a tenant (W1).

A key reads `tk_<id>_<secret>`: the id is public and names the key in lists and ledgers.
"""

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tollkeeper.errors import InvalidValue

KEY_LABEL = "tollkeeper.dev/api-key"
"""The label of the Secrets in which keys stand; its value is the key's id."""

KEY_FIELD = "key.json"
"""The one field of such a Secret: what `ApiKey.to_json` wrote. The key itself is not in it."""

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

    def to_json(self) -> str:
        """The text of `KEY_FIELD`."""
        return json.dumps(
            {
                "id": self.id,
                "fingerprint": self.fingerprint,
                "tenant": self.tenant,
                "user": self.user,
                "assistants": list(self.assistants),
                "models": list(self.models),
                "delegate": self.delegate,
                "created": self.created.isoformat() if self.created else None,
                "revoked": self.revoked.isoformat() if self.revoked else None,
            }
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> "ApiKey":
        """The key that `to_json` wrote. Raises `InvalidValue` for anything else."""
        try:
            raw: Mapping[str, Any] = json.loads(text)
            return cls(
                id=str(raw["id"]),
                fingerprint=str(raw["fingerprint"]),
                tenant=str(raw["tenant"]),
                user=raw["user"],
                assistants=tuple(raw["assistants"]),
                models=tuple(raw["models"]),
                delegate=bool(raw["delegate"]),
                created=_time(raw["created"]),
                revoked=_time(raw["revoked"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidValue(f"the API key is damaged ({error!r}): revoke it and create another") from error


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def new_secret() -> tuple[str, str]:
    """A fresh key and its id: the key is shown once and never stored."""
    key_id = secrets.token_hex(6)
    return f"{PREFIX}{key_id}_{secrets.token_urlsafe(SECRET_BYTES)}", key_id


def fingerprint(key: str) -> str:
    """The SHA-256 of a key, in hex. Keys are 256 random bits, so a slow hash would add nothing."""
    return hashlib.sha256(key.encode()).hexdigest()
