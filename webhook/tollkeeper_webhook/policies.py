"""The ValidatingAdmissionPolicies: what the API server refuses by itself, with nothing of ours running (I7, K1, K2, K4).

- `tollkeeper-gate-pods`: a metered pod needs an open gate; where there is none it is refused (K1). It fails closed, and
  so it is bound by selectors alone: the API server looks for the gate, and fails, before it evaluates conditions, and
  unmetered pods must never meet it (K5).
- `tollkeeper-gate-templates`: a workload whose template is metered is refused while the gate is closed. Labels of a
  template cannot be selected, so every new workload meets it: it therefore ignores what goes wrong (a missing gate,
  our kinds removed), and leaves the refusal to the pods' own policy.
- `tollkeeper-opt-out`: in a labelled namespace a pod may opt out only where the namespace lets it (K4).
- `tollkeeper-metered-label`: the label says "true" or "false"; a pod that says "yes" would run unmetered.
- `tollkeeper-gate-writers`: the operator alone writes gates, terminating namespaces apart (K2).
"""

import json

from tollkeeper.resources import API_VERSION, GATE_NAME
from tollkeeper.tenants import METERED_LABEL, OPT_OUT_ANNOTATION
from tollkeeper_kube.kinds import PART_OF
from tollkeeper_webhook.matching import (
    METERED_NAMESPACE,
    METERED_POD,
    NAMESPACE_LABEL,
    NAMESPACE_LETS_OPT_OUT,
    ODDLY_MARKED_POD,
    POD_LABEL,
    PODS,
    TEMPLATES,
    UNMARKED_POD,
    Manifest,
)

_GARBAGE_COLLECTOR = "system:serviceaccount:kube-system:generic-garbage-collector"
_OPEN = "has(params.status) && has(params.status.open) && params.status.open"
_PREPARING = "The gate of this namespace has no verdict yet; try again in a few seconds."


def policies(operator_username: str) -> list[Manifest]:
    """The policies and their bindings, for a cluster in which `operator_username` writes the gates.

    Apply them after the CRDs are served. Names are fixed, so applying again updates.
    """
    return [*_gate_of_pods(), *_gate_of_templates(), *_opt_out(), *_label(), *_gate_writers(operator_username)]


def _gate_of_pods() -> list[Manifest]:
    name = "tollkeeper-gate-pods"
    return [
        _policy(name, [PODS], [_gate_check(_OPEN)], param=True),
        _binding(name, {"objectSelector": METERED_POD}, not_found="Deny"),
        _binding(
            name,
            {"namespaceSelector": METERED_NAMESPACE, "objectSelector": UNMARKED_POD},
            not_found="Deny",
            suffix="-in-metered-namespaces",
        ),
    ]


def _gate_of_templates() -> list[Manifest]:
    name = "tollkeeper-gate-templates"
    variables = {
        "label": POD_LABEL,
        "metered": f"variables.label == 'true' || (variables.label != 'false' && {NAMESPACE_LABEL} == 'true')",
    }
    check = _gate_check(f"!variables.metered || ({_OPEN})")
    policy = _policy(name, list(TEMPLATES), [check], param=True, variables=variables, failure="Ignore")
    return [policy, _binding(name, {}, not_found="Allow")]


def _opt_out() -> list[Manifest]:
    name = "tollkeeper-opt-out"
    check = {
        "expression": f"{POD_LABEL} != 'false' || {NAMESPACE_LETS_OPT_OUT}",
        "message": f'This namespace lets no pod opt out of metering: remove the label {METERED_LABEL}: "false", '
        f'or ask an administrator for the annotation {OPT_OUT_ANNOTATION}: "true" on the namespace.',
        "reason": "Forbidden",
    }
    return [
        _policy(name, [PODS, *TEMPLATES], [check]),
        _binding(name, {"namespaceSelector": METERED_NAMESPACE}),
    ]


def _label() -> list[Manifest]:
    name = "tollkeeper-metered-label"
    check = {
        "expression": f"{POD_LABEL} in ['', 'true', 'false']",
        "message": f'The label {METERED_LABEL} is "true" or "false", in small letters; correct it, or remove it.',
        "reason": "Invalid",
    }
    return [_policy(name, [PODS], [check]), _binding(name, {"objectSelector": ODDLY_MARKED_POD})]


def _gate_writers(operator_username: str) -> list[Manifest]:
    name = "tollkeeper-gate-writers"
    rule = {
        "apiGroups": ["tollkeeper.dev"],
        "apiVersions": ["*"],
        "operations": ["CREATE", "UPDATE", "DELETE"],
        "resources": ["workloadgates", "workloadgates/status"],
    }
    allowed = (
        f"request.userInfo.username == {_quoted(operator_username)}"
        " || namespaceObject.?status.?phase.orValue('') == 'Terminating'"
        f" || (request.operation == 'DELETE' && request.userInfo.username == {_quoted(_GARBAGE_COLLECTOR)})"
    )
    check = {
        "expression": allowed,
        "message": "Only Tollkeeper's operator writes WorkloadGates: grant or raise the limit that closed the gate; "
        f"to remove Tollkeeper, delete the ValidatingAdmissionPolicy {name} first.",
        "reason": "Forbidden",
    }
    return [_policy(name, [rule], [check]), _binding(name, {})]


def _gate_check(expression: str) -> Manifest:
    says = f"has(params.status) && has(params.status.message) ? string(params.status.message) : {_quoted(_PREPARING)}"
    return {"expression": expression, "messageExpression": says, "message": _PREPARING, "reason": "Forbidden"}


def _quoted(text: str) -> str:
    # A JSON string is a CEL string of the same meaning.
    return json.dumps(text)


def _policy(
    name: str,
    rules: list[Manifest],
    checks: list[Manifest],
    *,
    param: bool = False,
    variables: dict[str, str] | None = None,
    failure: str = "Fail",
) -> Manifest:
    spec: Manifest = {
        "failurePolicy": failure,
        "matchConstraints": {"resourceRules": rules, "matchPolicy": "Equivalent"},
        "validations": checks,
    }
    if param:
        spec["paramKind"] = {"apiVersion": API_VERSION, "kind": "WorkloadGate"}
    if variables:
        spec["variables"] = [{"name": key, "expression": text} for key, text in variables.items()]
    return _manifest("ValidatingAdmissionPolicy", name, spec)


def _binding(name: str, match: Manifest, *, not_found: str | None = None, suffix: str = "") -> Manifest:
    spec: Manifest = {"policyName": name, "validationActions": ["Deny"]}
    if match:
        spec["matchResources"] = match
    if not_found:
        spec["paramRef"] = {"name": GATE_NAME, "parameterNotFoundAction": not_found}
    return _manifest("ValidatingAdmissionPolicyBinding", name + suffix, spec)


def _manifest(kind: str, name: str, spec: Manifest) -> Manifest:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name, "labels": PART_OF},
        "spec": spec,
    }
