"""Which requests the gate is about: pods and the templates of workloads, metered by label (K2, K4).

A selector sees the labels of the object itself, so it finds metered pods and labelled namespaces; the label of a
template is found by an expression (CEL) that the API server evaluates.
"""

from typing import Any

from tollkeeper.tenants import METERED_LABEL, OPT_OUT_ANNOTATION

Manifest = dict[str, Any]

PODS: Manifest = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
TEMPLATES: tuple[Manifest, ...] = (
    {
        "apiGroups": ["apps"],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["deployments", "statefulsets", "replicasets", "daemonsets"],
    },
    {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs", "cronjobs"]},
)

# `dyn`: one expression for kinds of different shapes, which the API server would otherwise warn of one by one.
POD_METADATA = (
    "(request.kind.kind == 'Pod' ? dyn(object).metadata"
    " : request.kind.kind == 'CronJob' ? dyn(object).spec.jobTemplate.spec.template.?metadata.orValue({})"
    " : dyn(object).spec.template.?metadata.orValue({}))"
)
POD_LABEL = f"{POD_METADATA}.?labels[?'{METERED_LABEL}'].orValue('')"
"""CEL: what the label `tollkeeper.dev/metered` of a pod, or of the pods of a workload, says; empty where it is not there."""

NAMESPACE_LABEL = f"namespaceObject.metadata.?labels[?'{METERED_LABEL}'].orValue('')"
NAMESPACE_LETS_OPT_OUT = f"namespaceObject.metadata.?annotations[?'{OPT_OUT_ANNOTATION}'].orValue('') == 'true'"

METERED_NAMESPACE: Manifest = {"matchLabels": {METERED_LABEL: "true"}}
METERED_POD: Manifest = {"matchLabels": {METERED_LABEL: "true"}}
UNMARKED_POD: Manifest = {
    "matchExpressions": [{"key": METERED_LABEL, "operator": "NotIn", "values": ["true", "false"]}]
}
ODDLY_MARKED_POD: Manifest = {
    "matchExpressions": [{"key": METERED_LABEL, "operator": "Exists"}, *UNMARKED_POD["matchExpressions"]]
}
