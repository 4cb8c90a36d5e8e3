"""Who of several tenants is served next by one thread, by the time that each has cost (R27).

- A tenant waits behind its own: the next is of the one that has cost the least of the thread's time.
- Nobody saves up: a tenant that had nothing to do begins where those who have are.
- What waits of one tenant is bounded, and what waits of all.

The order is that of start-time fair queueing (Goyal, Vin and Cheng, 1996), with the measured time as its cost.
"""

from collections import deque

from tollkeeper_sidecar.recording import Recorded


class Turns:
    """Recordings that wait, at most `most`, and at most `share` of one tenant. Not safe for use by several threads."""

    def __init__(self, most: int, share: int) -> None:
        self._most = most
        self._share = share
        self._count = 0
        self._waiting: dict[str, deque[Recorded]] = {}
        self._cost: dict[str, float] = {}
        self._reached = 0.0

    def __len__(self) -> int:
        return self._count

    def put(self, recorded: Recorded) -> bool:
        """Let one wait, if there is room for it."""
        tenant = recorded.about.tenant
        if self._count >= self._most or len(self._waiting.get(tenant, ())) >= self._share:
            return False
        if tenant not in self._waiting:
            self._waiting[tenant] = deque()
            self._cost[tenant] = max(self._cost.get(tenant, 0.0), self._reached)
        self._waiting[tenant].append(recorded)
        self._count += 1
        return True

    def next(self) -> Recorded:
        """The one whose turn it is. There has to be one."""
        tenant = min(self._waiting, key=self._cost.__getitem__)
        self._reached = self._cost[tenant]
        one = self._waiting[tenant].popleft()
        self._count -= 1
        if not self._waiting[tenant]:
            del self._waiting[tenant]
        return one

    def costs(self, tenant: str, seconds: float) -> None:
        """What the thread did for a tenant took so long."""
        self._cost[tenant] = self._cost.get(tenant, self._reached) + seconds
        if len(self._cost) > 2 * self._most:
            self._cost = {one: cost for one, cost in self._cost.items() if one in self._waiting or cost > self._reached}

    def clear(self) -> int:
        """Let go of all; how many that were."""
        left, self._count = self._count, 0
        self._waiting.clear()
        return left

    @property
    def is_mostly_free(self) -> bool:
        """Whether nobody, nor all together, takes more than half of what there is room for."""
        return 2 * self._count <= self._most and all(2 * len(one) <= self._share for one in self._waiting.values())
