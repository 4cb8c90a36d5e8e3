"""Writing statuses: by server-side apply, only what differs from what the API server has, in a bounded number at once.

What an outsider changed in a status differs, and so is written again (level-triggered). A status that the server keeps
different from what was applied, because another manager holds a field of it, is applied once for each such change.

A status names callers, by what they call themselves. Where the server refuses it, it is written without them, so that no name
keeps the numbers of all others back.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog

from tollkeeper.notices import Notice
from tollkeeper.problems import ObjectRef
from tollkeeper_kube import Kube, KubeError, NotFound, Rejected
from tollkeeper_operator.event_log import EventLog
from tollkeeper_operator.feed import Feed, Raw
from tollkeeper_operator.metrics import Metrics

Status = Mapping[str, Any]

NoticesOf = Callable[[Status, Status], Iterable[Notice]]

LONGEST_PAUSE_SECONDS = 10.0

SAID_AGAIN_SECONDS = 300.0
"""How often the log says again that the same status cannot be written, while that lasts."""

_log = structlog.get_logger("tollkeeper.operator.status")


@dataclass(frozen=True, slots=True)
class _Applied:
    wanted: str
    answered: str


@dataclass(slots=True)
class StatusWriter:
    """Applies statuses and tells what changed by them. `failing` counts the attempts of what could not be written."""

    kube: Kube
    feed: Feed
    events: EventLog
    metrics: Metrics
    heartbeat: float
    failing: dict[ObjectRef, int] = field(default_factory=dict)
    monotonic: Callable[[], float] = time.monotonic
    _applied: dict[ObjectRef, _Applied] = field(default_factory=dict)
    _said: dict[ObjectRef, tuple[str, float]] = field(default_factory=dict)

    async def write(self, key: ObjectRef, status: Status, notices: NoticesOf, now: datetime) -> None:
        """Bring an object's status to what it should be; an object that is gone is left aside. Raises `KubeError`."""
        raw = self.feed.get(key)
        if raw is None or not self._differs(key, raw, status, now):
            return
        before: Status = raw.get("status") or {}
        try:
            answer = await self._apply(key, raw, status)
        except NotFound:
            self.forget(key)
            return
        except KubeError as fault:
            self._failed(key, fault)
            raise
        self._count_failing(key, 0)
        self._applied[key] = _Applied(_meant(status), _meant(answer.get("status") or {}))
        self.feed.note(key.kind, answer)
        for notice in notices(before, status):
            self.events.tell(notice, raw, now)

    async def _apply(self, key: ObjectRef, raw: Raw, status: Status) -> Raw:
        try:
            answer = await self.kube.apply_status(_manifest(raw, status))
        except Rejected as fault:
            if (unnamed := _without_keys(status)) == status:
                raise
            answer = await self.kube.apply_status(_manifest(raw, unnamed))
            self.metrics.writes.labels(key.kind, "without_keys").inc()
            self._say("a status was refused and is written without the keys that it names", key, fault)
            return answer
        self.metrics.writes.labels(key.kind, "written").inc()
        self._said.pop(key, None)
        return answer

    def forget(self, key: ObjectRef) -> None:
        """Drop what is remembered of an object that is gone."""
        self._applied.pop(key, None)
        self._count_failing(key, 0)
        self._said.pop(key, None)

    def pause(self, key: ObjectRef) -> float:
        """How many seconds to wait before an object that could not be written is tried again."""
        return min(0.5 * 2.0 ** min(self.failing.get(key, 0), 10), LONGEST_PAUSE_SECONDS)

    def failed(self, key: ObjectRef, fault: KubeError) -> None:
        """Take note of a write beside the status that failed."""
        self._failed(key, fault)

    def _differs(self, key: ObjectRef, raw: Raw, status: Status, now: datetime) -> bool:
        stands: Status = raw.get("status") or {}
        if self._is_old(stands, now) and "asOf" in status:
            return True
        if _meant(stands) == _meant(status):
            return False
        return self._applied.get(key) != _Applied(_meant(status), _meant(stands))

    def _is_old(self, stands: Status, now: datetime) -> bool:
        try:
            as_of = datetime.fromisoformat(stands["asOf"])
        except (KeyError, TypeError, ValueError):
            return True
        return (now - as_of).total_seconds() >= self.heartbeat

    def _failed(self, key: ObjectRef, fault: KubeError) -> None:
        self._count_failing(key, self.failing.get(key, 0) + 1)
        self.metrics.writes.labels(key.kind, "failed").inc()
        self._say("a status could not be written and will be tried again", key, fault)

    def _count_failing(self, key: ObjectRef, attempts: int) -> None:
        """Note after how many attempts an object's status is still unwritten; 0: it is written, or there is none to write."""
        was = self.failing.pop(key, 0)
        if attempts:
            self.failing[key] = attempts
        if bool(was) != bool(attempts):
            self.metrics.unwritten.labels(key.kind).inc(1 if attempts else -1)

    def _say(self, event: str, key: ObjectRef, fault: KubeError) -> None:
        now, (text, since) = self.monotonic(), self._said.get(key, ("", 0.0))
        if text != str(fault) or now - since >= SAID_AGAIN_SECONDS:
            self._said[key] = (str(fault), now)
            _log.warning(event, object=str(key), error=str(fault))


def _manifest(raw: Raw, status: Status) -> dict[str, Any]:
    metadata = {name: raw["metadata"][name] for name in ("name", "namespace", "uid") if name in raw["metadata"]}
    return {"apiVersion": raw["apiVersion"], "kind": raw["kind"], "metadata": metadata, "status": dict(status)}


def _without_keys(status: Status) -> Status:
    """A status with nothing in it that callers may have written: no keys of `per`, and no letters beyond ASCII."""
    told: Status = {name: _in_ascii(value) for name, value in status.items() if name != "top"}
    if "limits" in told:
        limits = [{name: value for name, value in limit.items() if name != "top"} for limit in told["limits"]]
        return {**told, "limits": limits}
    return told


def _in_ascii(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("ascii", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {name: _in_ascii(part) for name, part in value.items()}
    return [_in_ascii(part) for part in value] if isinstance(value, list | tuple) else value


def _meant(status: Status) -> str:
    """A status without its age, in a form that can be compared: numbers alone that grew older are no change."""
    columns = {name: value for name, value in (status.get("columns") or {}).items() if name != "asOf"}
    meant = {name: value for name, value in status.items() if name not in ("asOf", "columns")}
    return json.dumps({**meant, "columns": columns}, sort_keys=True)
