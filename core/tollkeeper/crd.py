"""The CustomResourceDefinitions of the six kinds, generated from the models in `tollkeeper.resources`.

python -m tollkeeper.crd                 prints all of them
python -m tollkeeper.crd --write DIR     writes one file for each kind
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tollkeeper.resources import KINDS
from tollkeeper.resources.meta import API_GROUP, CATEGORY, VERSION, Column, Kind, Resource
from tollkeeper.schema import Schema, structural_schema

_HEADER = "# Generated from the models in core/tollkeeper/resources by `make crds`. Change those, not this file.\n"


def crds() -> list[dict[str, Any]]:
    """The six CustomResourceDefinitions as JSON values, in the order of `KINDS`."""
    return [_definition(model) for model in KINDS.values()]


def render() -> Mapping[str, str]:
    """YAML by file name: one CustomResourceDefinition each."""
    return {f"{crd['metadata']['name']}.yaml": _HEADER + _yaml(crd) for crd in crds()}


def to_yaml() -> str:
    """All of them as one stream of YAML documents, for `kubectl apply -f -`."""
    return "---\n".join(_yaml(crd) for crd in crds())


def _definition(model: type[Resource]) -> dict[str, Any]:
    kind = model.definition
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.crd_name, "labels": {"app.kubernetes.io/part-of": "tollkeeper"}},
        "spec": {
            "group": API_GROUP,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "names": _names(kind),
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(column) for column in kind.columns],
                    "schema": {"openAPIV3Schema": _object_schema(model)},
                }
            ],
        },
    }


def _names(kind: Kind) -> dict[str, Any]:
    return {
        "kind": kind.kind,
        "listKind": f"{kind.kind}List",
        "plural": kind.plural,
        "singular": kind.kind.lower(),
        "shortNames": [kind.short_name],
        "categories": [CATEGORY],
    }


def _column(column: Column) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": column.name, "type": column.type, "jsonPath": column.path}
    if column.says:
        shown["description"] = column.says
    return shown | ({"priority": 1} if column.wide else {})


def _object_schema(model: type[Resource]) -> Schema:
    """The schema of a whole object: Kubernetes owns apiVersion, kind and metadata, so nothing is said of them."""
    schema = structural_schema(model)
    schema["properties"] |= {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
    }
    schema["required"] = [name for name in schema.get("required", []) if name != "metadata"]
    return {key: value for key, value in schema.items() if value != []}


def _yaml(crd: dict[str, Any]) -> str:
    return yaml.safe_dump(crd, sort_keys=False, width=120, allow_unicode=True)


def write(folder: Path) -> None:
    """Write `render()` into a folder, which is made if it is missing. Raises `OSError`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in render().items():
        (folder / name).write_text(text, encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Print the CustomResourceDefinitions, or write them into a folder."""
    parser = argparse.ArgumentParser(prog="python -m tollkeeper.crd", description=main.__doc__)
    parser.add_argument("--write", metavar="DIR", type=Path, help="write one file for each kind into this folder")
    folder: Path | None = parser.parse_args(arguments).write
    if folder is None:
        sys.stdout.write(to_yaml())
    else:
        write(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
