"""I4: whatever happens, nothing that was booked is changed or deleted; there is no retention of anything but bodies."""

import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg

from tests.ledger.families import Family, budgets_of, everything_that_happens
from tollkeeper_ledger.storage import LedgerAt

TENANTS = {"one": "top"}
PASSING = {"leases", "lease_rows", "writers"}
"""What is set aside, and by whom it is written, is a state and no history."""


def rows_in_each_table(ledger: LedgerAt) -> dict[str, int]:
    if isinstance(ledger, Path):
        with closing(sqlite3.connect(ledger)) as file:
            names = [name for (name,) in file.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
            return {name: file.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names}  # noqa: S608
    with psycopg.connect(ledger.dsn) as server:
        tables = server.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        counts = {name: server.execute(f"SELECT count(*) FROM {name}").fetchone() for (name,) in tables}  # noqa: S608
        return {name: count[0] for name, count in counts.items() if count}


def test_the_chain_only_grows_and_no_table_of_history_ever_loses_a_row(ledger: LedgerAt) -> None:
    """R26."""
    family = Family(ledger, *budgets_of(TENANTS))
    chain: list[bytes] = []
    rows: dict[str, int] = {}
    for step in everything_that_happens(family, TENANTS):
        step()
        before, chain = chain, family.desk.export()
        assert chain[: len(before)] == before
        were, rows = rows, rows_in_each_table(ledger)
        assert [name for name in were.keys() - PASSING if rows[name] < were[name]] == []
    assert len(chain) > len(family.limits)
    family.desk.store.close()
