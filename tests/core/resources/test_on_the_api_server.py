"""What only a real API server shows: that it takes the definitions, keeps the rules of change, and explains them."""

import json
from typing import Any

import pytest

from tollkeeper import crd
from tollkeeper.resources import API_VERSION, parse
from tollkeeper_cluster import Kubectl, KubectlError

pytestmark = pytest.mark.cluster


def apply(kubectl: Kubectl, namespace: str, kind: str, name: str, **spec: Any) -> None:
    raw = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
    kubectl("apply", "-f", "-", input=json.dumps(raw), namespace=namespace)


def budget(kubectl: Kubectl, namespace: str) -> None:
    apply(kubectl, namespace, "TokenBudget", "monthly", tenantRef={"name": "research"}, allocation="250.00")


def test_every_definition_is_accepted_and_structural(installed: Kubectl) -> None:
    names = [definition["metadata"]["name"] for definition in crd.crds()]
    listed = json.loads(installed("get", "crd", *names, "-o", "json").stdout)
    for definition in listed["items"]:
        conditions = {item["type"]: item["status"] for item in definition["status"]["conditions"]}
        assert conditions == {"NamesAccepted": "True", "Established": "True"}, definition["metadata"]["name"]


@pytest.mark.parametrize(
    ("field", "teaches"),
    [
        ("tokenbudget.spec.minimumBalance", "Left out: -0.12 with USD, 0 with Tokens."),
        ("tokenquota.spec.limits.window", "When the count begins again."),
        ("tenant.spec.outputLimit", "set or lowered to what is held for it"),
        ("tokengrant.spec", "cannot be changed"),
        ("tokenbudget.spec.allocation", 'with USD a quoted decimal string such as "250.00"'),
        ("pricebook.spec.tools.perCall", 'as a quoted decimal string such as "0.04"'),
        ("pricebook.spec.unknownModels", "Refuse: refused wherever a Hard USD limit applies"),
        ("workloadgate", "the API server refuses new metered pods"),
    ],
)
def test_kubectl_explain_teaches(installed: Kubectl, field: str, teaches: str) -> None:
    assert teaches in " ".join(installed("explain", field).stdout.split())


def test_the_short_names_and_the_category_are_known(installed: Kubectl, namespace: str) -> None:
    budget(installed, namespace)
    assert "monthly" in installed("get", "tb", namespace=namespace).stdout
    assert "monthly" in installed("get", "tollkeeper", namespace=namespace).stdout


def test_the_server_writes_the_defaults_that_we_read(installed: Kubectl, namespace: str) -> None:
    budget(installed, namespace)
    stored = json.loads(installed("get", "tb", "monthly", "-o", "json", namespace=namespace).stdout)
    bare = {**stored, "spec": {"tenantRef": {"name": "research"}, "allocation": "250.00"}}
    assert parse(stored) == parse(bare)
    assert stored["spec"]["thresholds"] == [50, 80, 95, 100]


def test_a_grant_cannot_be_changed(installed: Kubectl, namespace: str) -> None:
    apply(installed, namespace, "TokenGrant", "topup", budgetRef={"name": "monthly"}, amount="25.00")
    apply(installed, namespace, "TokenGrant", "topup", budgetRef={"name": "monthly"}, amount="25.00")
    with pytest.raises(KubectlError, match="a grant cannot be changed: create another one"):
        apply(installed, namespace, "TokenGrant", "topup", budgetRef={"name": "monthly"}, amount="26.00")


def test_columns_show_the_status(installed: Kubectl, namespace: str) -> None:
    budget(installed, namespace)
    status = {
        "phase": "Sufficient",
        "balance": "129.38",
        "spent": "120.62",
        "utilization": 48,
        "columns": {"forecast": "240.10", "exhausted": "", "resets": "2026-12-01 00:00", "asOf": "2026-11-21 23:04"},
    }
    patch = json.dumps({"status": status})
    installed("patch", "tb", "monthly", "--subresource=status", "--type=merge", "-p", patch, namespace=namespace)
    header, row = installed("get", "tb", "monthly", namespace=namespace).stdout.splitlines()
    assert header.split() == ["NAME", "PHASE", "BALANCE", "SPENT", "USED%", "FORECAST", "EXHAUSTED", "RESETS", "AGE"]
    assert row.split()[:6] == ["monthly", "Sufficient", "129.38", "120.62", "48", "240.10"]
    assert "2026-12-01 00:00" in row
    wide = installed("get", "tb", "monthly", "-o", "wide", namespace=namespace).stdout.splitlines()
    assert wide[0].split()[-3:] == ["HELD", "OVERSHOOT", "AS-OF"]


@pytest.mark.parametrize("kind", ["PriceBook", "TokenQuota", "Tenant"])
def test_the_largest_objects_keep_within_the_costs_that_rules_may_have(admission: Any, kind: str) -> None:
    """The API server stops checking, and refuses, when an object's rules cost too much: longer lists than any in use."""
    globs = [f"{'long-' * 10}{number}" for number in range(64)]
    buckets = ("input", "output", "cacheRead", "cacheWrite", "cacheWrite1h", "reasoning", "audioInput", "image")
    prices = dict.fromkeys(buckets, "99999.999999999")
    match = dict.fromkeys(("models", "providers", "features", "users"), globs)
    whole = {"amount": "999999.999999999G", "window": {"every": "Day"}, "match": match}
    specs: dict[str, Any] = {
        "PriceBook": {"models": [{"provider": "a", "model": f"m{n}", "perMillion": prices} for n in range(512)]},
        "TokenQuota": {"tenantRef": {"name": "research"}, "limits": [{"name": f"l{n}", **whole} for n in range(32)]},
        "Tenant": {"level": "Team", "assistants": [{"name": f"a{n}", "models": globs} for n in range(256)]},
    }
    raw = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "largest"}, "spec": specs[kind]}
    taken, said = admission.verdict(raw)
    assert taken, said


def test_a_refusal_names_field_reason_and_remedy(installed: Kubectl, namespace: str) -> None:
    must_be = r"must be money, 0 or below and at least -999999999\.999999999"
    refusal = rf"spec\.minimumBalance: Invalid value: {must_be}: .* \"0\" for a strict budget"
    with pytest.raises(KubectlError, match=refusal):
        apply(installed, namespace, "TokenBudget", "bad", tenantRef={"name": "research"}, minimumBalance="1")
