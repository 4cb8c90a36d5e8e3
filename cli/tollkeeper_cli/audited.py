"""`tollkeeper verify` of a ledger itself: its chain, and its rows beside what the chain says."""

import contextlib
from pathlib import Path

from tollkeeper_cli.ledgers import check_there
from tollkeeper_ledger.audit import Audited, audit
from tollkeeper_ledger.errors import BooksDiffer, ChainBroken
from tollkeeper_ledger.storage import LedgerAt, open_reader


def audited(ledger: LedgerAt, through: str | None) -> Audited:
    """What was checked. Raises `ChainBroken` and `BooksDiffer` that name the ledger, and what `check_there` raises."""
    check_there(ledger)
    with contextlib.closing(open_reader(ledger)) as reader:
        name = str(ledger) if isinstance(ledger, Path) else "the ledger on PostgreSQL"
        try:
            return audit(reader, through=through)
        except ChainBroken as error:
            raise ChainBroken(f"{name}: as it would be exported, {error}") from error
        except BooksDiffer as error:
            raise BooksDiffer(f"{name}: {error}") from error
