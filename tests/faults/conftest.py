"""Both storages, as the ledger's own tests have them: an empty ledger on each."""

from pathlib import Path

import pytest

from tests.ledger.conftest import ledger, new_ledger, postgres

__all__ = ["ledger", "new_ledger", "postgres"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Faults are for `make test`: each kills processes and servers at one point after another, which takes minutes."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.slow)
