"""Reporting: settled records from here to the authority, in batches, until they are booked (I2, H4).

Whatever the authority answers, reporting goes on. A record that it cannot book for a reason that nobody foresaw is
found by halving the batch, and waits behind all others: it is never dropped, and holds up nobody.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

import structlog

from tollkeeper.errors import Unavailable
from tollkeeper.leases import Authority
from tollkeeper.usage import UsageRecord
from tollkeeper_sidecar.errors import SpoolError
from tollkeeper_sidecar.spool import Spool
from tollkeeper_sidecar.tasks import Faults, start_task

LARGEST_BATCH = 500
AT_ONCE = 100
"""So many records are reported without waiting for more."""

FIRST_BACKOFF_SECONDS = 0.25
LONGEST_BACKOFF_SECONDS = 5.0

_log = structlog.get_logger("tollkeeper.gateway")


class Reporter:
    """Takes settled records to disk and to the authority. Use as an async context manager.

    `booked` is told each batch that the authority has. A record that could not be written to the spool is kept in memory,
    written again with each round, and reported all the same.
    """

    def __init__(
        self,
        authority: Authority,
        spool: Spool,
        booked: Callable[[Sequence[UsageRecord]], None],
        *,
        every_seconds: float,
    ) -> None:
        self._authority = authority
        self._spool = spool
        self._booked = booked
        self._every = every_seconds
        self._waiting: deque[UsageRecord] = deque()
        self._not_on_disk: dict[str, UsageRecord] = {}
        self._any = asyncio.Event()
        self._now = asyncio.Event()
        self._stopping = False
        self._failures = 0
        self._at_most = LARGEST_BATCH
        self._faults = Faults(
            "usage waits in the spool: the authority does not take it", "the authority takes usage again"
        )
        self._files = Faults("files of the spool that are not needed any more stay", "the spool's files go again")

    async def __aenter__(self) -> "Reporter":
        self._task = start_task(self._run(), "reporter")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def waiting(self) -> int:
        """Records that are not booked yet."""
        return len(self._waiting)

    @property
    def not_on_disk(self) -> int:
        """Records that are in memory alone, because the disk did not take them."""
        return len(self._not_on_disk)

    @property
    def is_working(self) -> bool:
        """Whether the reporter runs."""
        return not self._task.done()

    @property
    def fault(self) -> str | None:
        """What nobody foresaw and keeps usage from being booked; it is tried again."""
        return self._faults.unexpected

    def add(self, record: UsageRecord) -> bool:
        """Take a settled record; true when the spool has it, so that it can be made durable."""
        self._waiting.append(record)
        self._any.set()
        if len(self._waiting) >= AT_ONCE:
            self._now.set()
        return self._write(record)

    def nudge(self) -> None:
        """Report what there is without waiting for more."""
        if self._waiting:
            self._now.set()

    async def finish(self, seconds: float) -> bool:
        """Report all there is, for so long at most; true when nothing is left. No record may be added after."""
        self._stopping = True
        self._any.set()
        self._now.set()
        _, late = await asyncio.wait([self._task], timeout=seconds)
        return not late and not self._waiting

    def _write(self, record: UsageRecord) -> bool:
        try:
            self._spool.settle(record)
        except SpoolError as error:
            if record.id not in self._not_on_disk:
                _log.error(
                    "a settled request is in memory alone until it is reported", request=record.id, error=str(error)
                )
            self._not_on_disk[record.id] = record
            return False
        self._not_on_disk.pop(record.id, None)
        return True

    async def _run(self) -> None:
        while self._waiting or not self._stopping:
            await self._any.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._now.wait()
            self._now.clear()
            for record in tuple(self._not_on_disk.values()):
                self._write(record)
            await self._report()
            if not self._waiting and not self._stopping:
                self._any.clear()

    def _pause(self) -> float:
        if self._failures:
            self._now.clear()
            return min(FIRST_BACKOFF_SECONDS * 2.0 ** min(self._failures - 1, 10), LONGEST_BACKOFF_SECONDS)
        return self._every

    async def _report(self) -> None:
        """Report batch after batch while the authority takes them."""
        while batch := list(islice(self._waiting, self._at_most)):
            try:
                await self._authority.report(batch)
            except Exception as error:  # noqa: BLE001 - usage must go on to be booked, whatever one record holds
                self._not_taken(batch, error)
                return
            self._taken(batch)

    def _taken(self, batch: Sequence[UsageRecord]) -> None:
        self._failures = 0
        self._at_most = min(2 * self._at_most, LARGEST_BATCH)
        for record in batch:
            self._waiting.popleft()
            self._not_on_disk.pop(record.id, None)
        if not self._waiting or self._at_most == LARGEST_BATCH:
            # Until then a record that was set aside waits still, and the fault with it.
            self._faults.overcome()
        self._booked(batch)
        try:
            self._spool.booked(record.id for record in batch)
        except OSError as error:
            # What is in them was booked: reporting it again after a start books nothing twice.
            self._files.met(error)
        else:
            self._files.overcome()

    def _not_taken(self, batch: Sequence[UsageRecord], error: Exception) -> None:
        self._failures += 1
        self._faults.met(error)
        if isinstance(error, Unavailable):
            return
        if len(batch) == 1:
            self._waiting.rotate(-1)
        self._at_most = max(1, len(batch) // 2)
