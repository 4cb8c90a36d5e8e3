"""The spool: what this gateway holds and what was used, on disk before anybody relies on it (I2).

- A hold is written before its request is passed on: a plain write, which survives the end of the process.
- A settled record is durable (`durable`: one fdatasync for all that wait) before the answer's last byte is relayed.
- Files are cut at a size. A new file begins with the holds that are open, so that older ones are needed only for their
  records; they are deleted, oldest first, once all of those are booked.
- All files together have a bound. Beyond it nothing new is held: requests are refused, never lost.

Each holder has a folder of its own, locked while it lives.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import shutil
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tollkeeper.usage import UsageRecord
from tollkeeper_sidecar import spool_format as lines
from tollkeeper_sidecar.errors import SpoolError, SpoolFull

LOCK_NAME = "lock"
SUFFIX = ".spool"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(slots=True)
class _Segment:
    """One file: its size, and the records in it that are not booked yet."""

    path: Path
    descriptor: int
    size: int = 0
    unbooked: set[str] = field(default_factory=set)


class Spool:
    """The spool of one holder. All methods but `durable` are synchronous and short; call them from one thread.

    Raises `SpoolFull` when the bound or the disk is reached, `SpoolError` for any other failure of the disk.
    """

    def __init__(self, directory: Path, holder: str, boot: str, *, largest: int, segment: int) -> None:
        self.holder = holder
        self._directory = directory / holder
        self._boot = boot
        self._largest = largest
        self._segment_bytes = segment
        self._holds: dict[str, Mapping[str, int]] = {}
        self._where: dict[str, _Segment] = {}
        self._segments: deque[_Segment] = deque()
        self._retired: list[int] = []
        self._written = self._synced = 0
        self._syncing: asyncio.Task[None] | None = None
        self.fault: str | None = None
        """Why the last line could not be written; None since one could."""
        self._disk = ThreadPoolExecutor(1, "spool")
        try:
            self._directory.mkdir(parents=True)
            self._lock = lock(self._directory)
            self._begin_segment()
        except OSError as error:
            raise self._failed(error) from error

    @property
    def size(self) -> int:
        """Bytes in all files."""
        return sum(segment.size for segment in self._segments)

    @property
    def unbooked(self) -> int:
        """Settled records that are on disk and not booked yet."""
        return len(self._where)

    @property
    def open_holds(self) -> int:
        """Requests that hold something."""
        return len(self._holds)

    def hold(self, request: str, amounts: Mapping[str, int]) -> None:
        """Write down what a request is about to hold; nothing is written when it fails."""
        if self.size >= self._largest:
            raise SpoolFull(
                f"spool {self._directory} holds {self.size} bytes, its bound is {self._largest}: "
                "the authority does not take usage; see that it can be reached"
            )
        self._write(lines.hold_line(request, amounts))
        self._holds[request] = amounts

    def void(self, request: str) -> None:
        """A request used nothing. If that cannot be written its hold stays open on disk, which errs on the safe side."""
        self._holds.pop(request, None)
        self._write(lines.void_line(request))

    def settle(self, record: UsageRecord) -> None:
        """Write a settled record; `durable` makes it last."""
        self._write(lines.used_line(record))
        self._holds.pop(record.id, None)
        self._segments[-1].unbooked.add(record.id)
        self._where[record.id] = self._segments[-1]

    async def durable(self) -> None:
        """Return once all that was written before the call is on the disk. Raises `SpoolError`."""
        target = self._written
        while self._synced < target:
            if self._syncing is None:
                self._syncing = asyncio.create_task(self._sync())
            await asyncio.shield(self._syncing)

    def booked(self, requests: Iterable[str]) -> None:
        """The authority has these records; files that are not needed any more go.

        A record that could not be written down here has an open hold still: it ends now.
        """
        for request in requests:
            if self._where.pop(request, None):
                for segment in self._segments:
                    segment.unbooked.discard(request)
            elif request in self._holds:
                with contextlib.suppress(SpoolError):
                    self.void(request)
        while len(self._segments) > 1 and not self._segments[0].unbooked:
            self._segments.popleft().path.unlink(missing_ok=True)

    async def move_on(self, records: Sequence[UsageRecord]) -> None:
        """Write records that stay unbooked down once more, in the newest file, so that older ones can go.

        Raises `SpoolError`; each record is in one file at least then, which stays.
        """
        for record in records:
            if self._where.get(record.id, self._segments[-1]) is not self._segments[-1]:
                self.settle(record)
        await self.durable()
        moved = {record.id for record in records}
        for segment in self._segments:
            segment.unbooked -= {request for request in moved if self._where.get(request, segment) is not segment}
        self.booked(())

    async def close(self, *, finished: bool) -> None:
        """Let go of the files; `finished`: nothing in them is needed, so they are deleted."""
        if self._syncing is not None:
            await asyncio.wait([self._syncing])
        self._disk.shutdown()
        if finished:
            shutil.rmtree(self._directory, ignore_errors=True)
        for descriptor in (*self._retired, self._segments[-1].descriptor, self._lock):
            os.close(descriptor)

    def _write(self, line: bytes) -> None:
        try:
            if self._segments[-1].size + len(line) > self._segment_bytes and self._segments[-1].size > len(line):
                self._begin_segment()
            self._append(self._segments[-1], line)
        except OSError as error:
            raise self._failed(error) from error
        self.fault = None

    def _append(self, segment: _Segment, line: bytes) -> None:
        written = os.write(segment.descriptor, line)
        if written != len(line):
            # The disk took a part only. A part of a line would hide all that follows it, so it is cut off again.
            os.ftruncate(segment.descriptor, segment.size)
            raise OSError(errno.ENOSPC, "No space left on device")
        segment.size += written
        self._written += written

    def _begin_segment(self) -> None:
        """Start a file with the holds that are open. The one before it is synced with the next `durable`."""
        number = int(self._segments[-1].path.stem) + 1 if self._segments else 1
        path = self._directory / f"{number:08d}{SUFFIX}"
        opening = lines.head_line(self.holder, self._boot)
        opening += b"".join(lines.hold_line(request, amounts) for request, amounts in self._holds.items())
        segment = _Segment(path, os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600))
        try:
            self._append(segment, opening)
            _sync_directory(self._directory)
        except OSError:
            os.close(segment.descriptor)
            path.unlink(missing_ok=True)
            raise
        if self._segments:
            self._retired.append(self._segments[-1].descriptor)
        self._segments.append(segment)

    async def _sync(self) -> None:
        mark, retired = self._written, tuple(self._retired)
        try:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._disk, _sync_all, (*retired, self._segments[-1].descriptor))
            self._synced = mark
            for descriptor in retired:
                self._retired.remove(descriptor)
                os.close(descriptor)
        except OSError as error:
            raise self._failed(error) from error
        finally:
            self._syncing = None

    def _failed(self, error: OSError) -> SpoolError:
        kind = SpoolFull if error.errno in _NO_ROOM else SpoolError
        self.fault = (
            f"spool {self._directory}: {error.strerror or error}: free space there, or name another data folder"
        )
        return kind(self.fault)


def lock(directory: Path) -> int:
    """Own a holder's folder until the descriptor is closed. Raises `BlockingIOError` while another process does."""
    descriptor = os.open(directory / LOCK_NAME, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _sync_all(descriptors: tuple[int, ...]) -> None:
    for descriptor in descriptors:
        os.fdatasync(descriptor)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, descriptor)
        os.fsync(descriptor)
