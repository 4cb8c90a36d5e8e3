"""The balances as last read: every account of the current windows, by limit.

The ledger tells which accounts changed; only those are read again. Reading is the ledger's own (any thread), opening an
account is a booking. What cannot be read leaves the last numbers and their age standing (I5).

A window into which nothing goes over is opened by whoever uses it first: until then its accounts are known without having
been booked, whole. Else a limit by the minute would book a transaction every minute though nobody uses it.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from tollkeeper.accounts import Account, Phase
from tollkeeper.books import Books
from tollkeeper.counted import Counted, is_keyed
from tollkeeper.counters import Unbooked
from tollkeeper.errors import Unavailable
from tollkeeper.forecast import Forecast, NotEnoughHistory, forecast, slice_seconds_for
from tollkeeper.grants import carries
from tollkeeper.limits import AccountId, Limit, LimitRef
from tollkeeper.policy import PolicySet
from tollkeeper.statuses import Freshness
from tollkeeper.windows import Window

OPENED_AT_ONCE = 64
"""How many accounts are asked for at once; the ledger books them in one commit."""

SHORTEST_SLICE_SECONDS = 60
"""The ledger's sums are by the minute."""

Answer = TypeVar("Answer")


def _by_key(accounts: Iterable[Account]) -> dict[tuple[str, ...], Account]:
    return {AccountId.parse(account.id).key: account for account in accounts}


def _begins_whole(limit: Limit) -> bool:
    """Whether a window of the limit begins with its allocation, whatever was in the one before."""
    return not (carries(limit) or limit.borrowing or limit.lending)


def _unopened(limit: Limit, key: tuple[str, ...], now: datetime) -> Account:
    """The account that the first use will open: as it stands until then."""
    identity, window = limit.account_at(key, now)
    start = window.start if window.end else None
    return Account(identity.text, start, window.end, allocation=limit.allocation, minimum=limit.minimum)


@dataclass(frozen=True, slots=True)
class Moved:
    """An account as it was, maybe in the window before (None: it is new to us), and as it is."""

    limit: Limit
    before: Account | None
    after: Account


@dataclass(slots=True)
class _Held:
    limit: Limit
    window: Window
    is_read: bool = False
    may_idle: bool = False
    """Whether its accounts are opened by their first use: the limit is as it was in the window before, and all are whole."""
    accounts: dict[str, Account] = field(default_factory=dict)
    previous: dict[tuple[str, ...], Account] = field(default_factory=dict)
    """The accounts of the window before, by key: what those of this window moved on from."""

    def ended(self, now: datetime) -> bool:
        """Whether the window has ended."""
        return self.window.end is not None and self.window.end <= now

    def put(self, account: Account) -> Moved | None:
        """Hold an account as it is now; how it moved, if it did."""
        before = self.accounts.get(account.id) or self.previous.get(AccountId.parse(account.id).key)
        self.accounts[account.id] = account
        return Moved(self.limit, before, account) if before != account else None


