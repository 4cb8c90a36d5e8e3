"""A small ledger for commands to work on."""

from pathlib import Path

from tests.ledger.builders import Desk, account_of, budget, record
from tollkeeper.leases import Want
from tollkeeper.usage import Charge

LIMIT = budget()
ACCOUNT = account_of(LIMIT)


def booked(folder: Path, usages: int) -> Path:
    """A folder with a ledger of one lease and some usages."""
    desk = Desk(folder / "ledger.db", LIMIT)
    desk.lease("g", Want(ACCOUNT, 1000, 1000))
    for _ in range(usages):
        desk.charge(record("g", Charge(ACCOUNT, 10, 10)))
    desk.store.close()
    return folder
