"""The edge of `tollkeeper.recalls`: looks up who has leases, lets holders hear, and looks at the board.

Nothing here keeps a lease call waiting: who has leftovers is looked up, and asked, after the answer that refuses.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice

import structlog

from tollkeeper.leases import RECALL_SECONDS, LeaseReply, LeaseRequest
from tollkeeper.recalls import LOOK_SECONDS, PAUSE_SECONDS, Recalls
from tollkeeper_ledger.storage import RecallBoard

MOST_LOOKED_UP = 1000
"""So many accounts in one question: storages bound how many values it may have."""

LOOK_AGAIN_SECONDS = 1.0

STOP_SECONDS = RECALL_SECONDS
"""How long the end waits for an answer of the database; what comes later is of no use to anybody."""

_mono = time.monotonic

_log = structlog.get_logger("tollkeeper.authority")


HoldersOf = Callable[[Collection[str]], Awaitable[Mapping[str, Collection[str]]]]


class Recalling:
    """The recalls of one authority. `holders_of` looks up who has leases on accounts; `board` is what it shares with others."""

    def __init__(self, holders_of: HoldersOf, board: RecallBoard | None) -> None:
        self._holders_of = holders_of
        self._board = board
        self._recalls = Recalls()
        self._ears: dict[str, asyncio.Event] = {}
        self._to_say = asyncio.Event()
        self._stop = asyncio.Event()
        self._looking_up: asyncio.Task[None] | None = None
        self._at_board: asyncio.Task[None] | None = None
        # The board's own: whoever waits for this authority on the loop's threads must not keep it from looking.
        self._thread = ThreadPoolExecutor(1, "recall-board")

    def start(self) -> None:
        """Begin to look at the board."""
        if self._board is not None:
            self._at_board = asyncio.create_task(self._watch(self._board))

    async def stop(self) -> None:
        """End, in `STOP_SECONDS` at most.

        What is under way at the database by then ends behind this, by itself and within the bounds of any statement there;
        the board is closed after it. Nothing of it is missed: what is not answered within a recall time is made again.
        """
        self._stop.set()
        self._to_say.set()
        under_way = [task for task in (self._at_board, self._looking_up) if task is not None]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await asyncio.gather(*under_way, return_exceptions=True)
        if self._board is not None:
            # On its own thread: it is not for several.
            self._thread.submit(self._board.close)
        self._thread.shutdown(wait=self._at_board is None or not self._at_board.cancelled())

    def answered(self, request: LeaseRequest, reply: LeaseReply) -> LeaseReply:
        """The reply to a call, with the accounts on which others owe an answer."""
        self._recalls.heard(request, reply, _mono())
        self._tell()
        if self._recalls.unknown and (self._looking_up is None or self._looking_up.done()):
            self._looking_up = asyncio.create_task(self._look_up())
        return replace(reply, recalling=self._recalls.awaited(request.holder, reply)) if reply.refused else reply

    async def recalled(self, holder: str) -> Collection[str]:
        """See `Authority`."""
        ear = self._ears[holder] = asyncio.Event()
        try:
            while not (accounts := self._recalls.take(holder)):
                ear.clear()
                await ear.wait()
            return accounts
        finally:
            if self._ears.get(holder) is ear:
                del self._ears[holder]

    def forget(self, holder: str) -> None:
        """A holder has ended."""
        self._recalls.forget(holder)
        self._tell()

    def _tell(self) -> None:
        """Let holders hear what is new; what is for those who do not listen here goes to the board at once."""
        if self._wake() or self._recalls.has_answers:
            self._to_say.set()

    def _wake(self) -> frozenset[str]:
        """Wake the holders that have something to be told; who of them does not listen here."""
        news = self._recalls.news()
        for holder in news & self._ears.keys():
            self._ears[holder].set()
        return news - self._ears.keys()

    async def _look_up(self) -> None:
        """Find out who has leases on accounts that are short."""
        while not self._stop.is_set() and (accounts := frozenset(islice(self._recalls.unknown, MOST_LOOKED_UP))):
            try:
                holders = await self._holders_of(accounts)
            except Exception as error:  # noqa: BLE001 - without a recall whoever was refused only waits less long
                _log.warning("the ledger cannot say who has leftovers", error=str(error))
                self._recalls.not_known(accounts)
            else:
                self._recalls.known(holders)
                self._tell()

    async def _watch(self, board: RecallBoard) -> None:
        faults = 0
        while not self._stop.is_set():
            await _at_most(LOOK_SECONDS, self._to_say)
            self._to_say.clear()
            try:
                await self._look(board)
            except Exception as error:  # noqa: BLE001 - it must outlive any fault, as callers are refused early without it
                faults += 1
                if faults == 1:
                    _log.warning("authorities cannot tell each other who has leftovers", error=str(error))
            else:
                faults = 0
            await _at_most(LOOK_AGAIN_SECONDS if faults else PAUSE_SECONDS, self._stop)

    async def _look(self, board: RecallBoard) -> None:
        posting = self._recalls.posting(self._ears.keys(), _mono())
        stands = await asyncio.get_running_loop().run_in_executor(self._thread, board.exchange, posting)
        self._recalls.looked(posting, stands, _mono())
        self._wake()


async def _at_most(seconds: float, event: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
