"""The lease holder: the desk's decisions, carried to the authority and back. One task, one call under way."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from tollkeeper.errors import OutcomeUnknown, Unavailable
from tollkeeper.leases import Authority, LeaseRequest
from tollkeeper_sidecar.demand import Demand, Hold
from tollkeeper_sidecar.desk import Desk
from tollkeeper_sidecar.openai_errors import ours
from tollkeeper_sidecar.tasks import Faults, start_task
from tollkeeper_sidecar.waiting import Outcome, Refused, Stale, TooManyWaiting, Waiting

LONGEST_WAIT_SECONDS = 10.0
"""A request that has no answer about its hold by then is told that the fault is ours."""

STOP_SECONDS = 10.0

LISTEN_AGAIN_SECONDS = 1.0


class LeaseHolder:
    """Holds amounts for requests out of leases of one holder. Use as an async context manager."""

    def __init__(
        self,
        holder: str,
        authority: Authority,
        clock: Callable[[], datetime],
        *,
        most_waiting: int = 1024,
        nudge: Callable[[], None] = lambda: None,
    ) -> None:
        self.holder = holder
        self.desk = Desk(holder, most_waiting)
        self._authority = authority
        self._clock = clock
        self._nudge = nudge
        self._futures: dict[Waiting, asyncio.Future[Outcome]] = {}
        self._wake = asyncio.Event()
        self._faults = Faults(
            "the authority does not grant leases: going on with what is leased", "the authority grants leases again"
        )
        self._unheard = Faults(
            "the authority does not say what others are short of", "the authority says again what others are short of"
        )
        self._stopping = False

    async def __aenter__(self) -> "LeaseHolder":
        self._task = start_task(self._run(), "lease-holder")
        self._listening = start_task(self._listen(), "recalls")
        return self

    async def __aexit__(self, *_: object) -> None:
        # A call under way is waited for, not cancelled: what it grants must not be lost.
        self._stopping = True
        self._listening.cancel()
        self._wake.set()
        await asyncio.wait([self._task], timeout=STOP_SECONDS)
        self._task.cancel()

    @property
    def is_running(self) -> bool:
        """Whether the holder can get leases at all."""
        return not (self._task.done() or self._listening.done())

    @property
    def is_reachable(self) -> bool:
        """Whether the authority answered the last call."""
        return not self._faults

    @property
    def fault(self) -> str | None:
        """What nobody foresaw and keeps leases from being granted; it is tried again."""
        return self._faults.unexpected

    async def hold(self, demand: Demand) -> Hold | Refused | Stale:
        """Set amounts aside for a request, at once where leases suffice.

        Raises `RequestRefused` (our fault) when too many wait, or the authority does not answer in time.
        """
        try:
            place = self.desk.arrive(demand, time.monotonic())
        except TooManyWaiting:
            raise ours("too many requests wait for a lease here: try again in a second") from None
        if isinstance(place, Hold):
            if self.desk.is_low:
                self._wake.set()
            return place
        if place.outcome is not None:
            self._tell()
            return place.outcome
        return await self._outcome_of(place)

    def settle(self, hold: Hold, used: Sequence[int]) -> None:
        """A request ended and used so much at each place of its hold; the rest of its hold is free again."""
        self.desk.settle(hold, used, time.monotonic())
        self._tell()

    def booked(self, used: Mapping[str, int]) -> None:
        """The authority booked usage."""
        self.desk.pools.booked(used)

    async def _outcome_of(self, waiting: Waiting) -> Outcome:
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._futures[waiting] = future
        self._wake.set()
        try:
            async with asyncio.timeout(LONGEST_WAIT_SECONDS):
                return await future
        except BaseException as error:
            self._abandon(waiting)
            if isinstance(error, TimeoutError):
                raise ours(
                    f"the authority gave no answer within {LONGEST_WAIT_SECONDS:.0f} s: try again in a second"
                ) from None
            raise

    def _abandon(self, waiting: Waiting) -> None:
        """Nobody takes this outcome any more: what was held for it is free again."""
        self._futures.pop(waiting, None)
        self.desk.give_up(waiting)
        if isinstance(waiting.outcome, Hold):
            self.settle(waiting.outcome, waiting.outcome.unused)

    async def _run(self) -> None:
        while not self._stopping:
            await self._sleep()
            self._wake.clear()
            while (
                not self._stopping and (request := self.desk.next_request(self._clock(), time.monotonic())) is not None
            ):
                await self._ask(request)
                self._tell()

    async def _listen(self) -> None:
        """Hear what others are short of. Whatever that meets, it is tried again: idle leases go back without it as well."""
        while True:
            try:
                accounts = await self._authority.recalled(self.holder)
            except Exception as error:  # noqa: BLE001 - it must outlive any fault, as the calls do
                self._unheard.met(error)
                await asyncio.sleep(LISTEN_AGAIN_SECONDS)
                continue
            self._unheard.overcome()
            self.desk.recalled(accounts, time.monotonic())
            self._wake.set()

    async def _ask(self, request: LeaseRequest) -> None:
        """One call. Whatever it meets, the desk hears of it, and pauses before the next."""
        try:
            reply = await self._authority.lease(request)
        except Exception as error:  # noqa: BLE001 - without leases the gateway refuses all: it must outlive any fault
            self._faults.met(error)
            nothing_done = isinstance(error, Unavailable) and not isinstance(error, OutcomeUnknown)
            self.desk.unavailable(time.monotonic(), nothing_done=nothing_done)
            return
        self._faults.overcome()
        self.desk.answered(reply, self._clock(), time.monotonic())
        if reply.refused:
            # What was used here and is not booked yet may be what the authority's answer lacked.
            self._nudge()

    async def _sleep(self) -> None:
        due = self.desk.next_due(time.monotonic())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(due):
                await self._wake.wait()

    def _tell(self) -> None:
        for waiting in self.desk.resolved:
            future = self._futures.pop(waiting, None)
            if future is not None and not future.done() and waiting.outcome is not None:
                future.set_result(waiting.outcome)
        self.desk.resolved.clear()
