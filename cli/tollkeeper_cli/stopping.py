"""Ending in order: the first signal asks for it, a second one ends at once, and so does time.

What is served may be ended at any point: what counts is on disk before it is answered, and the next start books it.
"""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

LONGEST_SECONDS: Final = 60.0
"""After this long an end in order is given up."""


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set `stop` at SIGTERM, Ctrl-C, or SIGHUP (a closed terminal; `nohup` keeps it ignored).

    From then on a signal ends the process at once, and `LONGEST_SECONDS` later it ends in any case, with exit code 1.
    """
    loop = asyncio.get_running_loop()
    hanging_up = () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)
    signals = (signal.SIGTERM, signal.SIGINT, *hanging_up)

    def ask() -> None:
        stop.set()
        for number in signals:
            loop.remove_signal_handler(number)
            # Not Python's own: an exception in the middle of an end would leave it half done, and still waiting.
            signal.signal(number, signal.SIG_DFL)
        late = threading.Timer(LONGEST_SECONDS, _give_up)
        late.daemon = True
        late.start()

    for number in signals:
        loop.add_signal_handler(number, ask)


def _give_up() -> None:
    sys.stderr.write(f"Error: not ended in order within {LONGEST_SECONDS:.0f} s; the next start books what is left\n")
    os._exit(1)


@asynccontextmanager
async def unless(stop: asyncio.Event) -> AsyncIterator[None]:
    """Leave the block, wherever it waits, when `stop` is set; what it had begun is cancelled."""
    loop = asyncio.get_running_loop()
    asked = asyncio.create_task(stop.wait())
    try:
        async with asyncio.timeout(None) as block:

            def leave(_: object) -> None:
                block.reschedule(loop.time())

            asked.add_done_callback(leave)
            try:
                yield
            finally:
                asked.remove_done_callback(leave)
                asked.cancel()
    except TimeoutError:
        if not stop.is_set():
            raise
