"""What a gateway has leased and not used: one pool for each account. Pure; time is a parameter.

For each account, with nothing on its way to or from the authority:

    outstanding at the authority = free + held + unreported

`held` stands for requests in flight, `unreported` for usage that the authority has not booked yet. `free` may be below 0
after a request used more than was held for it; what comes in next fills that hole first.

`Pools.take_in_full` and `Pools.settle` are the hot path: every request runs through both, once for each of its levels.
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from tollkeeper_sidecar.demand import AccountNeed

REMEMBERED_ROUNDS = 3
"""Demand is what was taken in this round and the ones before it, so many in all."""


@dataclass(slots=True)
class Pool:
    """One account's leased amounts, in its unit; what was taken in this round, and in those before it, newest first."""

    window_end: datetime | None
    free: int = 0
    held: int = 0
    unreported: int = 0
    taken: int = 0
    before: tuple[int, ...] = (0,) * (REMEMBERED_ROUNDS - 1)
    taken_before: int = 0

    @property
    def demand(self) -> int:
        """What requests took lately."""
        return self.taken + self.taken_before

    @property
    def outstanding(self) -> int:
        """What the authority holds for us."""
        return self.free + self.held + self.unreported

    def next_round(self) -> None:
        """Age the demand."""
        self.before = (self.taken, *self.before[:-1])
        self.taken, self.taken_before = 0, sum(self.before)

    def surplus(self, now: datetime) -> int:
        """What is idle: free beyond recent demand, or all of it once the window has ended."""
        ended = self.window_end is not None and now >= self.window_end
        return max(0, self.free - (0 if ended else self.demand))


class Pools:
    """All pools of one holder. `low` are the accounts that were found to run dry; whoever sees to them takes them out."""

    def __init__(self) -> None:
        self._pools: dict[str, Pool] = {}
        self.low: set[str] = set()

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

    def take_in_full(self, amounts: Mapping[str, int], wanted: Container[str]) -> bool:
        """Hold these amounts, if all of them are free and none of the accounts is `wanted` by others."""
        pools = self._pools
        for account, amount in amounts.items():
            pool = pools.get(account)
            if pool is None or pool.free < amount or account in wanted:
                return False
        self._take(amounts)
        return True

    def take(self, needs: Iterable[AccountNeed], amounts: Mapping[str, int]) -> None:
        """Hold these amounts for a request; the caller has seen that they are free."""
        for need in needs:
            self.opened(need)
        self._take(amounts)

    def _take(self, amounts: Mapping[str, int]) -> None:
        """Hold amounts. A pool runs dry when less than a quarter of its demand is left."""
        pools = self._pools
        for account, amount in amounts.items():
            pool = pools[account]
            pool.free = left = pool.free - amount
            pool.held += amount
            pool.taken = taken = pool.taken + amount
            if left < (taken + pool.taken_before) // 4:
                self.low.add(account)

    def settle(self, held: Mapping[str, int], used: Mapping[str, int]) -> None:
        """A request in flight ended: its hold goes back, less what it used, which waits to be reported."""
        pools = self._pools
        for account, amount in held.items():
            if pool := pools.get(account):
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
            pool.next_round()
            ended = pool.window_end is not None and now >= pool.window_end
            if not (pool.free or pool.held or pool.unreported) and (ended or not pool.demand):
                del self._pools[account]
