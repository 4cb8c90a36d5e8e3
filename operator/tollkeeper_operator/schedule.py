"""When each object is to be written: at once when something a person waits for changed, else a little later, together."""

import asyncio
from dataclasses import dataclass, field

from tollkeeper.problems import ObjectRef
from tollkeeper_kube.kinds import WORKLOAD_GATE


@dataclass(slots=True)
class Schedule:
    """Objects with the time (the event loop's) from which they are due. Asking again only ever makes it earlier.

    An object that is taken is in hand until it is `done`; nobody else gets it meanwhile.
    """

    coalesce: float
    _due: dict[ObjectRef, float] = field(default_factory=dict)
    _in_hand: set[ObjectRef] = field(default_factory=set)
    _done_at: dict[ObjectRef, float] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

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
            self._changed.set()

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is due and nothing is in hand."""
        now = asyncio.get_running_loop().time()
        return not self._in_hand and not any(time <= now for time in self._due.values())

    async def take(self) -> tuple[ObjectRef, float]:
        """The next object that is due, gates first, and since when it was; waits until there is one."""
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            free = {ref: time for ref, time in self._due.items() if ref not in self._in_hand}
            due = [(ref.kind != WORKLOAD_GATE.name, time, ref) for ref, time in free.items() if time <= now]
            if due:
                _, since, ref = min(due)
                del self._due[ref]
                self._in_hand.add(ref)
                return ref, since
            self._changed.clear()
            try:
                async with asyncio.timeout_at(min(free.values(), default=None)):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def done(self, ref: ObjectRef) -> None:
        """An object that was taken is written."""
        self._in_hand.discard(ref)
        self._done_at[ref] = asyncio.get_running_loop().time()
        self._changed.set()

    def forget(self, ref: ObjectRef) -> None:
        """An object is gone."""
        self._due.pop(ref, None)
        self._done_at.pop(ref, None)
