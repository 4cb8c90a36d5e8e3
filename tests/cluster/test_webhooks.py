"""The API server calls webhooks on this machine: what the product's admission tests rely on."""

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tollkeeper_cluster import Kubectl, LocalCluster
from tollkeeper_cluster.certificates import Authority

pytestmark = pytest.mark.cluster


class Refusal(BaseHTTPRequestHandler):
    """Refuses every object that it is asked about."""

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        refused = {"uid": review["request"]["uid"], "allowed": False, "status": {"message": "refused on this machine"}}
        body = json.dumps({**review, "request": None, "response": refused}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture
def webhook(cluster: LocalCluster, tmp_path: Path) -> Iterator[tuple[str, bytes]]:
    """The URL of a running webhook, and the certificate to trust it by."""
    authority = Authority(datetime.now(UTC))
    pair = authority.server(["localhost"], [cluster.webhook_host], datetime.now(UTC))
    (tmp_path / "pair.pem").write_bytes(pair.key + pair.certificate)
    with ThreadingHTTPServer((cluster.webhook_host, 0), Refusal) as server:
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trust.load_cert_chain(tmp_path / "pair.pem")
        server.socket = trust.wrap_socket(server.socket, server_side=True)
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"https://{cluster.webhook_host}:{server.server_port}/validate", authority.pair.certificate
        server.shutdown()
        serving.join()


def test_the_api_server_asks_a_webhook_at_a_loopback_url(
    kubectl: Kubectl, namespace: str, webhook: tuple[str, bytes]
) -> None:
    url, certificate = webhook
    configuration = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "refusal"},
        "webhooks": [
            {
                "name": "refusal.tollkeeper.dev",
                "clientConfig": {"url": url, "caBundle": base64.b64encode(certificate).decode()},
                "rules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["secrets"]}
                ],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
            }
        ],
    }
    kubectl("apply", "-f", "-", input=json.dumps(configuration))
    try:
        # A configuration takes effect when the server's own watch brings it; each try without one makes an object.
        said = next(filter(None, (refusal(kubectl, namespace, attempt) for attempt in range(200))), "never refused")
    finally:
        kubectl("delete", "validatingwebhookconfiguration", "refusal")
    assert "refused on this machine" in said


def refusal(kubectl: Kubectl, namespace: str, attempt: int) -> str:
    return kubectl("create", "secret", "generic", f"attempt-{attempt}", namespace=namespace, check=False).stderr
