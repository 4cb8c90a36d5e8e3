"""What the authority needs to remember 100,000 accounts and 1,000 holders, and how long it takes to open them all."""

from collections.abc import Iterator

from bench.rows import Row, at_most
from bench.workspace import Workspace

ACCOUNTS, HOLDERS = 100_000, 1000


def rows(place: Workspace) -> Iterator[Row]:
    """The resident memory of a process that runs an authority alone, after lease calls that touched every account."""
    accounts, holders = place.size(ACCOUNTS, ACCOUNTS // 20), place.size(HOLDERS, HOLDERS // 20)
    used = place.populated(accounts, holders).resident_bytes
    yield Row(
        f"memory of the authority, {accounts:,} accounts, {holders:,} holders", used / 1e6, "MB", goal=at_most(300)
    )
