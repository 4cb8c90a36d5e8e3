"""Structural schemas out of pydantic models: what a CustomResourceDefinition's `openAPIV3Schema` must be.

A structural schema has no references, a type at every place, no `additionalProperties: false` and no titles (Kubernetes,
"Specifying a structural schema"). Optional fields are left out of `required`, never nullable. Rules across fields become
`x-kubernetes-validations` of the object that they are stated on.

What people write is checked by rules that have words, in place of `pattern` and `format`, which have none. A status is
written by programs alone: it keeps the patterns, which cost nothing, and its lists need no bounds.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel

from tollkeeper.errors import InvalidValue
from tollkeeper.resources.meta import Part, Rule

Schema = dict[str, Any]

_KEPT = (
    "type",
    "format",
    "description",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "maxProperties",
    "default",
    "required",
)
_WORDS = "x-kubernetes-validations"
_WORDLESS = ("pattern", "format")


def structural_schema(model: type[Part]) -> Schema:
    """The schema of a model, with its rules. Raises `InvalidValue` for what no structural schema can say."""
    raw = model.model_json_schema(by_alias=True, mode="validation")
    rules = {part.__name__: part.rules for part in _parts_of(model) if part.rules}
    return _Converter(raw.get("$defs", {}), rules).convert(raw, model.__name__)


def _parts_of(model: type[Part]) -> Iterator[type[Part]]:
    """A model and every model below it."""
    yield model
    for info in model.model_fields.values():
        for part in _parts_in(info.annotation):
            yield from _parts_of(part)


def _parts_in(annotation: Any) -> Iterator[type[Part]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if issubclass(annotation, Part):
            yield annotation
        return
    for argument in get_args(annotation):
        yield from _parts_in(argument)


class _Converter:
    def __init__(self, definitions: Mapping[str, Schema], rules: Mapping[str, tuple[Rule, ...]]) -> None:
        self._definitions = definitions
        self._rules = rules

    def convert(self, raw: Schema, name: str, *, worded: bool = True) -> Schema:
        """The structural form of a JSON schema; `name` is the model's, where it is one. `worded`: people write it."""
        raw, name = self._resolved(raw, name)
        left_out = _WORDLESS if worded and _WORDS in raw else () if worded else (_WORDS,)
        raw = {key: value for key, value in raw.items() if key not in left_out}
        schema: Schema = {key: raw[key] for key in _KEPT if key in raw and not _is_empty(raw[key])}
        schema |= {key: value for key, value in raw.items() if key.startswith("x-kubernetes-")}
        if "const" in raw:
            schema["enum"] = [raw["const"]]
        if "description" in schema:
            schema["description"] = " ".join(schema["description"].split())
        if "items" in raw:
            schema["items"] = self._below(raw["items"], worded)
        if isinstance(raw.get("additionalProperties"), dict):
            schema["additionalProperties"] = self._below(raw["additionalProperties"], worded)
        if "properties" in raw:
            schema["properties"] = {
                key: self.convert(value, "", worded=worded and key != "status")
                for key, value in raw["properties"].items()
            }
        if isinstance(schema.get("default"), dict):
            del schema["default"]  # the defaults of its fields say it
        if name in self._rules:
            schema[_WORDS] = [_validation(rule) for rule in self._rules[name]]
        if "type" not in schema and not schema.get("x-kubernetes-int-or-string"):
            raise InvalidValue(f"{raw} has no type: no structural schema can say it")
        return schema

    def _below(self, raw: Schema, worded: bool) -> Schema:
        """The schema of items and map values, whose own description nobody reads twice."""
        return {key: value for key, value in self.convert(raw, "", worded=worded).items() if key != "description"}

    def _resolved(self, raw: Schema, name: str) -> tuple[Schema, str]:
        """Follow references and take the one alternative beside null; what stands beside them comes first."""
        beside = {key: value for key, value in raw.items() if key not in ("$ref", "anyOf", "title")}
        if "anyOf" in raw:
            raw, name = self._resolved(_one_of(raw["anyOf"]), name)
        elif "$ref" in raw:
            name = raw["$ref"].rpartition("/")[2]
            raw, name = self._resolved(self._definitions[name], name)
        else:
            return raw, name
        return raw | beside, name


def _one_of(alternatives: Iterable[Schema]) -> Schema:
    values = [alternative for alternative in alternatives if alternative.get("type") != "null"]
    if len(values) != 1:
        raise InvalidValue(f"{values} are several types: a structural schema allows one")
    return values[0]


def _is_empty(value: Any) -> bool:
    return value is None or value in ([], {}, "")


def _validation(rule: Rule) -> Schema:
    validation = {"rule": rule.cel, "message": rule.says}
    # The API server takes no path into metadata: the schema does not describe it.
    shows_path = rule.path and not rule.path.startswith("metadata")
    return validation | ({"fieldPath": f".{rule.path}"} if shows_path else {})
