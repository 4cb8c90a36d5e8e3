"""Whose bodies are kept, how long, and what is taken out of them: as a tenant's YAML says it (R27)."""

from datetime import timedelta
from typing import Any

import pytest

from tests.core.policy_builders import tenant
from tollkeeper.captures import KeptBodies
from tollkeeper.oddities import oddities
from tollkeeper.redactionrules import UNLESS_STATED, BuiltIn, OwnPattern, Redaction
from tollkeeper.resources import InvalidResource
from tollkeeper.tenants import resolve
from tollkeeper.unbuilt import unbuilt


def kept(**capture: Any) -> KeptBodies | None:
    made = tenant("research", capture=capture)
    assert unbuilt(made) == ()
    return resolve([made], {}).nodes["research"].capture


def test_nothing_is_kept_unless_the_tenant_asks_for_it() -> None:
    """R27."""
    assert kept() is None
    assert kept(retention="1d", redact={"builtIn": []}) is None
    assert resolve([tenant("research")], {}).nodes["research"].capture is None


def test_who_asks_for_nothing_else_has_thirty_days_and_all_usual_kinds_redacted() -> None:
    assert kept(bodies="Always") == KeptBodies(timedelta(days=30), Redaction(UNLESS_STATED, ()))
    assert BuiltIn.IP_ADDRESSES not in UNLESS_STATED


def test_retention_and_rules_are_the_tenants_own() -> None:
    patterns = [{"name": "employee", "pattern": "EMP-[0-9]{6}"}]
    found = kept(bodies="Always", retention="36h", redact={"builtIn": ["IPAddresses"], "patterns": patterns})
    rules = Redaction((BuiltIn.IP_ADDRESSES,), (OwnPattern("employee", "EMP-[0-9]{6}"),))
    assert found == KeptBodies(timedelta(hours=36), rules)


def test_a_tenant_says_so_for_itself_and_for_nobody_above_or_below() -> None:
    """R27."""
    family = [tenant("top"), tenant("mine", "top", capture={"bodies": "Always"}), tenant("below", "mine")]
    nodes = resolve(family, {}).nodes
    assert {name for name, node in nodes.items() if node.capture is not None} == {"mine"}


@pytest.mark.parametrize(("builtin", "told"), [([], ["NothingRedacted"]), (["Secrets"], [])])
def test_who_has_bodies_kept_as_they_are_is_told(builtin: list[str], told: list[str]) -> None:
    made = tenant("research", capture={"bodies": "Always", "redact": {"builtIn": builtin}})
    assert [(one.code, one.refuses) for one in oddities([made], {})] == [(code, False) for code in told]


@pytest.mark.parametrize(
    ("capture", "says"),
    [
        ({"retention": "30s"}, "spec.capture.retention: bodies are kept for at least 1m and at most 3650d"),
        ({"retention": "3651d"}, "spec.capture.retention: bodies are kept for at least 1m and at most 3650d"),
        ({"redact": {"builtIn": ["Cards"]}}, r"spec.capture.redact.builtIn\[0\]: 'Cards' is not one of 'EmailAddresses'"),
        (
            {"redact": {"patterns": [{"name": "a", "pattern": "(a"}]}},
            r"spec.capture.redact.patterns\[0\].pattern: '\(a' is not a regular expression that RE2 reads: missing \)",
        ),
        (
            {"redact": {"patterns": [{"name": "a", "pattern": "a"}, {"name": "a", "pattern": "b"}]}},
            "spec.capture.redact.patterns: 'a' comes twice",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_its_field(capture: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidResource, match=says):
        kept(**capture)
