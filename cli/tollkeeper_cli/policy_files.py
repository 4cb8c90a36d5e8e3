"""Resources out of files: the policy that a folder of YAML states, without a cluster."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tollkeeper.compile import Compiled, compile_policy
from tollkeeper.errors import InvalidValue
from tollkeeper.prices import PriceList
from tollkeeper.pricing import book_prices
from tollkeeper.problems import Problem
from tollkeeper.references import Resources, read
from tollkeeper.tenants import Namespace
from tollkeeper_cli.yaml_files import documents_in

_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
_GROUP = "tollkeeper.dev/"


def policies_in(folder: Path) -> Compiled:
    """The policy of all resources in a folder and below. Raises `InvalidValue` that names file, object and field.

    Namespaces are those that a Namespace object, an object's own namespace or a tenant names.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix in _SUFFIXES and path.is_file())
    objects = [raw for path in files for raw in _objects(path)]
    ours = [raw for raw in objects if str(raw.get("apiVersion", "")).startswith(_GROUP)]
    if not ours:
        raise InvalidValue(f"{folder}: there is no resource of Tollkeeper in its .yaml, .yml and .json files")
    resources, unreadable = _read(ours)
    compiled = compile_policy(resources, _namespaces(objects), (), PriceList(), 1)
    _refuse(str(folder), (*unreadable, *(problem for problem in compiled.problems if problem.refuses)))
    return compiled


def prices_in(file: Path) -> PriceList:
    """The bundled list under the PriceBooks of a file. Raises `InvalidValue`."""
    resources, unreadable = _read(_objects(file))
    if not resources.price_books and not unreadable:
        raise InvalidValue(f"{file}: there is no PriceBook in it")
    prices, problems = book_prices(resources.price_books, PriceList.bundled())
    _refuse(str(file), (*unreadable, *problems))
    return prices


def _read(objects: Iterable[Mapping[str, Any]]) -> tuple[Resources, tuple[Problem, ...]]:
    """`references.read`, whose faults are those of files: one keeps all the others from being used."""
    resources, unreadable = read(objects)
    return resources, tuple(replace(problem, remedy="correct it; nothing was replayed") for problem in unreadable)


def _objects(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        documents = documents_in(path)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidValue(f"{path}: it cannot be read ({error})") from error
    for document in documents:
        if document is None:
            continue
        if not isinstance(document, dict):
            raise InvalidValue(f"{path}: a document in it is not an object with apiVersion, kind and metadata")
        listed = document.get("items") if document.get("kind") == "List" else None
        yield from listed if isinstance(listed, list) else [document]


def _namespaces(objects: list[Mapping[str, Any]]) -> dict[str, Namespace]:
    found: dict[str, Namespace] = {}
    for raw in objects:
        about = raw.get("metadata") or {}
        if raw.get("kind") == "Namespace":
            found[str(about.get("name"))] = Namespace(about.get("labels") or {}, about.get("annotations") or {})
    for raw in objects:
        about = raw.get("metadata") or {}
        names = (
            ((raw.get("spec") or {}).get("namespaces") or {}).get("names") or [] if raw.get("kind") == "Tenant" else []
        )
        for name in (*names, *filter(None, [about.get("namespace")])):
            found.setdefault(str(name), Namespace())
    return found


def _refuse(where: str, problems: tuple[Problem, ...]) -> None:
    if problems:
        first, more = problems[0], len(problems) - 1
        others = f" (and {more} more)" if more else ""
        raise InvalidValue(f"{where}: {first.ref} {first.path}: {first.reason}; {first.remedy}{others}")
