"""Live: which limits changed, told to every open page by server-sent events, at most once a second each.

An event says what changed, not to what: pages ask again, so that an event that is lost costs nothing. What waits for a
page is a set of limits, which is bounded by the policy.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tollkeeper.errors import Unavailable

EVERYTHING = "*"
MOST_LISTENERS = 100
QUIET_SECONDS = 15.0
"""After so long without news a page is told the time passed: rates and countdowns move without usage too."""


class Listener:
    """One open page."""

    def __init__(self) -> None:
        self.pending: set[str] = set()
        self.woken = asyncio.Event()


class EventHub:
    """Takes changes from any thread and hands them to listeners on its event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, refresh_seconds: float) -> None:
        self._loop = loop
        self._refresh_seconds = refresh_seconds
        self._listeners: set[Listener] = set()
        self._closed = False

    def accounts_changed(self, accounts: frozenset[str]) -> None:
        """Tell the pages of these accounts' limits. Safe from any thread, and after the loop has ended."""
        # An account's text is its limit's, a slash, its key and its window; none of the parts holds a slash.
        self._tell({account.rpartition("/")[0] for account in accounts})

    def policy_changed(self) -> None:
        """Tell all pages."""
        self._tell({EVERYTHING})

    def _tell(self, changed: set[str]) -> None:
        if changed and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._add, changed)

    def _add(self, changed: set[str]) -> None:
        for listener in self._listeners:
            listener.pending |= changed
            listener.woken.set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Listener]:
        """A place among the listeners. Raises `Unavailable` when all are taken."""
        if len(self._listeners) >= MOST_LISTENERS:
            raise Unavailable(f"{MOST_LISTENERS} pages are live already: close one, or reload this page to see news")
        listener = Listener()
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    async def messages(self, listener: Listener) -> AsyncIterator[bytes]:
        """What to write to one page, until the console stops."""
        yield b"retry: 2000\nevent: hello\ndata: {}\n\n"
        while not self._closed:
            try:
                await asyncio.wait_for(listener.woken.wait(), QUIET_SECONDS)
            except TimeoutError:
                yield b"event: tick\ndata: {}\n\n"
                continue
            changed, listener.pending = listener.pending, set()
            listener.woken.clear()
            if changed:
                yield b"event: changed\ndata: " + json.dumps({"limits": sorted(changed)}).encode() + b"\n\n"
                # The pause that coalesces: what changes meanwhile goes out together.
                await asyncio.sleep(self._refresh_seconds)

    def close(self) -> None:
        """End all streams."""
        self._closed = True
        for listener in self._listeners:
            listener.woken.set()
