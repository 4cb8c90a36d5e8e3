"""`tollkeeper verify` of a ledger itself: its chain, and its rows beside what the chain says."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from tollkeeper.amounts import Unit, format_amount
from tollkeeper.counters import Unbooked
from tollkeeper_cli.ledgers import check_there
from tollkeeper_ledger.audit import Audited, audit
from tollkeeper_ledger.errors import BooksDiffer, ChainBroken
from tollkeeper_ledger.storage import LedgerAt, open_reader

MOST_GATEWAYS = 20
"""So many gateways are named."""


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


def missed(unbooked: Sequence[Unbooked]) -> Iterator[str]:
    """A line for each gateway whose usage is missing. It is no fault of the ledger: usage is on its way, or was lost."""
    for one in unbooked[:MOST_GATEWAYS]:
        requests = "1 request" if one.missing.requests == 1 else f"{one.missing.requests} requests"
        yield (
            f"gateway {one.instance} had settled {requests} more by {one.told:%Y-%m-%d %H:%M:%S} UTC than are booked "
            f"({one.missing.tokens} tokens, ${format_amount(one.missing.cost, Unit.USD)}): they are in its spool, or lost with it"
        )
    if (more := len(unbooked) - MOST_GATEWAYS) > 0:
        yield f"and {more} more gateways had settled more than is booked"
