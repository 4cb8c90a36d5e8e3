"""The files that a ledger on SQLite is made of, by their names and by what they begin with. Pure but for reading them."""

import os
from pathlib import Path

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


def _files(ledger: Path) -> tuple[Path, ...]:
    return (ledger, *(ledger.with_name(ledger.name + end) for end in COMPANIONS))


def _same(one: Path, other: Path) -> bool:
    """Files that are not there are the same by their names."""
    try:
        return one.samefile(other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)
