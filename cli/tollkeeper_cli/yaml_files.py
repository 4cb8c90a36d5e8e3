"""YAML as people write it into files: read as it always is, but for numbers and times that cannot be, which are told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tollkeeper.errors import InvalidValue, shown

LONGEST_NUMBER = 100
"""No number that means anything has more characters; Python reads none of more than 4300 digits."""


class _Loader(yaml.SafeLoader):
    """Tells where a number or time stands that cannot be."""


def _telling(construct: Callable[[Any, Any], Any], what: str, remedy: str) -> Callable[[Any, Any], Any]:
    def constructed(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
        try:
            if len(node.value) <= LONGEST_NUMBER:
                return construct(loader, node)
        except (ValueError, OverflowError):
            pass
        says = f"{shown(node.value)} is not {what} that can be: {remedy}"
        raise yaml.constructor.ConstructorError(None, None, says, node.start_mark)

    return constructed


for _tag, _construct, _what, _remedy in (
    ("int", yaml.SafeLoader.construct_yaml_int, "a number", "shorten it, or put it in quotes if it is a text"),
    ("float", yaml.SafeLoader.construct_yaml_float, "a number", "shorten it, or put it in quotes if it is a text"),
    ("timestamp", yaml.SafeLoader.construct_yaml_timestamp, "a time", "write one such as 2026-12-01T00:00:00Z"),
):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _telling(_construct, _what, _remedy))


def documents_in(path: Path) -> list[Any]:
    """What each document of a file says. Raises `InvalidValue` that says in one line where it is not YAML; `OSError` and
    `UnicodeDecodeError` of a file that cannot be read."""
    text = path.read_text(encoding="utf-8")
    try:
        return list(yaml.load_all(text, _Loader))
    except yaml.YAMLError as error:
        raise InvalidValue(f"{path}: it is not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise InvalidValue(f"{path}: it is not YAML that can be read: it is nested too deeply") from error
