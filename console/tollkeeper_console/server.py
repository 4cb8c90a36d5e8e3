"""The console as a server: started, found at its address, stopped."""

import asyncio
import errno
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from aiohttp import web

from tollkeeper.policy import CurrentPolicy
from tollkeeper.views import LedgerReader
from tollkeeper_console.app import Site
from tollkeeper_console.errors import ConsoleError
from tollkeeper_console.events import EventHub
from tollkeeper_console.queries import Queries, utc_now
from tollkeeper_console.settings import ConsoleSettings

READERS = 4
STOP_SECONDS = 3.0

Subscribe = Callable[[Callable[[frozenset[str]], None]], Callable[[], None]]
"""Be told, from any thread, which accounts changed after each commit; the answer ends it (`Books.subscribe`)."""


@dataclass(frozen=True, slots=True)
class RunningConsole:
    """A console that answers; `url` ends without a slash."""

    url: str


class Console:
    """One console over a ledger and a policy. `start` and `stop` once each, on one event loop."""

    def __init__(
        self,
        settings: ConsoleSettings,
        reader: LedgerReader,
        policy: CurrentPolicy,
        subscribe: Subscribe,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._settings = settings
        self._queries = Queries(reader, policy, clock)
        self._policy = policy
        self._subscribe = subscribe
        self._readers = ThreadPoolExecutor(READERS, "console-reader")
        self._runner: web.AppRunner | None = None
        self._hub: EventHub | None = None
        self._unsubscribe: Callable[[], None] | None = None

    async def start(self) -> RunningConsole:
        """Listen. Raises `ConsoleError` when the port is taken or the address is not this machine's."""
        settings = self._settings
        self._hub = EventHub(asyncio.get_running_loop(), settings.refresh_seconds)
        site = Site(self._queries, settings.page_size, self._hub, self._readers)
        self._runner = web.AppRunner(
            site.application(), access_log=None, handle_signals=False, shutdown_timeout=STOP_SECONDS
        )
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, settings.host, settings.port).start()
        except OSError as error:
            await self.stop()
            raise ConsoleError(_why_not(settings, error)) from error
        self._policy.changed.add(self._hub.policy_changed)
        self._unsubscribe = self._subscribe(self._hub.accounts_changed)
        host, port = self._runner.addresses[0][:2]
        return RunningConsole(f"http://{f'[{host}]' if ':' in host else host}:{port}")

    async def stop(self) -> None:
        """End live pages, then the server, then the reading threads."""
        if self._unsubscribe:
            self._unsubscribe()
        if self._hub:
            self._policy.changed.discard(self._hub.policy_changed)
            self._hub.close()
        if self._runner:
            await self._runner.cleanup()
        self._readers.shutdown()


def _why_not(settings: ConsoleSettings, error: OSError) -> str:
    where = f"{settings.host}:{settings.port}"
    if error.errno == errno.EADDRINUSE:
        return f"the console cannot listen on {where}: the port is taken; name a free one (--console-port, 0 takes any)"
    return f"the console cannot listen on {where}: {error.strerror or error}"
