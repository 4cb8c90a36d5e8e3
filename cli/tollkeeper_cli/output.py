"""Where a command's results go: standard output, whose reader may leave, or a file that is whole or not there."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tollkeeper_cli.failure import Failed


@contextlib.contextmanager
def standard_output() -> Iterator[BinaryIO]:
    """Standard output for bytes, flushed at the end. Raises `Failed` where there is none."""
    if sys.stdout is None:
        raise Failed("standard output is closed; there is nowhere to write to")
    yield sys.stdout.buffer
    sys.stdout.flush()


@contextlib.contextmanager
def reader_may_leave(remedy: str = "make room, or write somewhere else") -> Iterator[None]:
    """Told as one line where standard output takes no more, and not at all where its reader has had enough (`| head`)."""
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        _discard_the_rest()
    except OSError as error:
        _discard_the_rest()
        raise Failed(f"standard output: {error.strerror}; {remedy}") from error


def _discard_the_rest() -> None:
    # What is buffered goes nowhere, or Python would fail on it at its end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def whole_or_not_at_all(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the name `path` once the block has succeeded; until then what was there stays.

    What is no regular file (a device, a pipe) is written as it is. Raises `Failed` that names `path`.
    """
    target = path.resolve()
    replaces = target.is_file() or not target.exists()
    writing = target.with_name(f".{target.name}.{os.getpid()}.partial") if replaces else target
    try:
        try:
            with writing.open("wb") as file:
                yield file
                file.flush()
                if replaces:
                    os.fsync(file.fileno())
            if replaces:
                writing.replace(target)
        finally:
            if replaces:
                writing.unlink(missing_ok=True)
    except OSError as error:
        raise Failed(f"{path}: it cannot be written ({error.strerror}); make room, or name another file") from error
