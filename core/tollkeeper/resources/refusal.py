"""What is said of an object that cannot be taken: each fault with its path, its reason and what to do (R12)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tollkeeper.errors import InvalidValue
from tollkeeper.resources.meta import BrokenRules


@dataclass(frozen=True, slots=True)
class FieldError:
    """One fault: the path as in YAML (`spec.limits[0].amount`; empty: the object), and reason with remedy."""

    path: str
    says: str

    def __str__(self) -> str:
        return f"{self.path}: {self.says}" if self.path else self.says


class InvalidResource(InvalidValue):
    """An object that cannot be taken: `title` names it, `faults` are all that is wrong. `str()` is one line."""

    def __init__(self, title: str, faults: Sequence[FieldError]) -> None:
        super().__init__(f"{title}: {'; '.join(str(fault) for fault in faults)}")
        self.title = title
        self.faults = tuple(faults)


def field_errors(model: type[BaseModel], refusal: ValidationError) -> tuple[FieldError, ...]:
    """Every fault that pydantic found, in our words."""
    errors = refusal.errors()
    return tuple(fault for error in errors if not _follows(error, errors) for fault in _faults(model, error))


def _follows(error: ErrorDetails, errors: Sequence[ErrorDetails]) -> bool:
    """Whether a list seems too short only since items that are at fault were not counted."""
    loc = error["loc"]
    return error["type"] == "too_short" and any(other["loc"][: len(loc)] == loc != other["loc"] for other in errors)


def _faults(model: type[BaseModel], error: ErrorDetails) -> Iterator[FieldError]:
    path = _path(error["loc"])
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, BrokenRules):
        for rule in cause.rules:
            yield FieldError(".".join(part for part in (path, rule.path) if part), rule.says)
    elif isinstance(cause, InvalidValue):
        yield FieldError(path, str(cause))
    else:
        yield FieldError(path, _plain(model, error))


def _plain(model: type[BaseModel], error: ErrorDetails) -> str:
    context: Mapping[str, Any] = error.get("ctx", {})
    match error["type"]:
        case "missing":
            return "is missing: add it"
        case "extra_forbidden":
            return _unknown(str(error["loc"][-1]), _fields_at(model, error["loc"][:-1]))
        case "enum" | "literal_error":
            return f"{_short(error['input'])} is not one of {context['expected'].replace(' or ', ', ')}"
        case "too_long":
            return f"has {context['actual_length']} items: {context['max_length']} are the most"
        case "too_short":
            return f"has {context['actual_length']} items: {context['min_length']} are the least"
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"{_short(error['input'])} is not a set of fields: indent its fields below it"
        case "bool_type" | "bool_parsing":
            return f"{_short(error['input'])} is neither true nor false: write one of them, without quotes"
        case "string_type":
            return f"{_short(error['input'])} is not text: put it in quotes"
        case "tuple_type" | "list_type":
            return f"{_short(error['input'])} is not a list: write its items in [ ], or each after a dash"
        case _:
            return f"{error['msg']}; it is {_short(error['input'])}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _unknown(name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"is unknown here: did you mean {close[0]}?" if close else f"is unknown here: use {', '.join(known)}"


def _path(loc: Sequence[int | str]) -> str:
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _fields_at(model: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    """The wire's names of the fields at a place in a model."""
    here: type[BaseModel] | None = model
    for part in loc:
        if here is None or isinstance(part, int):
            continue
        fields = {info.alias or name: info.annotation for name, info in here.model_fields.items()}
        here = _model_in(fields.get(part))
    return [info.alias or name for name, info in here.model_fields.items()] if here else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(argument) for argument in get_args(annotation) if not isinstance(argument, Mapping))
    return next((model for model in found if model is not None), None)
