"""Both storages of captures, empty, beside no ledger at all."""

from collections.abc import Iterator

import pytest

from tests.ledger.conftest import NewLedger
from tollkeeper_ledger.captures.storage import CaptureStore, open_captures
from tollkeeper_ledger.storage import LedgerAt


@pytest.fixture
def ledger(new_ledger: NewLedger) -> LedgerAt:
    return new_ledger()


@pytest.fixture
def store(ledger: LedgerAt) -> Iterator[CaptureStore]:
    store = open_captures(ledger, make=True)
    yield store
    store.close()