@dataclass(slots=True)
class Balances:
    """The accounts of the limits in force. All methods run on one event loop; reads happen on `threads`."""

    books: Books
    threads: ThreadPoolExecutor
    lacks_since: datetime | None = None
    """Since when usage is missing in the ledger because no gateway could report it; None where none is late."""
    _held: dict[LimitRef, _Held] = field(default_factory=dict)
    _read_at: datetime | None = None
    _fault: str | None = None
    _moved: list[Moved] = field(default_factory=list)

    def moved(self) -> tuple[Moved, ...]:
        """The moves since this was asked last, each told once. A reading that failed midway loses none of them."""
        moved, self._moved = tuple(self._moved), []
        return moved

    def freshness(self, now: datetime) -> Freshness:
        """How old the numbers are, and why they are not newer."""
        return Freshness(self._read_at or now, self._fault, self.lacks_since)

    def counted(self, ref: LimitRef) -> Counted | None:
        """A limit's window and accounts, if it is in force and its accounts were read."""
        held = self._held.get(ref)
        return Counted(held.limit, held.window, tuple(held.accounts.values())) if held and held.is_read else None

    def account(self, id_: str) -> Account | None:
        """One account of the current windows, by its identity."""
        held = self._held.get(AccountId.parse(id_).ref)
        return held.accounts.get(id_) if held else None

    def count(self) -> int:
        """How many accounts are held."""
        return sum(len(held.accounts) for held in self._held.values())

    def shared_ids(self) -> frozenset[str]:
        """The accounts of limits without `per`: few, and those that statuses and gates rest on."""
        return frozenset(id_ for held in self._held.values() if not held.limit.per for id_ in held.accounts)

    async def adopt(self, policy: PolicySet, now: datetime) -> None:
        """Hold the accounts of exactly the limits in force, opened where a limit is new or changed, in the windows of now.

        Raises `Unavailable`; what was read until then is held.
        """
        known = {limit.ref: limit for limit in policy.limits}
        for ref in [ref for ref in self._held if ref not in known]:
            del self._held[ref]
        await self._bring_up(policy.limits, now)

    def ended(self, now: datetime) -> tuple[Limit, ...]:
        """The limits whose window has ended, and those whose next one could not be read yet."""
        return tuple(held.limit for held in self._held.values() if not held.is_read or held.ended(now))

    async def roll(self, limits: Sequence[Limit], now: datetime) -> None:
        """Come to the window of now with limits whose window has ended. Raises `Unavailable`."""
        if limits:
            await self._bring_up(limits, now)

    async def reopen(self, now: datetime) -> None:
        """Ask for a loan for what is used up: its lender may have room by now. Raises `Unavailable`.

        Where nobody asks, because the gate is closed, nothing else would find out.
        """
        for held in tuple(self._held.values()):
            borrows = held.limit.lenders and not held.limit.per
            for id_, account in tuple(held.accounts.items()) if borrows else ():
                if account.phase(held.limit) is Phase.INSUFFICIENT and self._holds(id_):
                    await self._open(held.limit, AccountId.parse(id_).key, now)

    async def refresh(self, ids: Iterable[str], now: datetime) -> None:
        """Read accounts again; those of other windows or of limits no longer in force are left aside. Raises `Unavailable`."""
        asked = [id_ for id_ in ids if self._holds(id_)]
        reader = self.books.reader
        read = await self._ask(lambda: [account for id_ in asked if (account := reader.account(id_)) is not None])
        self._heard(now)
        for account in read:
            self._put(account)

    async def forecast(self, ref: LimitRef, now: datetime) -> Forecast | NotEnoughHistory | None:
        """What is to be expected of a limit with one account and an end; None of any other. Raises `Unavailable`."""
        held = self._held.get(ref)
        if held is None or is_keyed(held.limit) or held.window.end is None or not held.accounts:
            return None
        account, limit, window = next(iter(held.accounts.values())), held.limit, held.window
        seconds = max(SHORTEST_SLICE_SECONDS, slice_seconds_for(window))
        reader = self.books.reader

        def ask() -> Forecast | NotEnoughHistory:
            points = reader.spend(account.id, slice_seconds=seconds, since=window.start, until=now)
            return forecast(points, account=account, minimum=limit.minimum, now=now)

        return await self._ask(ask)

    def _holds(self, id_: str) -> bool:
        identity = AccountId.parse(id_)
        held = self._held.get(identity.ref)
        return held is not None and held.window.key() == identity.window

    def _put(self, account: Account) -> None:
        held = self._held.get(AccountId.parse(account.id).ref)
        if held is not None and (moved := held.put(account)) is not None:
            self._moved.append(moved)

    async def _bring_up(self, limits: Sequence[Limit], now: datetime) -> None:
        wanted: list[tuple[Limit, tuple[str, ...]]] = []
        for limit in limits:
            wanted += [(limit, key) for key in await self._keys(limit, now)]
        for start in range(0, len(wanted), OPENED_AT_ONCE):
            await asyncio.gather(
                *(self._open(limit, key, now) for limit, key in wanted[start : start + OPENED_AT_ONCE])
            )
        for limit in limits:
            self._held[limit.ref].is_read = True
        self._heard(now)

    async def _keys(self, limit: Limit, now: datetime) -> list[tuple[str, ...]]:
        """The keys whose accounts are opened: the one that all share, one for each selected tenant, or those in use; where
        windows begin whole, of a limit that is as it was, none."""
        window = limit.calendar.window_at(now)
        held = self._held.get(limit.ref)
        if held is None or held.window != window:
            gone = _by_key(held.accounts.values()) if held else {}
            may_idle = held is not None and _begins_whole(limit)
            held = self._held[limit.ref] = _Held(
                held.limit if held else limit, window, may_idle=may_idle, previous=gone
            )
        held.may_idle &= held.limit == limit
        held.limit = limit
        if not limit.per:
            keys: list[tuple[str, ...]] = [(tenant,) for tenant in sorted(limit.tenants)] if limit.each_tenant else [()]
            return await self._used_otherwise(held, keys, now) if held.may_idle else keys
        if not held.is_read and not held.previous:
            held.previous = await self._borrowers_before(limit, window)
        reader = self.books.reader
        for account in await self._ask(lambda: reader.accounts_of(limit, window.key())):
            if held.is_read:
                self._put(account)
            else:
                # What was so when it was read first did not move: nothing is told of thousands of keys at each start.
                held.accounts[account.id] = account
        # A key in use is opened again only for a new allocation or minimum: then its account takes it over.
        stated = (limit.allocation, limit.minimum)
        used = {AccountId.parse(id_).key: (one.allocation, one.minimum) for id_, one in held.accounts.items()}
        # A key that borrowed is opened at once, used or not: with that its loan of the window before goes back.
        borrowed = {key for key, account in held.previous.items() if account.borrowed}
        return [key for key, one in used.items() if one != stated] + sorted(borrowed - used.keys())

    async def _used_otherwise(self, held: _Held, keys: list[tuple[str, ...]], now: datetime) -> list[tuple[str, ...]]:
        """Those of the keys whose accounts somebody opened with other amounts; all others are held, opened or not."""
        limit, reader = held.limit, self.books.reader
        used = _by_key(await self._ask(lambda: reader.accounts_of(limit, held.window.key())))
        for key in keys:
            self._put(used.get(key) or _unopened(limit, key, now))
        stated = (limit.allocation, limit.minimum)
        return [key for key in keys if key in used and (used[key].allocation, used[key].minimum) != stated]

    async def _borrowers_before(self, limit: Limit, window: Window) -> dict[tuple[str, ...], Account]:
        """The accounts of the window before, where we have only begun to look and keys may have borrowed in it."""
        if not limit.lenders or window.end is None:
            return {}
        reader, before = self.books.reader, limit.calendar.window_at(window.start - timedelta(microseconds=1))
        return _by_key(await self._ask(lambda: reader.accounts_of(limit, before.key())))

    async def _open(self, limit: Limit, key: tuple[str, ...], now: datetime) -> None:
        try:
            account = await self.books.open(limit, key, now)
        except Unavailable as fault:
            self._fault = str(fault)
            raise
        self._put(account)

    async def unbooked(self) -> Sequence[Unbooked]:
        """What gateways have settled, by their own count, and is not booked. Raises `Unavailable`."""
        return await self._ask(self.books.reader.unbooked)

    async def _ask(self, question: Callable[[], Answer]) -> Answer:
        try:
            return await asyncio.get_running_loop().run_in_executor(self.threads, question)
        except Unavailable as fault:
            self._fault = str(fault)
            raise

    def _heard(self, now: datetime) -> None:
        self._read_at, self._fault = now, None
