"""The rules of money (M1 to M7) and of balances (B1 to B9): each has tests that name it, in their name or docstring."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

RULES = {f"M{number}" for number in range(1, 8)} | {f"B{number}" for number in range(1, 10)}
TESTS = Path(__file__).parents[1]


def named(source: str) -> Iterator[str]:
    """The rules that the tests of a module name, each for itself: what a module says of all its tests does not count."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            words = f"{node.name.replace('_', ' ').upper()} {ast.get_docstring(node) or ''}"
            yield from re.findall(r"\b[MB][1-9]\b", words)


def test_every_rule_of_money_and_balances_is_named_by_a_test() -> None:
    tested = {rule for path in TESTS.rglob("test_*.py") for rule in named(path.read_text())}
    assert tested >= RULES, f"no test names {', '.join(sorted(RULES - tested))}"
