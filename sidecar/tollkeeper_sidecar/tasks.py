"""Background tasks that never end in silence, and the faults that they outlive."""

import asyncio
import traceback
from collections.abc import Coroutine
from typing import Any

import structlog

from tollkeeper.errors import Unavailable

_log = structlog.get_logger("tollkeeper.gateway")


def start_task(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """Run `work` beside the rest; when it fails, say so. Health and readiness look at the task itself."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_tell_failure)
    return task


def _tell_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.critical("a part of the gateway ended: it is not ready any more", part=task.get_name(), error=repr(error))


class Faults:
    """What keeps one part from its work, for as long as it does: each kind of fault is logged once until work succeeds.

    `unexpected` says what is wrong that nobody foresaw, while it is: anything but `Unavailable`, which heals by itself.
    """

    def __init__(self, lost: str, found: str) -> None:
        self._lost = lost
        self._found = found
        self._kinds: set[type[Exception]] = set()
        self.unexpected: str | None = None

    def __bool__(self) -> bool:
        return bool(self._kinds)

    def met(self, error: Exception, **where: str) -> None:
        """The work failed; whoever does it tries again, after a pause that grows to a bound. `where` is told with it."""
        foreseen = isinstance(error, Unavailable)
        self.unexpected = None if foreseen else f"{self._lost}: {error!r}"
        if type(error) in self._kinds:
            return
        self._kinds.add(type(error))
        if foreseen:
            _log.warning(self._lost, error=str(error), **where)
        else:
            _log.error(self._lost, error=repr(error), at=_place_of(error), **where)

    def overcome(self) -> None:
        """The work succeeded."""
        if self._kinds:
            _log.info(self._found)
        self._kinds.clear()
        self.unexpected = None


def _place_of(error: Exception) -> str:
    """Where an error was raised, in one line."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].name}, {frames[-1].filename}:{frames[-1].lineno}" if frames else "unknown"
