"""What one node and many shards carry, computed from measured rows: `python -m bench.scale` writes it into docs/scale.md.

Every number is a formula over rows that are named in it; nothing is assumed but that a node runs at half of what it can,
the load at which its lease calls' times are measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from bench.rows import figure

ROOT = Path(__file__).parents[1]
RESULTS, DOCUMENT = ROOT / "bench" / "results" / "latest.json", ROOT / "docs" / "scale.md"
BEGIN, END = "<!-- from bench/results/latest.json: begin -->\n", "<!-- from bench/results/latest.json: end -->\n"

STORAGES = ("SQLite", "PostgreSQL")
SHARDS = (1, 2, 4, 8, 16)
HALF = 0.5
BUSY, QUIET = 100, 1
"""Requests a second of a sidecar, as `serving` measures its lease calls."""

ACCOUNTS = 100_000
"""As many as `memory` and `growth` measure."""

USERS = 100
"""Of a tenant that has an account for each."""

NEEDED = "what a request needs, before the decision"
DECIDED = "local decision, a request"


@dataclass(frozen=True, slots=True)
class Node:
    """What one authority over one ledger carries at half load."""

    storage: str
    busy_requests: float
    busy_sidecars: int
    quiet_sidecars: int


def node(values: Mapping[str, float], storage: str) -> Node:
    """Booking and leases take turns on the ledger's one writer, so the shares of its time that they take add up."""
    booked, calls = values[f"usage rows booked, {storage}"], values[f"lease calls of 4 levels, {storage}"]
    busy = HALF / (1 / booked + _calls(values, BUSY) / BUSY / calls)
    quiet = HALF / (1 / booked + _calls(values, QUIET) / QUIET / calls)
    return Node(storage, busy, int(busy / BUSY), int(quiet / QUIET))


def _calls(values: Mapping[str, float], rate: int) -> float:
    return values[f"lease calls of a gateway with {rate} requests/s"]


def decisions(values: Mapping[str, float]) -> float:
    """Requests that one core of a sidecar decides in a second, if it did nothing else."""
    return 1e6 / (values[DECIDED] + values[NEEDED])


def tables(rows: Sequence[Mapping[str, Any]]) -> str:
    """The generated part of the document."""
    values = {row["name"]: float(row["value"]) for row in rows}
    nodes = [node(values, storage) for storage in STORAGES]
    used = [
        *(
            name
            for storage in STORAGES
            for name in (f"usage rows booked, {storage}", f"lease calls of 4 levels, {storage}")
        ),
        *(f"lease calls of a gateway with {rate} requests/s" for rate in (BUSY, QUIET)),
        DECIDED,
        NEEDED,
    ]
    units = {row["name"]: row["unit"] for row in rows}
    measured = [(name, figure(values[name]), units[name]) for name in used]
    one = [
        (each.storage, figure(each.busy_requests), figure(each.busy_sidecars), figure(each.quiet_sidecars))
        for each in nodes
    ]
    many = [
        (
            str(shards),
            *(figure(shards * each.busy_requests) for each in nodes),
            *(figure(shards * each.busy_sidecars) for each in nodes),
            figure(shards * ACCOUNTS),
            figure(shards * (ACCOUNTS // (USERS + 1))),
        )
        for shards in SHARDS
    ]
    busy = [f"{storage}, sidecars of {BUSY} requests/s" for storage in STORAGES]
    return "\n".join(
        (
            "What was measured:\n",
            _table(("row", "value", "unit"), measured),
            f"One node, at half load (a core of a sidecar decides {figure(decisions(values))} requests/s):\n",
            _table(("", "requests/s", f"sidecars of {BUSY} requests/s", f"sidecars of {QUIET} request/s"), one),
            "Shards:\n",
            _table(
                (
                    "shards",
                    *(f"requests/s, {storage}" for storage in STORAGES),
                    *busy,
                    "tenants with one budget",
                    f"tenants with a budget, and a quota for each of {USERS} users",
                ),
                many,
            ),
        )
    )


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    ruled = "|".join(["---", *["--:"] * (len(headings) - 1)])
    return "\n".join((f"| {' | '.join(headings)} |", f"|{ruled}|", *(f"| {' | '.join(row)} |" for row in rows), ""))


def written(document: str, generated: str) -> str:
    """The document with its generated part replaced."""
    before, rest = document.split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + generated + END + after


def main() -> None:
    """Bring docs/scale.md up to date."""
    rows = orjson.loads(RESULTS.read_bytes())["rows"]
    DOCUMENT.write_text(written(DOCUMENT.read_text(), tables(rows)))


if __name__ == "__main__":
    main()
