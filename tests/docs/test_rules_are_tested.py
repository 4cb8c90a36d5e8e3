"""Each rule of accounting has tests that name it, in their name or docstring: see `RULES`."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

RULES = {
    "money": [f"M{number}" for number in range(1, 8)],
    "balances": [f"B{number}" for number in range(1, 10)],
    "refusals": [f"F{number}" for number in range(1, 6)],
    "requirements": [f"R{number}" for number in (*range(2, 11), 17, 21, 26, 27, 28, 29, 46)],
}
TESTS = Path(__file__).parents[1]


def named(source: str) -> Iterator[str]:
    """The rules that the tests of a module name, each for itself: what a module says of all its tests does not count."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            words = f"{node.name.replace('_', ' ').upper()} {ast.get_docstring(node) or ''}"
            yield from re.findall(r"\b[MBFR][1-9][0-9]?\b", words)


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES.keys())
def test_every_rule_is_named_by_a_test(rules: list[str]) -> None:
    tested = {rule for path in TESTS.rglob("test_*.py") for rule in named(path.read_text())}
    missing = [rule for rule in rules if rule not in tested]
    assert not missing, f"no test names {', '.join(missing)}"
