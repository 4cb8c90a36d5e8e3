"""What pages ask, over five million usages: from the ledger's sums, and by the peer from the usages themselves."""

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from bench.loading import BEGIN, PROJECTS, TREE, UNTIL, Loaded, loaded
from bench.rows import Row, at_most
from bench.tree import NOW
from bench.workspace import Workspace
from tollkeeper.policy import CurrentPolicy
from tollkeeper_console.queries import Queries
from tollkeeper_ledger.rows import to_micros
from tollkeeper_ledger.storage import LedgerStoreReader, open_reader

LONGEST = at_most(50)
TENANTS = [f"project-{number}" for number in range(PROJECTS)]
PEER = "GROUP BY over the rows themselves, SQLite"


def milliseconds(ask: Callable[[], object]) -> float:
    """How long a question takes."""
    began = time.perf_counter()
    ask()
    return (time.perf_counter() - began) * 1000


def from_raw(raw: sqlite3.Connection, column: str, tenants: Sequence[str]) -> list[tuple[str, ...]]:
    """The breakdown by a column of the plain table."""
    signs = ", ".join("?" * len(tenants))
    return raw.execute(
        f"SELECT {column}, count(*), sum(input_tokens), sum(output_tokens), sum(cost), sum(micros) FROM usages "  # noqa: S608 - constants
        f"WHERE at >= ? AND at < ? AND tenant IN ({signs}) GROUP BY 1 ORDER BY 5 DESC",
        (to_micros(BEGIN), to_micros(UNTIL), *tenants),
    ).fetchall()


def broken_down(place: Workspace, reader: LedgerStoreReader, found: Loaded) -> Iterator[Row]:
    """Breakdowns of three weeks: of one tenant, and of all."""
    raw = sqlite3.connect(found.raw)
    for dimension, column, tenants in (
        ("user", "user_name", TENANTS[:1]),
        ("user", "user_name", TENANTS),
        ("model", "model", TENANTS),
    ):

        def ask(dimension: str = dimension, tenants: Sequence[str] = tenants) -> int:
            return sum(one.requests for one in reader.breakdown(dimension, tenants=tenants, since=BEGIN, until=UNTIL))

        began = time.perf_counter()
        theirs = from_raw(raw, column, tenants)
        peer = (time.perf_counter() - began) * 1000
        if ask() != sum(int(row[1]) for row in theirs):
            raise RuntimeError(f"by {dimension} the sums are not those of the rows")
        whose = "1 tenant" if len(tenants) == 1 else f"{len(tenants)} tenants"
        name = f"breakdown by {dimension}, {whose}, 20 days"
        yield Row(name, place.median(partial(milliseconds, ask)), "ms", PEER, peer, LONGEST)
    raw.close()


def rows(place: Workspace) -> Iterator[Row]:
    """Each question's time, the overview first."""
    usages = place.size(5_000_000, 200_000)
    found = loaded(usages)
    yield Row("usages behind these questions", usages, "rows")
    reader = open_reader(found.ledger)
    try:
        queries = Queries(reader, CurrentPolicy(TREE.policy), lambda: NOW)
        limits = len(TREE.policy.limits)
        overview = place.median(partial(milliseconds, queries.limits))
        yield Row(f"overview of {limits} budgets", overview, "ms", goal=LONGEST)
        account = TREE.path(0)[0]

        def page() -> None:
            reader.totals(account)
            reader.spend(account, slice_seconds=3600, since=BEGIN, until=NOW)

        yield Row(
            "sums and spending by hour of one budget", place.median(partial(milliseconds, page)), "ms", goal=LONGEST
        )
        yield from broken_down(place, reader, found)
    finally:
        reader.close()
