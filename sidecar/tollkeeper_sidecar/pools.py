"""What a gateway has leased and not used: one pool for each account. Pure; time is a parameter.

For each account, with nothing on its way to or from the authority:

    outstanding at the authority = free + held + unreported

`held` stands for requests in flight, `unreported` for usage that the authority has not booked yet. `free` may be below 0
after a request used more than was held for it; what comes in next fills that hole first.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tollkeeper_sidecar.demand import AccountNeed

REMEMBERED_ROUNDS = 3
"""Demand is what was taken in this round and the ones before it, so many in all."""


@dataclass(slots=True)
class Pool:
    """One account's leased amounts, in its unit, and what was taken in the last rounds, newest first."""

    window_end: datetime | None
    free: int = 0
    held: int = 0
    unreported: int = 0
    low: bool = False
    recent: list[int] = field(default_factory=lambda: [0] * REMEMBERED_ROUNDS)

    @property
    def demand(self) -> int:
        """What requests took lately."""
        return sum(self.recent)

    @property
    def outstanding(self) -> int:
        """What the authority holds for us."""
        return self.free + self.held + self.unreported

    def take(self, amount: int) -> None:
        """Hold an amount out of what is free."""
        self.free -= amount
        self.held += amount
        self.recent[0] += amount
        self.low = self.free < self.demand // 4

    def surplus(self, now: datetime) -> int:
        """What is idle: free beyond recent demand, or all of it once the window has ended."""
        ended = self.window_end is not None and now >= self.window_end
        return max(0, self.free - (0 if ended else self.demand))


class Pools:
    """All pools of one holder."""

    def __init__(self) -> None:
        self._pools: dict[str, Pool] = {}

    def __iter__(self) -> Iterator[tuple[str, Pool]]:
        return iter(self._pools.items())

    def of(self, account: str) -> Pool | None:
        """The account's pool, where there is one."""
        return self._pools.get(account)

    def opened(self, need: AccountNeed) -> Pool:
        """The pool of a need's account, empty when it is new."""
        pool = self._pools.get(need.id)
        if pool is None:
            pool = self._pools[need.id] = Pool(need.bound.window.end)
        return pool

    def free(self, account: str) -> int:
        """What may be held on an account right now."""
        pool = self._pools.get(account)
        return pool.free if pool else 0

    def outstanding(self) -> bool:
        """Whether anything is leased."""
        return any(pool.outstanding for pool in self._pools.values())

    def take(self, needs: Iterable[AccountNeed], amounts: Mapping[str, int]) -> None:
        """Hold these amounts; the caller has seen that they are free."""
        for need in needs:
            if need.id in amounts:
                self.opened(need).take(amounts[need.id])

    def settle(self, held: Mapping[str, int], used: Mapping[str, int]) -> None:
        """A request in flight ended: its hold goes back, less what it used, which waits to be reported."""
        for account, amount in held.items():
            if pool := self._pools.get(account):
                spent = used.get(account, 0)
                pool.held -= amount
                pool.free += amount - spent
                pool.unreported += spent

    def booked(self, used: Mapping[str, int]) -> None:
        """The authority booked usage. A lease never falls below nothing there, so neither does it here."""
        for account, amount in used.items():
            if pool := self._pools.get(account):
                pool.unreported -= amount
                pool.free -= min(0, pool.outstanding)

    def grant(self, account: str, amount: int) -> None:
        """More was leased."""
        if pool := self._pools.get(account):
            pool.free += amount

    def withdraw_idle(self, now: datetime) -> dict[str, int]:
        """Take out what is idle, to be returned to the authority."""
        return self._withdraw({account: pool.surplus(now) for account, pool in self._pools.items()})

    def withdraw_all(self, accounts: Iterable[str] | None = None) -> dict[str, int]:
        """Take out everything that is free on these accounts, or on all, to be returned to the authority."""
        named = self._pools if accounts is None else self._pools.keys() & accounts
        return self._withdraw({account: max(0, self._pools[account].free) for account in named})

    def _withdraw(self, amounts: Mapping[str, int]) -> dict[str, int]:
        for account, amount in amounts.items():
            self._pools[account].free -= amount
        return {account: amount for account, amount in amounts.items() if amount}

    def next_round(self, now: datetime) -> None:
        """Age the demand, and forget pools that are empty and idle."""
        for account, pool in tuple(self._pools.items()):
            pool.recent = [0, *pool.recent[:-1]]
            ended = pool.window_end is not None and now >= pool.window_end
            if not (pool.free or pool.held or pool.unreported) and (ended or not pool.demand):
                del self._pools[account]
