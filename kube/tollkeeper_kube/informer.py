"""A small informer: the objects of one kind, held in memory and kept current by a watch.

- The memory is replaced whole by a list and changed by a watch; a watch that is too old (410) or breaks is followed by
  a new list. Whoever listens is told the differences, so a break loses nothing but time.
- Failures are retried for ever, with pauses that double up to a bound; `fault` says what is wrong meanwhile, and
  `heard` when the server was last heard of, so that readers can judge freshness (I5).
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType

from tollkeeper_kube.errors import ApiUnreachable, Expired, KubeError
from tollkeeper_kube.kinds import Kind, Object
from tollkeeper_kube.kube import Kube, Listing, WatchEvent

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0

Key = tuple[str, str]
"""Namespace (empty for cluster-scoped kinds) and name."""


@dataclass(frozen=True, slots=True)
class Change:
    """An object that came (`old` is None), went (`new` is None) or changed."""

    key: Key
    old: Object | None
    new: Object | None


class Informer:
    """The objects of one kind, current within a watch's delay.

    `changed` is called on the event loop, must be quick and must not raise.
    """

    def __init__(
        self,
        kube: Kube,
        kind: Kind,
        namespace: str | None = None,
        label_selector: str | None = None,
        *,
        changed: Callable[[Change], None] = lambda _: None,
    ) -> None:
        self.kind = kind
        self.fault: KubeError | None = None
        self.heard: float | None = None
        self._kube = kube
        self._namespace = namespace
        self._selector = label_selector
        self._changed = changed
        self._objects: dict[Key, Object] = {}
        self._synced = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def objects(self) -> Mapping[Key, Object]:
        """What is known, by namespace and name. A live view: copy it to keep it. Never change the objects."""
        return MappingProxyType(self._objects)

    @property
    def synced(self) -> bool:
        """Whether a first list has been read."""
        return self._synced.is_set()

    def age_seconds(self) -> float | None:
        """How long ago the server was last heard of; `None` if never. A healthy watch is heard of about each minute."""
        return None if self.heard is None else time.monotonic() - self.heard

    async def start(self, seconds: float = 30.0) -> None:
        """Begin, and return when the first list has been read. Raises the `KubeError` in the way if it takes longer."""
        self._task = asyncio.create_task(self._run(), name=f"informer of {self.kind.plural}")
        try:
            await asyncio.wait_for(self._synced.wait(), seconds)
        except TimeoutError as late:
            await self.stop()
            raise self.fault or ApiUnreachable(f"listing {self.kind.plural}: no answer in {seconds:.0f} s") from late
        except asyncio.CancelledError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End the watch; what is known stays readable."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            began = time.monotonic()
            try:
                await self._list_and_watch()
            except Expired:
                self.fault = None
            except KubeError as fault:
                self.fault = fault
            # A connection that held for a while was a good one: begin with short pauses again.
            pause = FIRST_PAUSE_SECONDS if time.monotonic() - began > LONGEST_PAUSE_SECONDS else pause
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _list_and_watch(self) -> None:
        listing = await self._kube.snapshot(self.kind, self._namespace, self._selector)
        self._replace(listing)
        version = listing.resource_version
        while True:
            began = time.monotonic()
            async for event in self._kube.watch(
                self.kind, resource_version=version, namespace=self._namespace, label_selector=self._selector
            ):
                version = self._take(event)
            self._hear()
            if time.monotonic() - began < FIRST_PAUSE_SECONDS:
                raise ApiUnreachable(f"watching {self.kind.plural}: the API server closes each watch at once")

    def _hear(self) -> None:
        self.heard, self.fault = time.monotonic(), None

    def _replace(self, listing: Listing) -> None:
        fresh = {_key(item): item for item in listing.items}
        gone = [key for key in self._objects if key not in fresh]
        self._hear()
        for key in gone:
            self._put(key, None)
        for key, item in fresh.items():
            if _version(self._objects.get(key)) != _version(item):
                self._put(key, item)
        self._synced.set()

    def _take(self, event: WatchEvent) -> str:
        """Keep one event, and answer the resource version from which to go on."""
        self._hear()
        if event.type != "BOOKMARK":
            self._put(_key(event.object), None if event.type == "DELETED" else event.object)
        return _version(event.object)

    def _put(self, key: Key, new: Object | None) -> None:
        old = self._objects.pop(key, None)
        if new is not None:
            self._objects[key] = new
        if old is not None or new is not None:
            self._changed(Change(key, old, new))


def _key(item: Object) -> Key:
    about = item["metadata"]
    return about.get("namespace", ""), about["name"]


def _version(item: Object | None) -> str:
    return str(item["metadata"].get("resourceVersion", "")) if item else ""
