"""Reporting: settled records from here to the authority, in batches, until they are booked (I2, H4).

Whatever the authority answers, reporting goes on. A record that it cannot book is found (see `delivery`) and set aside:
it is never dropped, is tried again after pauses that grow to a bound, and holds up nobody. With each report goes how much
was settled in all since the start, so that the ledger knows of what waits here too (`tollkeeper.counters`).
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import islice

import structlog

from tollkeeper.counters import Counters, Tally, tally_of
from tollkeeper.errors import Unavailable
from tollkeeper.leases import Authority
from tollkeeper.usage import UsageRecord
from tollkeeper_sidecar.delivery import LARGEST_REPORT, deliver
from tollkeeper_sidecar.errors import SpoolError
from tollkeeper_sidecar.spool import Spool
from tollkeeper_sidecar.tasks import Faults, start_task

AT_ONCE = 100
"""So many records are reported without waiting for more."""

FIRST_BACKOFF_SECONDS = 0.25
LONGEST_BACKOFF_SECONDS = 5.0

FIRST_RETRY_SECONDS = 5.0
LONGEST_RETRY_SECONDS = 60.0
"""After so long what was set aside is tried again."""

_log = structlog.get_logger("tollkeeper.gateway")


class Reporter:
    """Takes settled records to disk and to the authority. Use as an async context manager.

    `booked` is told each batch that the authority has. A record that could not be written to the spool is kept in memory,
    written again with each round, and reported all the same. What is set aside does not keep the spool from being freed.
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
        self._aside: dict[str, UsageRecord] = {}
        self._retry_at = 0.0
        self._retry_pause = FIRST_RETRY_SECONDS
        self._not_on_disk: dict[str, UsageRecord] = {}
        self._any = asyncio.Event()
        self._now = asyncio.Event()
        self._stopping = False
        self._settled = self._telling = self._told = Tally()
        """All since the start: as it is, as the report under way has it, and as the authority has it."""
        self._failures = 0
        self._faults = Faults(
            "usage waits in the spool: the authority does not take it", "the authority takes usage again"
        )
        self._odd = Faults(
            "a settled request is set aside: the authority cannot book it, and is asked again from time to time",
            "what was set aside is booked",
        )
        self._uncounted = Faults(
            "the authority does not take how much was settled", "the authority knows how much was settled"
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
        """Records that are not booked yet, those set aside among them."""
        return len(self._waiting) + len(self._aside)

    @property
    def oldest(self) -> datetime | None:
        """When the oldest record's request ended, of those that are not booked yet."""
        first = (*islice(self._waiting, 1), *self._aside.values())
        return min((record.finished_at for record in first), default=None)

    @property
    def set_aside(self) -> int:
        """Records that the authority answered it cannot book."""
        return len(self._aside)

    @property
    def not_on_disk(self) -> int:
        """Records that are in memory alone, because the disk did not take them."""
        return len(self._not_on_disk)

    @property
    def is_working(self) -> bool:
        """Whether the reporter runs."""
        return not self._task.done()

    def add(self, record: UsageRecord) -> bool:
        """Take a settled record; true when the spool has it, so that it can be made durable."""
        self._waiting.append(record)
        self._settled = self._settled.plus(tally_of((record,)))
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
        return not late and not self.waiting

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
            if not self.waiting and not self._stopping:
                self._any.clear()
        await self._report(last=True)

    def _pause(self) -> float:
        if self._failures:
            self._now.clear()
            return min(FIRST_BACKOFF_SECONDS * 2.0 ** min(self._failures - 1, 10), LONGEST_BACKOFF_SECONDS)
        return self._every

    async def _report(self, *, last: bool = False) -> None:
        """Report batch after batch while the authority takes them, and what is set aside when its time has come."""
        try:
            while batch := list(islice(self._waiting, LARGEST_REPORT)):
                await deliver(self._authority, batch, self._taken, self._put_aside, self._counters())
            if self._aside and (last or time.monotonic() >= self._retry_at):
                await self._retry()
            if self._told != self._settled:
                await self._tell()
        except Unavailable as error:
            self._failures += 1
            self._faults.met(error)

    def _counters(self) -> Counters:
        self._telling = self._settled
        return self._telling.settled_by(self._spool.holder)

    async def _tell(self) -> None:
        """Tell what was settled, where no report was taken that did: all of it may have been set aside."""
        try:
            await self._authority.report((), self._counters())
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - usage must go on to be booked, whatever keeps its count from being
            self._uncounted.met(error)
        else:
            self._told = self._telling
            self._uncounted.overcome()

    def _taken(self, batch: Sequence[UsageRecord]) -> None:
        for _ in batch:
            self._waiting.popleft()
        self._are_booked(batch)

    def _put_aside(self, record: UsageRecord, error: Exception) -> None:
        self._waiting.popleft()
        self._answered()
        if not self._aside:
            self._wait_to_retry(FIRST_RETRY_SECONDS)
        self._aside[record.id] = record
        self._odd.met(error, request=record.id)

    async def _retry(self) -> None:
        """Try what is set aside again, until of so many nothing is taken; those wait behind the others from then on."""
        self._wait_to_retry(min(2 * self._retry_pause, LONGEST_RETRY_SECONDS))
        left = tuple(self._aside.values())
        for start in range(0, len(left), AT_ONCE):
            batch = left[start : start + AT_ONCE]
            await deliver(self._authority, batch, self._taken_at_last, self._put_behind, self._counters())
            refused = [record for record in batch if record.id in self._aside]
            await self._move_on(refused)
            if len(refused) == len(batch):
                return
        if not self._aside:
            self._odd.overcome()

    def _put_behind(self, record: UsageRecord, _: Exception) -> None:
        self._aside[record.id] = self._aside.pop(record.id)

    def _taken_at_last(self, batch: Sequence[UsageRecord]) -> None:
        for record in batch:
            del self._aside[record.id]
        self._are_booked(batch)

    def _wait_to_retry(self, seconds: float) -> None:
        self._retry_pause = seconds
        self._retry_at = time.monotonic() + seconds

    def _answered(self) -> None:
        self._failures = 0
        self._faults.overcome()

    def _are_booked(self, batch: Sequence[UsageRecord]) -> None:
        self._answered()
        self._told = self._telling
        for record in batch:
            self._not_on_disk.pop(record.id, None)
        self._booked(batch)
        self._free_files(record.id for record in batch)

    def _free_files(self, booked: Iterable[str]) -> None:
        try:
            self._spool.booked(booked)
        except OSError as error:
            # What is in them was booked: reporting it again after a start books nothing twice.
            self._files.met(error)
        else:
            self._files.overcome()

    async def _move_on(self, refused: Sequence[UsageRecord]) -> None:
        """Let no record that is set aside keep whole files of booked ones: the spool has a bound."""
        try:
            await self._spool.move_on([one for one in refused if one.id not in self._not_on_disk])
        except (SpoolError, OSError) as error:
            self._files.met(error)
