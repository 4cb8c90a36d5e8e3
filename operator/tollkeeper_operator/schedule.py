"""When each object is to be written: at once when something a person waits for changed, else a little later, together."""

import asyncio
from dataclasses import dataclass, field

from tollkeeper.problems import ObjectRef


@dataclass(slots=True)
class Schedule:
    """Objects with the time (the event loop's) from which they are due. Asking again only ever makes it earlier."""

    _due: dict[ObjectRef, float] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def ask(self, key: ObjectRef, at: float) -> None:
        """Have an object written at a time, or before."""
        if key not in self._due or at < self._due[key]:
            self._due[key] = at
            self._changed.set()

    def take(self, now: float) -> tuple[ObjectRef, ...]:
        """Everything that is due, the longest due first; it has to be asked for again."""
        due = sorted((at, key) for key, at in self._due.items() if at <= now)
        for _, key in due:
            del self._due[key]
        return tuple(key for _, key in due)

    def has_due(self, now: float) -> bool:
        """Whether something waits to be written."""
        return any(at <= now for at in self._due.values())

    async def wait(self, longest: float) -> None:
        """Until something is due, or `longest` seconds."""
        loop = asyncio.get_running_loop()
        until = loop.time() + longest
        while (now := loop.time()) < until and not self.has_due(now):
            self._changed.clear()
            soonest = min(min(self._due.values(), default=until), until)
            try:
                async with asyncio.timeout(max(0.0, soonest - now)):
                    await self._changed.wait()
            except TimeoutError:
                continue
