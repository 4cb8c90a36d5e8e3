"""Points that a process passes, found from outside: the ledger and the spool carry nothing for it.

SQLite tells of every statement that it begins, of however many rows it is; the statements of PostgreSQL's session, and
the calls that change files, are counted as they are made.
"""

import os
import signal
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from select import select
from typing import Any

from tollkeeper_ledger.postgres.session import Session

LONGEST_COMMIT_SECONDS = 30.0
_WRITE, _OPEN, _CLOSE = os.write, os.open, os.close
_CALLS_OF_THE_DISK = ("write", "open", "fdatasync", "fsync", "ftruncate", "unlink", "rmdir", "mkdir")


class Points:
    """Counts points, and ends this process at one of them."""

    def __init__(self, folder: Path, fatal: int) -> None:
        self._folder = folder
        self._fatal = fatal
        self._all: list[str] = []
        self._counting = True

    def passed(self, point: str, at_last: Callable[[], object] = lambda: None) -> None:
        """This point is reached; if it is the fatal one, `at_last` is done and nothing after it."""
        if not self._counting:
            return
        self._all.append(point)
        if len(self._all) == self._fatal:
            self.write("point", point)
            at_last()
            os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def counted_if(self, condition: bool) -> Iterator[None]:
        """What is passed in this block is a point only if so."""
        self._counting = condition
        yield
        self._counting = True

    def end(self) -> None:
        """The work is done: write down all points that there were."""
        for point in self._all:
            self.write("passed", point)

    def write(self, name: str, line: str) -> None:
        """Append a line to a file of the caller's, or the provider's: what they know survives."""
        descriptor = _OPEN(self._folder / name, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        _WRITE(descriptor, " ".join(line.split()).encode() + b"\n")
        _CLOSE(descriptor)


def lines_in(folder: Path, name: str) -> list[str]:
    """What was written of that name."""
    path = folder / name
    return path.read_text().splitlines() if path.exists() else []


@contextmanager
def statements_counted(points: Points) -> Iterator[None]:
    """Every statement of either storage is a point."""
    connect, run = sqlite3.connect, Session._run

    def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.set_trace_callback(points.passed)
        return connection

    def counted(self: Session, sql: str, values: Sequence[Any]) -> Any:
        points.passed(sql)
        if sql == "COMMIT":
            # The server does it and answers, and whoever sent it never hears of it.
            points.passed("COMMIT, unheard", lambda: _send_and_wait(self))
        return run(self, sql, values)

    sqlite3.connect = traced  # type: ignore[assignment]
    Session._run = counted  # type: ignore[method-assign]
    yield
    sqlite3.connect, Session._run = connect, run  # type: ignore[method-assign]


def _send_and_wait(session: Session) -> None:
    assert session._connection is not None
    session._connection.pgconn.send_query(b"COMMIT")
    session._connection.pgconn.flush()
    assert select([session._connection.fileno()], [], [], LONGEST_COMMIT_SECONDS)[0]


@contextmanager
def disk_counted(points: Points) -> Iterator[None]:
    """Every call that changes files is a point."""
    real = {name: getattr(os, name) for name in _CALLS_OF_THE_DISK}

    def counted(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            points.passed(f"os.{name}")
            return real[name](*arguments, **options)

        return call

    for name in real:
        setattr(os, name, counted(name))
    yield
    for name, function in real.items():
        setattr(os, name, function)
