"""API keys as Kubernetes Secrets: what `keys create` writes and the operator reads (W5). The secret itself is never in it.

One Secret holds one key: `tollkeeper-key-<id>` in the system namespace, labelled with the key's id.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tollkeeper.errors import InvalidValue
from tollkeeper.keys import ApiKey
from tollkeeper.windows import format_time

LABEL = "tollkeeper.dev/api-key"
"""The label by which key Secrets are found; its value is the key's id."""

_ENTRY = "key.json"
_TEXTS = ("id", "fingerprint", "tenant")


def secret_name(key_id: str) -> str:
    """The name of the Secret that holds a key."""
    return f"tollkeeper-key-{key_id}"


def to_secret(key: ApiKey, namespace: str) -> dict[str, Any]:
    """The Secret of a key, ready to be applied."""
    said = {
        "id": key.id,
        "fingerprint": key.fingerprint,
        "tenant": key.tenant,
        "user": key.user,
        "assistants": list(key.assistants),
        "models": list(key.models),
        "delegate": key.delegate,
        "created": format_time(key.created) if key.created else None,
        "revoked": format_time(key.revoked) if key.revoked else None,
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "tollkeeper.dev/api-key",
        "metadata": {"name": secret_name(key.id), "namespace": namespace, "labels": {LABEL: key.id}},
        "data": {_ENTRY: base64.b64encode(json.dumps(said, sort_keys=True).encode()).decode()},
    }


def from_secret(raw: Mapping[str, Any]) -> ApiKey:
    """The key that a Secret holds. Raises `InvalidValue` that names the Secret."""
    metadata = raw.get("metadata") or {}
    where = f"Secret {metadata.get('namespace')}/{metadata.get('name')}"
    try:
        said = json.loads(base64.b64decode((raw.get("data") or {})[_ENTRY], validate=True))
        if not all(isinstance(said[name], str) and said[name] for name in _TEXTS):
            raise InvalidValue(f"{where}: {', '.join(_TEXTS)} must be texts; create the key anew")
        return ApiKey(
            id=said["id"],
            fingerprint=said["fingerprint"],
            tenant=said["tenant"],
            user=said.get("user"),
            assistants=tuple(said.get("assistants") or ()),
            models=tuple(said.get("models") or ()),
            delegate=said.get("delegate") is True,
            created=_time(said.get("created")),
            revoked=_time(said.get("revoked")),
        )
    except (KeyError, TypeError, AttributeError, binascii.Error, json.JSONDecodeError, UnicodeDecodeError) as cause:
        raise InvalidValue(f"{where} holds no API key that can be read: create the key anew") from cause


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
