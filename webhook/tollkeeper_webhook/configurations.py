"""The webhook configurations: which requests the API server brings to us, and what it does when we do not answer (K5).

- `/validate`, our own kinds: Fail. An object that nobody checked could bind other tenants or form a circle. Deleting is
  not held up by us; a tenant's is brought for its warnings alone (Ignore).
- `/mutate`, metered pods and workloads: Ignore. It comes before the policies, so it can say better than they why there
  is no gate (K1), and it knows the verdict a moment earlier; it changes nothing. When it does not answer, the gate
  policies decide (`tollkeeper_webhook.policies`): open is admitted, closed is refused with the budget's own message,
  not with a failed call. It must become Fail with the first version that injects a sidecar, since a pod that was not
  brought to it would then run unmetered.
- `/mutate`, our own kinds: Ignore. It comes before the API server looks at types, so it can say in words what is wrong
  with an amount without quotes, which YAML made a float of, and no rule of a schema ever sees. It changes nothing. When
  it does not answer, the schema refuses the same objects, some of them in fewer words.
- Unmetered pods are not brought to us at all.
"""

from base64 import b64encode
from dataclasses import dataclass

from tollkeeper.resources import API_GROUP
from tollkeeper_kube import SYSTEM_NAMESPACE
from tollkeeper_kube.kinds import PART_OF
from tollkeeper_webhook.matching import METERED_NAMESPACE, POD_LABEL, PODS, TEMPLATES, Manifest

NAME = "tollkeeper"
CHECK_TIMEOUT_SECONDS = 5
GATE_TIMEOUT_SECONDS = 2

_CHECKED = ["tenants", "tokenquotas", "tokenbudgets", "tokengrants", "pricebooks"]


@dataclass(frozen=True, slots=True)
class Service:
    """A Service through which the API server reaches the webhook in a cluster."""

    name: str
    namespace: str = SYSTEM_NAMESPACE
    port: int = 443


def webhook_configurations(ca_pem: str, reached_by: str | Service) -> list[Manifest]:
    """The validating and the mutating configuration. `ca_pem` is the CA (or bundle) that signs the serving certificate.

    `reached_by` is the base address (`https://127.0.0.1:8443`) or a Service. Applying again updates.
    """
    return [
        _configuration(
            "ValidatingWebhookConfiguration",
            [
                _webhook(
                    "objects",
                    _client(ca_pem, reached_by, "/validate"),
                    [_ours(_CHECKED, "CREATE", "UPDATE")],
                    fails=True,
                ),
                _webhook(
                    "removals", _client(ca_pem, reached_by, "/validate"), [_ours(["tenants"], "DELETE")], fails=False
                ),
            ],
        ),
        _configuration(
            "MutatingWebhookConfiguration",
            [
                {
                    **_webhook(
                        "forms",
                        _client(ca_pem, reached_by, "/mutate"),
                        [_ours(_CHECKED, "CREATE", "UPDATE")],
                        fails=False,
                        seconds=GATE_TIMEOUT_SECONDS,
                    ),
                    "reinvocationPolicy": "Never",
                },
                _gate("gate", _client(ca_pem, reached_by, "/mutate"), f"{POD_LABEL} == 'true'"),
                {
                    **_gate(
                        "namespace-gate",
                        _client(ca_pem, reached_by, "/mutate"),
                        f"!({POD_LABEL} in ['true', 'false'])",
                    ),
                    "namespaceSelector": METERED_NAMESPACE,
                },
            ],
        ),
    ]


def _gate(name: str, client: Manifest, condition: str) -> Manifest:
    return {
        **_webhook(name, client, [PODS, *TEMPLATES], fails=False, seconds=GATE_TIMEOUT_SECONDS),
        "matchConditions": [{"name": "metered", "expression": condition}],
        "reinvocationPolicy": "Never",
    }


def _webhook(
    name: str, client: Manifest, rules: list[Manifest], *, fails: bool, seconds: int = CHECK_TIMEOUT_SECONDS
) -> Manifest:
    return {
        "name": f"{name}.{API_GROUP}",
        "clientConfig": client,
        "rules": rules,
        "failurePolicy": "Fail" if fails else "Ignore",
        "matchPolicy": "Equivalent",
        "sideEffects": "None",
        "timeoutSeconds": seconds,
        "admissionReviewVersions": ["v1"],
    }


def _ours(resources: list[str], *operations: str) -> Manifest:
    return {
        "apiGroups": [API_GROUP],
        "apiVersions": ["v1alpha1"],
        "operations": list(operations),
        "resources": resources,
    }


def _client(ca_pem: str, reached_by: str | Service, path: str) -> Manifest:
    bundle = base64_of(ca_pem)
    if isinstance(reached_by, str):
        return {"caBundle": bundle, "url": f"{reached_by.rstrip('/')}{path}"}
    service = {"name": reached_by.name, "namespace": reached_by.namespace, "port": reached_by.port, "path": path}
    return {"caBundle": bundle, "service": service}


def base64_of(text: str) -> str:
    """As the API writes bytes in JSON."""
    return b64encode(text.encode()).decode()


def _configuration(kind: str, webhooks: list[Manifest]) -> Manifest:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": NAME, "labels": PART_OF},
        "webhooks": webhooks,
    }
