"""The kinds that Tollkeeper reads or writes, and their addresses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tollkeeper.errors import InvalidValue

Object = dict[str, Any]
"""An API object as it came over the wire: plain JSON values."""

GROUP = "tollkeeper.dev"
SYSTEM_NAMESPACE = "tollkeeper-system"
FIELD_MANAGER = "tollkeeper"
PART_OF = {"app.kubernetes.io/part-of": "tollkeeper"}
"""The label of what we make that is not of our own kinds (https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/)."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of one version. `plural` is its name in addresses."""

    group: str
    version: str
    name: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """`group/version`, or the version alone for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The address of an object, or of the list when no name is given."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace and self.namespaced:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/" + "/".join(quote(part, safe="") for part in parts)


TENANT = Kind(GROUP, "v1alpha1", "Tenant", "tenants", namespaced=False)
TOKEN_QUOTA = Kind(GROUP, "v1alpha1", "TokenQuota", "tokenquotas")
TOKEN_BUDGET = Kind(GROUP, "v1alpha1", "TokenBudget", "tokenbudgets")
TOKEN_GRANT = Kind(GROUP, "v1alpha1", "TokenGrant", "tokengrants")
PRICE_BOOK = Kind(GROUP, "v1alpha1", "PriceBook", "pricebooks", namespaced=False)
WORKLOAD_GATE = Kind(GROUP, "v1alpha1", "WorkloadGate", "workloadgates")
OUR_KINDS = (TENANT, TOKEN_QUOTA, TOKEN_BUDGET, TOKEN_GRANT, PRICE_BOOK, WORKLOAD_GATE)

NAMESPACE = Kind("", "v1", "Namespace", "namespaces", namespaced=False)
POD = Kind("", "v1", "Pod", "pods")
SECRET = Kind("", "v1", "Secret", "secrets")
CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps")
SERVICE = Kind("", "v1", "Service", "services")
SERVICE_ACCOUNT = Kind("", "v1", "ServiceAccount", "serviceaccounts")
EVENT = Kind("", "v1", "Event", "events")
JOB = Kind("batch", "v1", "Job", "jobs")
CRON_JOB = Kind("batch", "v1", "CronJob", "cronjobs")
DEPLOYMENT = Kind("apps", "v1", "Deployment", "deployments")
STATEFUL_SET = Kind("apps", "v1", "StatefulSet", "statefulsets")
REPLICA_SET = Kind("apps", "v1", "ReplicaSet", "replicasets")
DAEMON_SET = Kind("apps", "v1", "DaemonSet", "daemonsets")
LEASE = Kind("coordination.k8s.io", "v1", "Lease", "leases")
CLUSTER_ROLE = Kind("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", namespaced=False)
CLUSTER_ROLE_BINDING = Kind(
    "rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False
)
ROLE = Kind("rbac.authorization.k8s.io", "v1", "Role", "roles")
ROLE_BINDING = Kind("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings")
CRD = Kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False)
_ADMISSION = "admissionregistration.k8s.io"
POLICY = Kind(_ADMISSION, "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies", namespaced=False)
POLICY_BINDING = Kind(
    _ADMISSION, "v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", namespaced=False
)
VALIDATING_WEBHOOK = Kind(
    _ADMISSION, "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", namespaced=False
)
MUTATING_WEBHOOK = Kind(
    _ADMISSION, "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", namespaced=False
)

KINDS: Mapping[tuple[str, str], Kind] = {
    (kind.api_version, kind.name): kind for kind in tuple(globals().values()) if isinstance(kind, Kind)
}


def kind_of(manifest: Mapping[str, Any]) -> Kind:
    """The kind that an object says it is. Raises `InvalidValue` for one that is not among ours."""
    name, version = manifest.get("kind"), manifest.get("apiVersion")
    kind = KINDS.get((str(version), str(name)))
    if kind is None:
        raise InvalidValue(f"kind {name!r} of apiVersion {version!r} is not one that Tollkeeper handles")
    return kind
