"""The watch: Kopf drives one bare event handler for each of our kinds, and nothing else of it is used.

Kopf lives in a thread with an event loop of its own, for two reasons that its source states: on its way out it cancels
every task of its loop that is younger than itself, and in the main thread it takes over SIGINT and SIGTERM. Neither may
happen to the rest of the program. It keeps no state (`on.event` alone writes no annotation and no finalizer), posts no
Events, has no peers. Should it end, it is started again, later each time up to half a minute.
"""

import asyncio
import logging
import threading
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import kopf
import structlog

from tollkeeper_kube.kinds import Kind
from tollkeeper_operator.feed import Raw
from tollkeeper_operator.kopf_session import Connections

LONGEST_PAUSE_SECONDS = 30.0
GOODBYE_SECONDS = 2.0
"""How long connections may take to end when Kopf does; a server that is frozen never answers a goodbye."""

STEADY_SECONDS = 60.0
"""A Kopf that ran this long is forgiven its earlier ends."""

EventType = Literal["ADDED", "MODIFIED", "DELETED"] | None
"""None: the object was listed, not watched; the watch begins, or begins anew."""

Tell = Callable[[str, EventType, Raw], None]

Login = Callable[[], Awaitable[kopf.ConnectionInfo]]
"""Called on the event loop that runs `KopfWatch.run`."""

_log = structlog.get_logger("tollkeeper.operator.watch")


@dataclass(slots=True)
class KopfWatch:
    """Tells of every event of the watched kinds, on the event loop that runs `run`."""

    kinds: tuple[Kind, ...]
    login: Login
    tell: Tell
    restarts: int = 0
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, stop: asyncio.Event) -> None:
        """Watch until `stop`; ends with Kopf's thread ended."""
        loop = asyncio.get_running_loop()
        pause = 1.0
        while not stop.is_set():
            began = loop.time()
            failure = await self._one_life(stop)
            if stop.is_set():
                return
            self.restarts += 1
            pause = 1.0 if loop.time() - began > STEADY_SECONDS else min(pause * 2, LONGEST_PAUSE_SECONDS)
            _log.warning("the watch ended and starts again", error=_line(failure), pause_seconds=pause)
            await _until(stop, pause)

    async def _one_life(self, stop: asyncio.Event) -> BaseException | None:
        """One Kopf from start to end; answers what ended it."""
        life = _Life(asyncio.get_running_loop(), self)
        thread = threading.Thread(target=life.live, name="kopf", daemon=True)
        thread.start()
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait(
                {stopping, asyncio.ensure_future(life.ended.wait())}, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            stopping.cancel()
            life.end()
            await asyncio.shield(life.ended.wait())
            await asyncio.to_thread(thread.join)
        return life.failure


class _Life:
    """One run of Kopf in its thread. Only `live` runs there; everything else belongs to the loop that made it."""

    def __init__(self, home: asyncio.AbstractEventLoop, watch: KopfWatch) -> None:
        self.ended = asyncio.Event()
        self.failure: BaseException | None = None
        self._home = home
        self._watch = watch
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._should_end = threading.Event()
        self._connections = Connections()

    def live(self) -> None:
        try:
            asyncio.run(self._operate())
        except Exception as failure:  # noqa: BLE001 - it is told by the supervisor, which starts Kopf again
            self.failure = failure
        finally:
            # A loop that was closed meanwhile has nobody left who waits.
            with suppress(RuntimeError):
                self._home.call_soon_threadsafe(self.ended.set)

    def end(self) -> None:
        self._should_end.set()
        if self._loop is not None and self._stop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)

    async def _operate(self) -> None:
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if self._should_end.is_set():
            return
        await kopf.operator(
            registry=self._registry(),
            settings=quiet_settings(),
            standalone=True,
            clusterwide=True,
            stop_flag=self._stop,
        )
        await self._connections.closed(GOODBYE_SECONDS)

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry, id="kubeconfig")(self._login)
        for kind in self._watch.kinds:
            # The core group has no name in Kopf's selectors either: its kinds go by version and plural alone.
            route = (kind.group, kind.version, kind.plural) if kind.group else (kind.version, kind.plural)
            kopf.on.event(*route, registry=registry, id=kind.name)(self._handler(kind.name))
        return registry

    async def _login(self, **_: Any) -> kopf.AiohttpSession:
        asked: Coroutine[Any, Any, kopf.ConnectionInfo] = _awaiting(self._watch.login)
        return self._connections.open(await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asked, self._home)))

    def _handler(self, kind: str) -> Callable[..., Any]:
        async def heard(event: Mapping[str, Any], **_: Any) -> None:
            self._home.call_soon_threadsafe(self._watch.tell, kind, event["type"], event["object"])

        return heard


def quiet_settings() -> kopf.OperatorSettings:
    """Kopf that only watches: no Events, no kill of the process, short waits on its way out."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.process.ultimate_exiting_timeout = None
    settings.queueing.exit_timeout = 1.0
    settings.networking.request_timeout = 30.0
    settings.networking.connect_timeout = 10.0
    settings.networking.error_backoffs = (0.25, 0.5, 1, 2, 2, 5, 5, 5)
    return settings


class ToStructlog(logging.Handler):
    """Takes what Kopf logs into our log, from warnings up, as warnings: whether it matters, our own parts say.

    Left out: that it does not handle signals (it must not), and each failed attempt at a request (the listings of
    `watches` meet the same failure and tell of it once).
    """

    _EXPECTED = ("OS signals are ignored", "Request attempt ")

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, its traceback shortened to the exception's own line."""
        message = record.getMessage()
        if message.startswith(self._EXPECTED):
            return
        error = _line(record.exc_info[1]) if record.exc_info else None
        _log.warning(message, source=record.name, **({"error": error} if error else {}))


def quieten() -> None:
    """Send Kopf's own log into ours; called once for a process, twice does no harm."""
    logger = logging.getLogger("kopf")
    if not any(isinstance(handler, ToStructlog) for handler in logger.handlers):
        logger.addHandler(ToStructlog(level=logging.WARNING))
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    warnings.filterwarnings("ignore", module=r"kopf\..*")


async def _awaiting(login: Login) -> kopf.ConnectionInfo:
    return await login()


def _line(failure: BaseException | None) -> str:
    return "it ended by itself" if failure is None else " ".join(f"{type(failure).__name__}: {failure}".split())


async def _until(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
