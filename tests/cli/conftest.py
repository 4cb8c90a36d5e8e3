"""What commands work on; test modules that need other books have their own."""

from pathlib import Path

import pytest

from tests.cli.books import booked


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder whose ledger holds a few usages."""
    return booked(tmp_path, 3)
