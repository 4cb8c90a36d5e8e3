"""The files that a ledger on SQLite is made of: their names, what they begin with, and how they are opened to be read."""

import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

from tollkeeper_ledger.errors import LedgerUnreadable

_DAMAGED = {
    "file is not a database": "it is no ledger, nor any SQLite database; restore a good copy of it, or name another",
    "database disk image is malformed": "it is damaged (database disk image is malformed); restore a good copy of it",
}

COMPANIONS = ("-wal", "-shm", "-journal", ".lock")
"""What is appended to a ledger's name: SQLite's files beside it, and the lock of the process that writes it."""

_DATABASE = b"SQLite format 3\0"
"""What a database begins with: https://www.sqlite.org/fileformat.html, section 1.3."""


def of_a_database(path: Path) -> Path | None:
    """The SQLite database that a file is, is a link to, or would be a companion of; None where it is none of that."""
    real = Path(os.path.realpath(path))
    owners = (real.with_name(real.name.removesuffix(end)) for end in COMPANIONS if real.name.endswith(end))
    return next((file for file in (real, *owners) if is_database(file)), None)


def of_the_ledger(path: Path, ledger: Path) -> bool:
    """Whether a file is one of a ledger's, by whatever name or link."""
    names = {name for known in (ledger, Path(os.path.realpath(ledger))) for name in _files(known)}
    return any(_same(path, name) for name in names)


def is_database(path: Path) -> bool:
    """Whether a file is a SQLite database, or was one that is damaged behind its beginning."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(_DATABASE)) == _DATABASE
    except OSError:
        return False


def read_connection(path: Path, wait_seconds: float = 5.0) -> sqlite3.Connection:
    """A connection that writes nothing into a database; any thread may use it, one at a time.

    It leaves no file that was not there before, and reads where nothing can be written, as long as all lies in the one file.
    Raises `LedgerUnreadable` where it does not.
    """
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?{_how(Path(os.path.realpath(path)))}",
        uri=True,
        timeout=wait_seconds,
        check_same_thread=False,
        isolation_level=None,
    )
    connection.execute("PRAGMA query_only = 1")
    return connection


def _how(database: Path) -> str:
    """How to open it: https://www.sqlite.org/wal.html, section 5.

    Who may only read cannot take away the files that reading makes, so where none is there it is opened as by a writer: SQLite
    itself then takes them away as the last one leaves. Where there is one, what stands in it stays there. Where none can be
    made, the file is read as one that nobody writes: whoever does has a log beside it.
    """
    log, index = (database.with_name(database.name + end) for end in ("-wal", "-shm"))
    if os.access(database.parent, os.W_OK):
        return "mode=ro" if log.exists() else "mode=rw"
    if index.exists() and log.exists():
        return "mode=ro"
    if log.exists() and log.stat().st_size:
        raise LedgerUnreadable(
            f"ledger {database}: what was booked last lies in {log.name} beside it, which cannot be read where nothing can be "
            f"written: copy {database.name} and {log.name} into a folder of yours, and name that one"
        )
    return "mode=ro&immutable=1"


def unreadable(path: Path, error: sqlite3.Error) -> LedgerUnreadable | None:
    """What is wrong where a file itself is at fault, and not how it can be reached; else None."""
    wrong = _DAMAGED.get(str(error))
    return LedgerUnreadable(f"ledger {path}: {wrong}") if wrong else None


def _files(ledger: Path) -> tuple[Path, ...]:
    return (ledger, *(ledger.with_name(ledger.name + end) for end in COMPANIONS))


def _same(one: Path, other: Path) -> bool:
    """Files that are not there are the same by their names."""
    try:
        return one.samefile(other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)
