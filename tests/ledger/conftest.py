"""Both storages: an empty ledger on each, PostgreSQL's on one server for the whole run."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.ledger.builders import Desk, budget
from tests.postgres_server import PostgresServer, running
from tollkeeper_ledger.storage import LedgerAt, PostgresLedger

NewLedger = Callable[[], LedgerAt]


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with running() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def new_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> NewLedger:
    """Where another empty ledger may lie. A database for each is slow to make: the everyday check is content with files."""
    if request.param == "sqlite":
        numbers = count(1)
        return lambda: tmp_path / f"ledger{next(numbers)}.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    return lambda: PostgresLedger(server.new_database())


@pytest.fixture
def ledger(new_ledger: NewLedger) -> LedgerAt:
    return new_ledger()


@pytest.fixture
def desk(ledger: LedgerAt) -> Iterator[Desk]:
    """A desk whose policy is one `budget()`; test modules that need other limits have their own."""
    desk = Desk(ledger, budget())
    yield desk
    desk.store.close()
