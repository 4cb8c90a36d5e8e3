"""Bodies that a tenant wants kept, by `tollkeeper up` on a real API server: from YAML to what the command shows (R27)."""

import base64
import json
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml
from tests.e2e.conftest import apply_policy
from tests.e2e.programs import Up, wait_for

from tollkeeper_cluster import Kubectl

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

KEY = base64.b64encode(b"k" * 32).decode()
CAPTURE = """
apiVersion: tollkeeper.dev/v1alpha1
kind: Tenant
metadata: {name: recorded}
spec:
  displayName: Test
  level: Team
  namespaces: {names: [recorded]}
  capture:
    bodies: Always
    redact: {patterns: [{name: employee, pattern: "EMP-[0-9]{6}"}]}
"""


def with_keys(config: Path, file: Path) -> None:
    file.write_text(KEY)
    settings = yaml.safe_load(config.read_text()) | {"capture": {"keys": {"file": str(file)}}}
    config.write_text(yaml.safe_dump(settings))


def as_written(kubectl: Kubectl) -> str:
    path = 'jsonpath={.status.conditions[?(@.type=="AsWritten")].message}'
    return kubectl("get", "tenant", "recorded", "-o", path).stdout


def ask(url: str, key: str) -> str:
    """The id of a request by EMP-123456."""
    words = [{"role": "user", "content": "EMP-123456, alice@example.com: swordfish"}]
    with openai.OpenAI(base_url=f"{url}/openai/v1", api_key=key, max_retries=0) as client:
        raw = client.chat.completions.with_raw_response.create(model="gpt-5", messages=words)  # type: ignore[arg-type]
        return str(raw.headers["Tollkeeper-Request-Id"])


def test_what_a_tenant_wants_kept_is_kept_redacted_shown_and_deleted(
    up: Up, own_kubectl: Kubectl, tmp_path: Path
) -> None:
    """R27."""
    up.start()
    apply_policy(own_kubectl, "recorded", "10.00")
    own_kubectl("apply", "-f", "-", input=CAPTURE)
    wait_for("the tenant to be told", lambda: "there is no key to encrypt bodies with" in as_written(own_kubectl))
    key = up.new_key("recorded")
    wait_for("the key to be in force", lambda: not _refused(up, key))
    assert not (up.data / "bodies.db").exists()
    assert up.stop() == 0

    with_keys(up.config, tmp_path / "keys")
    up.start()
    wait_for("the tenant to be told no more", lambda: not as_written(own_kubectl))
    request = ask(up.addresses["gateway"], key)
    config = ("--config", str(up.config))
    shown = wait_for("the request to be kept", lambda: _shown(up, request, config))
    messages = json.loads(shown["request"]["body"])["messages"]
    assert messages[0]["content"] == "[redacted:employee], [redacted:EmailAddresses]: swordfish"
    assert json.loads(shown["answer"]["body"])["choices"]
    assert shown["tenant"] == "recorded"
    assert "swordfish" not in up.tollkeeper("export", *config).stdout + up.log.read_text()
    assert up.tollkeeper("captures", "delete", request, *config).stdout == "1 capture deleted\n"
    assert up.tollkeeper("captures", "list", *config).stdout.count("\n") == 1
    assert up.stop() == 0


def _refused(up: Up, key: str) -> bool:
    try:
        ask(up.addresses["gateway"], key)
    except openai.AuthenticationError:
        return True
    return False


def _shown(up: Up, request: str, config: tuple[str, ...]) -> dict[str, Any] | None:
    done = up.tollkeeper("captures", "show", request, "-o", "json", *config, check=False)
    shown: dict[str, Any] | None = json.loads(done.stdout) if done.returncode == 0 else None
    return shown
