"""What a gateway has leased and not used: one pool for each account. Pure; time is a parameter.

For each account, with nothing on its way to or from the authority:

    outstanding at the authority = free + held + unreported

`held` stands for requests in flight, `unreported` for usage that the authority has not booked yet. `free` may be below 0
after a request used more than was held for it; what comes in next fills that hole first. So that nothing can come between
the two sides, `held` is not counted but is what the others leave.

`Pools.take_in_full` and `Pools.settle` are the hot path: every request runs through both, once for each of its levels.
They find all pools of a request at once, by its accounts.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from tollkeeper_sidecar.demand import AccountNeed, HardAccounts, Hold

REMEMBERED_ROUNDS = 3
"""Demand is what was taken in this round and the ones before it, so many in all."""

MOST_PATHS = 4096
"""Of so many combinations of accounts the pools are remembered."""


@dataclass(slots=True)
class Pool:
    """One account's leased amounts, in its unit. `demand` is what requests took lately; `before` what they took in each
    of the rounds before this one, newest first."""

    account: str
    window_end: datetime | None
    outstanding: int = 0
    free: int = 0
    unreported: int = 0
    demand: int = 0
    before: tuple[int, ...] = (0,) * (REMEMBERED_ROUNDS - 1)

    @property
    def held(self) -> int:
        """What requests in flight hold."""
        return self.outstanding - self.free - self.unreported

    @property
    def runs_dry(self) -> bool:
        """Whether less than a quarter of the demand is left."""
        return self.free < self.demand // 4

    def add(self, amount: int) -> None:
        """More was leased, or, below 0, given back."""
        self.outstanding += amount
        self.free += amount

    def book(self, used: int) -> None:
        """The authority booked usage. A lease never falls below nothing there, so neither does it here."""
        self.unreported -= used
        self.outstanding -= used
        if self.outstanding < 0:
            self.add(-self.outstanding)

    def next_round(self) -> None:
        """Age the demand."""
        before = self.before
        self.before = (self.demand - sum(before), *before[:-1])
        self.demand -= before[-1]

    def has_ended(self, now: datetime) -> bool:
        """Whether its account counts no more."""
        return self.window_end is not None and now >= self.window_end

    def surplus(self, now: datetime, awaited: int = 0) -> int:
        """What is idle: free beyond recent demand, or all of it once the window has ended; but not what is `awaited`."""
        left = self.free - awaited
        if left <= 0:
            return 0
        return left if self.has_ended(now) else max(0, left - self.demand)


Path = tuple[tuple[Pool, int], ...]
"""The pools of a request's accounts, each with the place of its amount in what is held."""


class Pools:
    """All pools of one holder. `low` are the accounts that were found to run dry; whoever sees to them takes them out."""

    def __init__(self) -> None:
        self._pools: dict[str, Pool] = {}
        self._paths: dict[HardAccounts, Path] = {}
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
            pool = self._pools[need.id] = Pool(need.id, need.bound.window.end)
        return pool

    def free(self, account: str) -> int:
        """What may be held on an account right now."""
        pool = self._pools.get(account)
        return pool.free if pool else 0

    def outstanding(self) -> bool:
        """Whether anything is leased."""
        return any(pool.outstanding for pool in self._pools.values())

    def take_in_full(self, hold: Hold) -> bool:
        """Take a hold out of what is free, all of it or nothing."""
        path = self._paths.get(hold.hard)
        if path is None and (path := self._path(hold.hard)) is None:
            return False
        each = hold.each
        dry: list[Pool] = []
        for pool, place in path:
            amount = each[place]
            pool.free = left = pool.free - amount
            pool.demand = demand = pool.demand + amount
            if left < demand // 4:
                dry.append(pool)
        return not dry or self._may_run_dry(dry, path, each)

    def _may_run_dry(self, dry: Sequence[Pool], path: Path, each: Sequence[int]) -> bool:
        """Whether enough was free for what was just taken, so that these run dry; if not, all of it is put back.

        Demand is never below 0: a pool of which less than nothing is left is among those that run dry.
        """
        for pool in dry:
            if pool.free < 0:
                for taken, place in path:
                    taken.free += each[place]
                    taken.demand -= each[place]
                return False
        self.low.update([pool.account for pool in dry])
        return True

    def take(self, needs: Iterable[AccountNeed], hold: Hold) -> None:
        """Take a hold for these needs; the caller has seen that it is free, or goes without where it is not."""
        amounts = hold.amounts
        for need in needs:
            pool = self.opened(need)
            pool.free -= amounts[need.id]
            pool.demand += amounts[need.id]
            if pool.runs_dry:
                self.low.add(need.id)

    def settle(self, hold: Hold, used: Sequence[int]) -> None:
        """A request in flight ended: its hold goes back, less what it used at each place, which waits to be reported."""
        path = self._paths.get(hold.hard) or self._path(hold.hard) or self._left(hold.hard)
        each = hold.each
        for pool, place in path:
            spent = used[place]
            pool.free += each[place] - spent
            pool.unreported += spent

    def _path(self, hard: HardAccounts) -> Path | None:
        """The pools of these accounts, if each has one; from now on they are at hand, until a pool is dropped."""
        try:
            path = tuple([(self._pools[account], place) for account, place in hard.places])
        except KeyError:
            return None
        if len(self._paths) >= MOST_PATHS:
            self._paths.clear()
        self._paths[hard] = path
        return path

    def _left(self, hard: HardAccounts) -> Path:
        """The pools that are left of these accounts. Of one that was dropped nothing was held, and nobody counts its use."""
        return tuple((pool, place) for account, place in hard.places if (pool := self._pools.get(account)))

    def booked(self, used: Mapping[str, int]) -> None:
        """The authority booked usage."""
        for account, amount in used.items():
            if pool := self._pools.get(account):
                pool.book(amount)

    def grant(self, account: str, amount: int) -> None:
        """More was leased."""
        if pool := self._pools.get(account):
            pool.add(amount)

    def withdraw_idle(self, now: datetime, awaited: Mapping[str, int]) -> dict[str, int]:
        """Take out what is idle, to be returned to the authority; `awaited` is what those may take who wait."""
        idle = {account: pool.surplus(now, awaited.get(account, 0)) for account, pool in self._pools.items()}
        return self._withdraw(idle)

    def withdraw_all(self, accounts: Iterable[str] | None = None) -> dict[str, int]:
        """Take out everything that is free on these accounts, or on all, to be returned to the authority."""
        named = self._pools if accounts is None else self._pools.keys() & accounts
        return self._withdraw({account: pool.free for account in named if (pool := self._pools[account]).free > 0})

    def _withdraw(self, amounts: Mapping[str, int]) -> dict[str, int]:
        taken = {account: amount for account, amount in amounts.items() if amount}
        for account, amount in taken.items():
            self._pools[account].add(-amount)
        return taken

    def next_round(self, now: datetime) -> None:
        """Age the demand, and forget pools that are empty and idle."""
        for account, pool in tuple(self._pools.items()):
            pool.next_round()
            if not (pool.free or pool.outstanding or pool.unreported) and (not pool.demand or pool.has_ended(now)):
                del self._pools[account]
                self._paths.clear()
