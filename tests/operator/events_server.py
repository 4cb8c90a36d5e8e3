"""Events as an API server keeps them, in memory, with calls that fail as a test wants it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from tollkeeper_kube import AlreadyExists, Conflict, Kind, Kube, NotFound

Object = dict[str, Any]
Answer = TypeVar("Answer")


@dataclass
class EventsServer:
    """What `EventLog` asks of an API server. `before` and `after` are called with each call's verb, and may raise."""

    kept: dict[str, Object] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    before: Callable[[str], None] = lambda _verb: None
    after: Callable[[str], None] = lambda _verb: None
    _version: int = 0

    @property
    def kube(self) -> Kube:
        return cast("Kube", self)

    async def create(self, manifest: Object) -> Object:
        return self._do("create", lambda: self._create(manifest))

    async def find(self, _kind: Kind, name: str, _namespace: str | None = None) -> Object | None:
        return self._do("find", lambda: self.kept.get(name))

    async def patch(self, _kind: Kind, name: str, patch: Object, _namespace: str | None = None) -> Object:
        return self._do("patch", lambda: self._patch(name, patch))

    def counts(self) -> list[int]:
        """How often each Event tells that it happened."""
        return [event["count"] for event in self.kept.values()]

    def _do(self, verb: str, call: Callable[[], Answer]) -> Answer:
        self.calls.append(verb)
        self.before(verb)
        answer = call()
        self.after(verb)
        return answer

    def _create(self, manifest: Object) -> Object:
        name = manifest["metadata"]["name"]
        if name in self.kept:
            raise AlreadyExists(f"events {name!r} already exists")
        return self._keep(name, manifest)

    def _patch(self, name: str, patch: Object) -> Object:
        if (stands := self.kept.get(name)) is None:
            raise NotFound(f"events {name!r} not found")
        if patch["metadata"]["resourceVersion"] != stands["metadata"]["resourceVersion"]:
            raise Conflict(f"events {name!r} has been modified")
        return self._keep(name, {**stands, **patch, "metadata": stands["metadata"]})

    def _keep(self, name: str, event: Object) -> Object:
        self._version += 1
        kept = {**event, "metadata": {**event["metadata"], "resourceVersion": str(self._version)}}
        self.kept[name] = kept
        return kept


def failing(verb: str, *faults: BaseException) -> Callable[[str], None]:
    """Raises these faults, one at each call of that verb; what comes after them goes well."""
    left = list(faults)

    def fail(called: str) -> None:
        if called == verb and left:
            raise left.pop(0)

    return fail
