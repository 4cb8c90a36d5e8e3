"""`tollkeeper crds`."""

import pytest
import yaml

from tests.cli.program import tollkeeper

pytestmark = pytest.mark.slow  # each is a process of its own


def test_crds_are_all_six_kinds() -> None:
    documents = list(yaml.safe_load_all(tollkeeper("crds").stdout))
    assert sorted(document["spec"]["names"]["kind"] for document in documents) == [
        "PriceBook", "Tenant", "TokenBudget", "TokenGrant", "TokenQuota", "WorkloadGate",
    ]  # fmt: skip
