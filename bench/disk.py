"""What all durable figures rest on: how often this disk syncs."""

from collections.abc import Iterator

from bench.rows import Row
from bench.workspace import Workspace, syncs_per_second


def rows(place: Workspace) -> Iterator[Row]:
    """Syncs a second, one after the other."""
    yield Row("syncs of 4 KiB, one at a time", place.median(lambda: syncs_per_second(place.folder)), "syncs/s")
