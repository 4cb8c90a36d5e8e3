"""The OpenAPI document, made from the same table as the routes and from the models' own schemas."""

import re
from functools import cache
from importlib.metadata import version
from typing import Any

from pydantic.json_schema import models_json_schema

from tollkeeper_console.api import OPERATIONS, Operation
from tollkeeper_console.models import Problem

_IN_PATH = re.compile(r"{(\w+)}")
_REF = "#/components/schemas/{model}"


@cache
def document() -> dict[str, Any]:
    """OpenAPI 3.1 for `/api/v1`."""
    shapes = sorted({operation.shape for operation in OPERATIONS} | {Problem}, key=lambda shape: shape.__name__)
    refs, schemas = models_json_schema([(shape, "serialization") for shape in shapes], ref_template=_REF)
    ref_of = {shape: ref for (shape, _), ref in refs.items()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tollkeeper console",
            "version": version("tollkeeper"),
            "description": "Budgets, quotas, usages and payments, as they are booked. Amounts are decimal strings.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {operation.path: {"get": _described(operation, ref_of)} for operation in OPERATIONS},
        "components": {"schemas": schemas["$defs"]},
    }


def _described(operation: Operation, ref_of: dict[Any, Any]) -> dict[str, Any]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _IN_PATH.findall(operation.path)
    ]
    in_query = [
        {"name": one.name, "in": one.location, "description": one.description, "schema": dict(one.schema)}
        for one in operation.parameters
    ]
    failed = {"application/problem+json": {"schema": ref_of[Problem]}}
    return {
        "operationId": operation.id,
        "summary": operation.summary,
        "parameters": in_path + in_query,
        "responses": {
            "200": {"description": "Done.", "content": {"application/json": {"schema": ref_of[operation.shape]}}},
            "default": {"description": "An error.", "content": failed},
        },
    }
