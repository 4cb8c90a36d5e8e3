"""The CustomResourceDefinitions: generated, structural, and as people see them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tollkeeper import crd
from tollkeeper.resources import KINDS

FOLDER = Path(__file__).parents[3] / "crds"

COLUMNS = {
    "Tenant": "PATH LEVEL NAMESPACES ENFORCEMENT AGE",
    "TokenQuota": "LIMITS TIGHTEST USED% RESETS WITHIN AGE",
    "TokenBudget": "PHASE BALANCE SPENT USED% FORECAST EXHAUSTED RESETS AGE HELD OVERSHOOT AS-OF",
    "TokenGrant": "BUDGET AMOUNT REMAINING BOOKED EXPIRES AGE",
    "PriceBook": "MODELS TOOLS READY AGE",
    "WorkloadGate": "OPEN LIMITS SINCE AGE",
}
SHORT_NAMES = {
    "Tenant": "tnt",
    "TokenQuota": "tq",
    "TokenBudget": "tb",
    "TokenGrant": "tg",
    "PriceBook": "pb",
    "WorkloadGate": "wg",
}


def version_of(definition: dict[str, Any]) -> dict[str, Any]:
    version: dict[str, Any] = definition["spec"]["versions"][0]
    return version


def schemas(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, below in schema.get("properties", {}).items():
        yield from schemas(below, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from schemas(schema[key], f"{path}[]")


every_crd = pytest.mark.parametrize(
    "definition", crd.crds(), ids=lambda definition: definition["spec"]["names"]["kind"]
)


def test_the_files_are_what_the_models_say() -> None:
    """Drift: `python -m tollkeeper.crd --write crds` writes them anew."""
    written = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.yaml")}
    assert written == dict(crd.render())


def test_the_stream_holds_all_of_them() -> None:
    assert list(yaml.safe_load_all(crd.to_yaml())) == crd.crds()


def test_the_program_writes_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert crd.main(["--write", str(tmp_path / "new")]) == 0
    assert {path.name for path in (tmp_path / "new").iterdir()} == set(crd.render())
    assert crd.main([]) == 0
    assert capsys.readouterr().out == crd.to_yaml()


@every_crd
def test_the_names_are_the_contracts(definition: dict[str, Any]) -> None:
    names = definition["spec"]["names"]
    assert names["shortNames"] == [SHORT_NAMES[names["kind"]]]
    assert names["categories"] == ["tollkeeper"]
    assert definition["metadata"]["name"] == f"{names['plural']}.tollkeeper.dev"


@every_crd
def test_the_columns_are_the_contracts(definition: dict[str, Any]) -> None:
    columns = version_of(definition)["additionalPrinterColumns"]
    assert " ".join(column["name"].upper() for column in columns) == COLUMNS[definition["spec"]["names"]["kind"]]


@every_crd
def test_every_column_points_at_a_field_that_exists(definition: dict[str, Any]) -> None:
    version = version_of(definition)
    known = {path for path, _ in schemas(version["schema"]["openAPIV3Schema"])}
    for column in version["additionalPrinterColumns"]:
        path = column["jsonPath"].partition("[?")[0]
        assert path in known or path == ".metadata.creationTimestamp"


@every_crd
def test_no_column_but_the_age_is_a_date(definition: dict[str, Any]) -> None:
    dates = [
        column["name"] for column in version_of(definition)["additionalPrinterColumns"] if column["type"] == "date"
    ]
    assert dates == ["Age"]


@every_crd
def test_every_field_is_explained(definition: dict[str, Any]) -> None:
    schema = version_of(definition)["schema"]["openAPIV3Schema"]
    silent = [
        path
        for path, field in schemas(schema)
        if not path.endswith("[]")
        and path not in (".apiVersion", ".kind", ".metadata")
        and not field.get("description")
    ]
    assert silent == []


@every_crd
def test_every_list_of_a_spec_is_bounded_and_typed(definition: dict[str, Any]) -> None:
    schema = version_of(definition)["schema"]["openAPIV3Schema"]["properties"].get("spec", {})
    for path, field in schemas(schema):
        if field.get("type") == "array":
            assert "maxItems" in field, path
            assert field.get("x-kubernetes-list-type") in ("map", "set", "atomic"), path
        is_text = field.get("type") == "string" or field.get("x-kubernetes-int-or-string")
        if is_text and "enum" not in field:
            assert "maxLength" in field, path


@pytest.mark.parametrize(
    ("kind", "path", "keys"),
    [
        ("TokenQuota", ".spec.limits", ["name"]),
        ("Tenant", ".spec.assistants", ["name"]),
        ("Tenant", ".spec.members", ["kind", "name"]),
        ("TokenBudget", ".status.conditions", ["type"]),
    ],
)
def test_lists_are_maps_by_their_keys(kind: str, path: str, keys: list[str]) -> None:
    definition = next(item for item in crd.crds() if item["spec"]["names"]["kind"] == kind)
    field = dict(schemas(version_of(definition)["schema"]["openAPIV3Schema"]))[path]
    assert (field["x-kubernetes-list-type"], field["x-kubernetes-list-map-keys"]) == ("map", keys)


def test_every_kind_has_a_definition() -> None:
    assert [definition["spec"]["names"]["kind"] for definition in crd.crds()] == list(KINDS)
