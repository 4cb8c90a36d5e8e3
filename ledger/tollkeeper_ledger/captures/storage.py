"""What is asked of a store of captures, and the two that there are. A store knows who and when, and of bodies only their seals.

`open_captures` chooses by where the ledger lies: a file beside the ledger's own, or a table of its database. Times are UTC.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Protocol

from tollkeeper_ledger.captures.errors import NoCaptures
from tollkeeper_ledger.storage import LedgerAt, need_driver

CAPTURES_FILE = "bodies.db"


@dataclass(frozen=True, slots=True)
class Kept:
    """What is told of a capture without a key; `stored_bytes` is what its bodies take."""

    request_id: str
    tenant: str
    captured_at: datetime
    expires_at: datetime
    status: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class Sealed:
    """A capture as it is stored."""

    request_id: str
    tenant: str
    captured_at: datetime
    expires_at: datetime
    status: int
    request: bytes = field(repr=False)
    answer: bytes = field(repr=False)


class Shrunk(Enum):
    """What became of the room of what was deleted: all is given back, there is more, or a reader still needs the bytes."""

    DONE = "done"
    MORE = "more"
    HELD = "held"


class CaptureStore(Protocol):
    """Captures of one ledger's requests; any thread may call. Everything raises `Unavailable` where it cannot be done now.

    What deletes does so at most `most` at once and answers how many that were: no transaction is long.
    """

    @property
    def name(self) -> str:
        """Where the captures lie, as messages say it; without secrets."""
        ...

    @property
    def is_stale(self) -> bool:
        """Whether what it has open is not what lies there now, or was found damaged: close it, and open another."""
        ...

    def add(self, captures: Sequence[Sealed]) -> None:
        """Keep all of these, or none; one that is kept already stays as it is."""
        ...

    def find(self, request_id: str, now: datetime) -> Sealed | None:
        """One that is not over yet."""
        ...

    def listed(self, tenant: str | None, now: datetime, most: int) -> Sequence[Kept]:
        """Those of a tenant, or of all, that are not over yet; the latest first."""
        ...

    def delete(self, request_id: str) -> int:
        """Delete one."""
        ...

    def delete_of(self, tenant: str, most: int) -> int:
        """Delete those of a tenant."""
        ...

    def delete_over(self, now: datetime, most: int) -> int:
        """Delete those whose time is over."""
        ...

    def delete_before(self, tenant: str, captured: datetime, most: int) -> int:
        """Delete those of a tenant that were captured at an instant or before it."""
        ...

    def takes(self, most: int) -> bool:
        """Whether what is kept takes so many bytes of the disk, without the room that others of it will be given."""
        ...

    def shrink(self) -> Shrunk:
        """Give back some of the room of what was deleted, as much as is quick."""
        ...

    def close(self) -> None:
        """Let go of the storage."""
        ...


def open_captures(ledger: LedgerAt, *, make: bool, reads: bool = False) -> CaptureStore:
    """The captures of a ledger. `make`: where there are none yet, a place for them; `reads`: nothing will be written.

    Raises `NoCaptures` where there are none and none are made, and `Unavailable` where they cannot be opened.
    """
    if isinstance(ledger, Path):
        from tollkeeper_ledger.captures.sqlite import SqliteCaptures

        path = ledger.with_name(CAPTURES_FILE)
        if not make and not path.is_file():
            raise NoCaptures(f"{path}: no bodies were kept there; name the folder of the ledger with --data-dir")
        return SqliteCaptures(path, make=make, reads=reads)
    need_driver()
    from tollkeeper_ledger.captures.postgres import PostgresCaptures

    return PostgresCaptures(ledger.dsn, make=make)
