"""A real API server with the definitions in force, asked over plain HTTPS what it takes and refuses."""

import base64
import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tollkeeper import crd
from tollkeeper.resources import API_VERSION, KINDS
from tollkeeper_cluster import Kubectl, LocalCluster

NAMESPACE = "default"


@dataclass(frozen=True, slots=True)
class Admission:
    """One kept-alive connection to the API server, as the administrator."""

    connection: http.client.HTTPSConnection

    def verdict(self, raw: Mapping[str, Any]) -> tuple[bool, str]:
        """Whether the server would create the object under strict field validation, and what it says."""
        definition = KINDS[raw["kind"]].definition
        place = f"namespaces/{NAMESPACE}/" if definition.namespaced else ""
        path = f"/apis/{API_VERSION}/{place}{definition.plural}?dryRun=All&fieldValidation=Strict"
        self.connection.request("POST", path, json.dumps(raw), {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        body = json.loads(answer.read())
        assert answer.status in (201, 400, 422), body
        return answer.status == 201, body.get("message", "")


@pytest.fixture(scope="session")
def installed(kubectl: Kubectl) -> Kubectl:
    """The definitions, applied and established."""
    kubectl("apply", "--server-side", "-f", "-", input=crd.to_yaml())
    names = [f"crd/{definition['metadata']['name']}" for definition in crd.crds()]
    kubectl("wait", "--for=condition=Established", "--timeout=30s", *names)
    return kubectl


@pytest.fixture(scope="module")
def admission(
    cluster: LocalCluster, installed: Kubectl, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Admission]:
    """A way to ask the API server for its verdict, fast enough for hundreds of objects.

    A module's own: the API server ends a connection that is idle for minutes, as between modules.
    """
    config = yaml.safe_load(Path(cluster.kubeconfig).read_text(encoding="utf-8"))
    trusted, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    pair = tmp_path_factory.mktemp("client") / "pair.pem"
    pair.touch(mode=0o600)
    pair.write_bytes(b"".join(base64.b64decode(user[f"client-{part}-data"]) for part in ("certificate", "key")))
    context = ssl.create_default_context(cadata=base64.b64decode(trusted["certificate-authority-data"]).decode())
    context.load_cert_chain(pair)
    address = urlsplit(trusted["server"])
    connection = http.client.HTTPSConnection(str(address.hostname), address.port, context=context, timeout=30)
    yield Admission(connection)
    connection.close()
