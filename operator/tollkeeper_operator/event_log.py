"""Events: notices written where `kubectl describe` shows them, each once, at a bounded rate.

An Event's name is made of its object and its notice's identity, so a notice that is told twice, by a restarted operator
too, is refused by the API server as existing already. One of a series is counted there instead, as client-go's recorder
does: `count` grows, `lastTimestamp` and message are the newest. A write that is not answered is looked for before it is done
again, so that it counts once. What exceeds the rate or cannot be written is dropped, counted in the metrics, and said to
whoever told it: Events are for people, the status is the truth.
"""

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import structlog

from tollkeeper.conditions import to_second
from tollkeeper.notices import Notice
from tollkeeper_kube import AlreadyExists, ApiUnreachable, Conflict, Kube, KubeError, NotFound
from tollkeeper_kube.kinds import EVENT
from tollkeeper_operator.feed import Raw
from tollkeeper_operator.metrics import Metrics

COMPONENT = "tollkeeper"
BURST = 100
PER_SECOND = 10.0
LONGEST_MESSAGE = 1024
ATTEMPTS = 3
_NAME_LENGTH = 200
_UNTOLD = frozenset({"dropped", "refused"})

_log = structlog.get_logger("tollkeeper.operator.events")


class Ended(Protocol):
    """Who wants to hear what became of a notice."""

    def __call__(self, notice: Notice, *, told: bool) -> None:
        """It was told, or not as far as is known."""


def _forgotten(notice: Notice, *, told: bool) -> None:
    """What is not told does not matter any more."""


@dataclass(frozen=True, slots=True)
class _Told:
    """What tells one writing of an Event from another one."""

    count: int
    last: str
    message: str


@dataclass(slots=True)
class EventLog:
    """Takes notices and writes them one after the other while `run` runs; at most `BURST` wait."""

    kube: Kube
    metrics: Metrics
    instance: str = COMPONENT
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    _waiting: deque[tuple[Notice, dict[str, Any], Ended]] = field(default_factory=deque)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _allowance: float = BURST
    _refilled: float = field(default_factory=time.monotonic)

    def tell(self, notice: Notice, about: Raw, now: datetime, ended: Ended = _forgotten) -> None:
        """Have a notice written as an Event about an object; `ended` is told once whether it was, as far as is known."""
        if len(self._waiting) >= BURST or not self._permitted():
            self._end(notice, "dropped", ended)
            return
        self._waiting.append((notice, event_of(notice, about, now, self.instance), ended))
        self._wake.set()

    async def run(self) -> None:
        """Write what waits, for ever; cancel it to end."""
        while True:
            while not self._waiting:
                self._wake.clear()
                await self._wake.wait()
            notice, manifest, ended = self._waiting.popleft()
            self._end(notice, await self._write(notice, manifest), ended)

    def _end(self, notice: Notice, result: str, ended: Ended) -> None:
        self.metrics.events.labels(notice.reason, result).inc()
        ended(notice, told=result not in _UNTOLD)

    async def _write(self, notice: Notice, manifest: dict[str, Any]) -> str:
        """Write one notice; what became of it. Each try begins with how the Event stands by then."""
        unanswered: list[_Told] = []
        result = "dropped"
        for attempt in range(ATTEMPTS):
            try:
                if done := await self._try(notice, manifest, unanswered):
                    return done
            except ApiUnreachable:
                await self.pause(2**attempt)
            except KubeError as fault:
                _log.warning("an Event was refused", reason=manifest["reason"], error=str(fault))
                result = "refused"
                break
        return "counted" if unanswered and await self._shows(manifest, unanswered) else result

    async def _try(self, notice: Notice, manifest: dict[str, Any], unanswered: list[_Told]) -> str | None:
        """What became of one try; None where the Event went, or was counted elsewhere, in the middle of it."""
        try:
            with _noting(unanswered, manifest):
                await self.kube.create(manifest)
        except AlreadyExists:
            return "known" if notice.times is None else await self._count(notice, notice.times, manifest, unanswered)
        return "written"

    async def _count(self, notice: Notice, times: int, manifest: dict[str, Any], unanswered: list[_Told]) -> str | None:
        """Count a notice in the Event that tells its series, once: it may be gone (Events go after an hour), and what was
        sent without an answer may stand there. A write that arrives late finds another version, and is refused."""
        stands = await self._find(manifest)
        if stands is None:
            return None
        if _told(stands) in unanswered:
            return "counted"
        count = int(stands.get("count") or 1) + times
        newest = {"count": count, "lastTimestamp": manifest["lastTimestamp"], "message": _short(notice.says(count))}
        name, namespace = manifest["metadata"]["name"], manifest["metadata"]["namespace"]
        version = {"resourceVersion": stands["metadata"]["resourceVersion"]}
        try:
            with _noting(unanswered, newest):
                await self.kube.patch(EVENT, name, {"metadata": version, **newest}, namespace)
        except (NotFound, Conflict):
            return None
        return "counted"

    async def _shows(self, manifest: dict[str, Any], unanswered: Sequence[_Told]) -> bool:
        """Whether one of the writes without an answer was done, as far as can be told."""
        try:
            stands = await self._find(manifest)
        except KubeError:
            return False
        return stands is not None and _told(stands) in unanswered

    async def _find(self, manifest: dict[str, Any]) -> dict[str, Any] | None:
        return await self.kube.find(EVENT, manifest["metadata"]["name"], manifest["metadata"]["namespace"])

    def _permitted(self) -> bool:
        now = time.monotonic()
        self._allowance = min(BURST, self._allowance + (now - self._refilled) * PER_SECOND)
        self._refilled = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True


def event_of(notice: Notice, about: Raw, now: datetime, instance: str) -> dict[str, Any]:
    """The Event of a notice. Objects of the whole cluster have theirs in the namespace `default`, as Kubernetes wants it."""
    metadata = about["metadata"]
    namespace = metadata.get("namespace")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": event_name(notice, metadata), "namespace": namespace or "default"},
        "involvedObject": {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "name": metadata["name"],
            "uid": metadata.get("uid", ""),
            **({"namespace": namespace} if namespace else {}),
        },
        "type": notice.type,
        "reason": str(notice.reason),
        "message": _short(notice.says(notice.times or 1)),
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": instance,
        "firstTimestamp": to_second(now),
        "lastTimestamp": to_second(now),
        "count": notice.times or 1,
    }


def _told(event: Mapping[str, Any]) -> _Told:
    return _Told(event["count"], event["lastTimestamp"], event["message"])


@contextmanager
def _noting(unanswered: list[_Told], event: Mapping[str, Any]) -> Iterator[None]:
    """Note an Event whose writing is not answered: it may have been done, or may be yet."""
    try:
        yield
    except ApiUnreachable:
        unanswered.append(_told(event))
        raise


def _short(message: str) -> str:
    return message if len(message) <= LONGEST_MESSAGE else message[: LONGEST_MESSAGE - 1] + "…"


def event_name(notice: Notice, metadata: Mapping[str, Any]) -> str:
    """The name that the same notice about the same object always has."""
    told = "/".join((str(metadata.get("uid")), notice.reason, notice.identity))
    return f"{metadata['name'][:_NAME_LENGTH]}.{hashlib.sha256(told.encode()).hexdigest()[:16]}"
