"""The files that a ledger on SQLite is made of: their names, what they begin with, and how they are opened to be read."""

import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

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
    """A connection to a database that writes nothing into it; any thread may use it, one at a time."""
    return sqlite3.connect(
        f"file:{quote(str(path))}?mode=ro",
        uri=True,
        timeout=wait_seconds,
        check_same_thread=False,
        isolation_level=None,
    )


def what_is_wrong(error: sqlite3.Error) -> str:
    """What SQLite says, in our words where the file itself cannot be what it should."""
    return _DAMAGED.get(str(error), str(error))


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file itself is at fault, and not how it can be reached."""
    return str(error) in _DAMAGED


def _files(ledger: Path) -> tuple[Path, ...]:
    return (ledger, *(ledger.with_name(ledger.name + end) for end in COMPANIONS))


def _same(one: Path, other: Path) -> bool:
    """Files that are not there are the same by their names."""
    try:
        return one.samefile(other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)
