"""When each object is to be written: at once when something a person waits for changed, else a little later, together."""

import asyncio
from dataclasses import dataclass, field
from heapq import heappop, heappush

from tollkeeper.problems import ObjectRef
from tollkeeper_kube.kinds import WORKLOAD_GATE


@dataclass(slots=True)
class Schedule:
    """Objects with the time (the event loop's) from which they are due. Asking again only ever makes it earlier.

    An object that is taken is in hand until it is `done`; nobody else gets it meanwhile. However many objects there are,
    taking one costs no more than their logarithm.
    """

    coalesce: float
    _due: dict[ObjectRef, float] = field(default_factory=dict)
    _in_hand: set[ObjectRef] = field(default_factory=set)
    _done_at: dict[ObjectRef, float] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _waiting: list[tuple[float, ObjectRef]] = field(default_factory=list)
    """A heap by time. An entry counts only while `_due` has its time; what is in hand is entered again when it is done."""
    _ready: list[tuple[bool, float, ObjectRef]] = field(default_factory=list)
    """A heap of entries whose time has come, gates first; they count as those that wait do."""

    def soon(self, ref: ObjectRef) -> None:
        """Have an object written at once."""
        self.at(ref, asyncio.get_running_loop().time())

    def later(self, ref: ObjectRef) -> None:
        """Have an object written when `coalesce` seconds have passed since it was written last."""
        now = asyncio.get_running_loop().time()
        self.at(ref, max(now, self._done_at.get(ref, now) + self.coalesce))

    def at(self, ref: ObjectRef, time: float) -> None:
        """Have an object written at a time, or before."""
        if ref not in self._due or time < self._due[ref]:
            self._due[ref] = time
            heappush(self._waiting, (time, ref))
            self._changed.set()

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is due and nothing is in hand."""
        self._sort_out(asyncio.get_running_loop().time())
        return not self._in_hand and not self._ready

    async def take(self) -> tuple[ObjectRef, float]:
        """The next object that is due, gates first, and since when it was; waits until there is one."""
        loop = asyncio.get_running_loop()
        while True:
            self._sort_out(loop.time())
            if self._ready:
                _, since, ref = heappop(self._ready)
                del self._due[ref]
                self._in_hand.add(ref)
                return ref, since
            self._changed.clear()
            try:
                async with asyncio.timeout_at(self._waiting[0][0] if self._waiting else None):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def done(self, ref: ObjectRef) -> None:
        """An object that was taken is written."""
        self._in_hand.discard(ref)
        self._done_at[ref] = asyncio.get_running_loop().time()
        if ref in self._due:
            heappush(self._waiting, (self._due[ref], ref))
        self._changed.set()

    def forget(self, ref: ObjectRef) -> None:
        """An object is gone."""
        self._due.pop(ref, None)
        self._done_at.pop(ref, None)

    def _sort_out(self, now: float) -> None:
        """Have first in each heap what counts, and everything whose time has come among what is ready."""
        while self._waiting and (self._waiting[0][0] <= now or not self._counts(*self._waiting[0])):
            time, ref = heappop(self._waiting)
            if self._counts(time, ref):
                heappush(self._ready, (ref.kind != WORKLOAD_GATE.name, time, ref))
        while self._ready and not self._counts(*self._ready[0][1:]):
            heappop(self._ready)

    def _counts(self, time: float, ref: ObjectRef) -> bool:
        return self._due.get(ref) == time and ref not in self._in_hand
