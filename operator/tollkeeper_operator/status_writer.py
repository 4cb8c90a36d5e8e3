"""Writing statuses: by server-side apply, only what differs from what the API server has, in a bounded number at once.

What an outsider changed in a status differs, and so is written again (level-triggered). A status that the server keeps
different from what was applied, because another manager holds a field of it, is applied once for each such change.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog

from tollkeeper.notices import Notice
from tollkeeper.problems import ObjectRef
from tollkeeper_kube import Kube, KubeError, NotFound
from tollkeeper_operator.event_log import EventLog
from tollkeeper_operator.feed import Feed, Raw
from tollkeeper_operator.metrics import Metrics

Status = Mapping[str, Any]

NoticesOf = Callable[[Status, Status], Iterable[Notice]]

LONGEST_PAUSE_SECONDS = 10.0

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
    _applied: dict[ObjectRef, _Applied] = field(default_factory=dict)
    _said: dict[ObjectRef, str] = field(default_factory=dict)

    async def write(self, key: ObjectRef, status: Status, notices: NoticesOf, now: datetime) -> None:
        """Bring an object's status to what it should be; an object that is gone is left aside. Raises `KubeError`."""
        raw = self.feed.get(key)
        if raw is None or not self._differs(key, raw, status, now):
            return
        before: Status = raw.get("status") or {}
        try:
            answer = await self.kube.apply_status(_manifest(raw, status))
        except NotFound:
            self.forget(key)
            return
        except KubeError as fault:
            self._failed(key, fault)
            raise
        self.metrics.writes.labels(key.kind, "written").inc()
        self.failing.pop(key, None)
        self._said.pop(key, None)
        self._applied[key] = _Applied(_meant(status), _meant(answer.get("status") or {}))
        self.feed.note(key.kind, answer)
        for notice in notices(before, status):
            self.events.tell(notice, raw, now)

    def forget(self, key: ObjectRef) -> None:
        """Drop what is remembered of an object that is gone."""
        self._applied.pop(key, None)
        self.failing.pop(key, None)
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
        self.failing[key] = self.failing.get(key, 0) + 1
        self.metrics.writes.labels(key.kind, "failed").inc()
        if self._said.get(key) != str(fault):
            self._said[key] = str(fault)
            _log.warning("a status could not be written and will be tried again", object=str(key), error=str(fault))


def _manifest(raw: Raw, status: Status) -> dict[str, Any]:
    metadata = {name: raw["metadata"][name] for name in ("name", "namespace", "uid") if name in raw["metadata"]}
    return {"apiVersion": raw["apiVersion"], "kind": raw["kind"], "metadata": metadata, "status": dict(status)}


def _meant(status: Status) -> str:
    """A status without its age, in a form that can be compared: numbers alone that grew older are no change."""
    columns = {name: value for name, value in (status.get("columns") or {}).items() if name != "asOf"}
    meant = {name: value for name, value in status.items() if name not in ("asOf", "columns")}
    return json.dumps({**meant, "columns": columns}, sort_keys=True)
