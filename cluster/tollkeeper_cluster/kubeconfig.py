"""Kubeconfig files for the local cluster, readable by their owner alone."""

import base64
import json
import os
from pathlib import Path

from tollkeeper_cluster.certificates import KeyPair


def write_kubeconfig(path: Path, *, server: str, authority: bytes, user: str, pair: KeyPair, context: str) -> Path:
    """Write a kubeconfig whose current context `context` reaches `server` as `user`. Returns `path`.

    Everything is embedded: the file can be copied elsewhere and used as long as the server runs.
    """
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": context,
        "clusters": [
            {"name": context, "cluster": {"server": server, "certificate-authority-data": _encoded(authority)}}
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": _encoded(pair.certificate),
                    "client-key-data": _encoded(pair.key),
                },
            }
        ],
        "contexts": [{"name": context, "context": {"cluster": context, "user": user}}],
    }
    # JSON is YAML; every reader of kubeconfig files takes it.
    write_private(path, json.dumps(document, indent=2).encode())
    return path


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, from its first byte on."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()
