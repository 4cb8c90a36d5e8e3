"""Run the measurements in order, print one table, write `bench/results/latest.json`."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path

import orjson
from rich import box
from rich.console import Console
from rich.table import Table

from bench.rows import HEADINGS, Row, lines
from bench.workspace import CannotMeasure, Workspace, workspace

RESULTS = Path(__file__).parent / "results"
MEASUREMENTS = (
    "disk",
    "decisions",
    "grants",
    "latency",
    "serving",
    "ingest",
    "breakdowns",
    "memory",
    "growth",
    "admission",
)
"""Modules of this package, each with `rows(workspace)`."""


def measured(names: Sequence[str], place: Workspace) -> list[Row]:
    """The rows of the named measurements; what cannot be measured here is said and left out."""
    found: list[Row] = []
    for name in names:
        began = time.monotonic()
        rows: Callable[[Workspace], Iterator[Row]] = import_module(f"bench.{name}").rows
        try:
            found.extend(rows(place))
        except CannotMeasure as missing:
            print(f"{name}: not measured: {missing}", file=sys.stderr)
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return found


def table(rows: Sequence[Row]) -> Table:
    """The table that people read."""
    made = Table(box=box.SIMPLE_HEAD)
    for number, heading in enumerate(HEADINGS):
        made.add_column(heading, justify="right" if number in (1, 4, 5) else "left", no_wrap=number != 3)
    for cells in lines([row.to_json() for row in rows]):
        made.add_row(*cells)
    return made


def main() -> None:
    """The command line: all measurements, or those that are named, which are then printed only."""
    arguments = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    arguments.add_argument("name", nargs="*", help=f"of {', '.join(MEASUREMENTS)}")
    arguments.add_argument(
        "--quick", action="store_true", default=os.environ.get("QUICK") == "1", help="little of each"
    )
    asked = arguments.parse_args()
    if unknown := set(asked.name) - set(MEASUREMENTS):
        arguments.error(f"no measurement is called {', '.join(sorted(unknown))}: use {', '.join(MEASUREMENTS)}")
    with workspace(quick=asked.quick) as place:
        rows = measured(asked.name or MEASUREMENTS, place)
    Console(width=190).print(table(rows))
    if not asked.name:
        write(rows, RESULTS / ("quick.json" if asked.quick else "latest.json"))


def write(rows: Sequence[Row], path: Path) -> None:
    """Keep the rows, and of the machine only what they depend on."""
    path.parent.mkdir(exist_ok=True)
    told = {"machine": {"cores": os.cpu_count()}, "rows": [row.to_json() for row in rows]}
    path.write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


if __name__ == "__main__":
    main()
