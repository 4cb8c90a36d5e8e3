"""The authority: the one that grants leases and books usage, over a ledger with one writer.

It keeps invariant I1 by construction: every grant is decided and made durable on the writer's single thread, against
`spent + unreconciled + held` of the account, before its holder hears of it. Several authorities may share a ledger on
PostgreSQL; its store does over what another one was first to change.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import structlog

from tollkeeper.accounts import Account
from tollkeeper.books import Grant, GrantState
from tollkeeper.counters import Counters
from tollkeeper.errors import TollkeeperError, Unavailable
from tollkeeper.leases import LEASE_TIME, LeaseReply, LeaseRequest
from tollkeeper.limits import Limit
from tollkeeper.policy import CurrentPolicy, PolicySet
from tollkeeper.usage import UsageRecord
from tollkeeper_ledger import bookkeeping, handing, lending, opening
from tollkeeper_ledger.state import Holder
from tollkeeper_ledger.storage import LedgerAt, LedgerStoreReader, open_board, open_reader, open_store
from tollkeeper_ledger.work import Work
from tollkeeper_ledger.writer import LedgerWriter
from tollkeeper_webhook.account_faults import AccountFaults
from tollkeeper_webhook.hearing import Hearing
from tollkeeper_webhook.quiet import MOST_AT_ONCE, QuietHolders
from tollkeeper_webhook.recalling import Recalling

LOOK_FOR_LAPSED_SECONDS = 5.0
LOOK_FOR_QUIET_SECONDS = 600.0
FORGOTTEN_AT_ONCE = 100
READING_THREADS = 2

_log = structlog.get_logger("tollkeeper.authority")

Result = TypeVar("Result")


class LedgerAuthority:
    """`Authority` for the gateway and `Books` for the operator, over a SQLite file of its own or a PostgreSQL database.

    Use as an async context manager. Raises what `open_store` raises when the ledger cannot be opened.
    """

    def __init__(self, ledger: LedgerAt, policy: CurrentPolicy, clock: Callable[[], datetime]) -> None:
        self._policy = policy
        self._clock = clock
        self._hearing = Hearing(clock())
        self._store = open_store(ledger)
        try:
            self.reader = open_reader(ledger)
        except BaseException:
            self._store.close()
            raise
        self._listeners: set[Callable[[frozenset[str]], None]] = set()
        self._stuck: set[str] = set()
        self._deaf_since: datetime | None = None
        board = open_board(ledger)
        self._is_alone = board is None
        self._recalling = Recalling(self._holders_of, board)
        self._faults = AccountFaults()
        self._quiet = QuietHolders()
        self._looked_for_quiet = -LOOK_FOR_QUIET_SECONDS
        # Its own: whoever waits for an answer of this authority on the loop's own threads must not keep it from reading.
        self._readers = ThreadPoolExecutor(READING_THREADS, "authority-reader")

    @property
    def ledger(self) -> str:
        """The ledger's own name."""
        return self._store.id

    @property
    def place(self) -> str:
        """Where the ledger lies, without secrets."""
        return self._store.name

    async def __aenter__(self) -> "LedgerAuthority":
        self._loop = asyncio.get_running_loop()
        # After a start every holder gets a whole lease time to be heard of again: the authority was away, not they.
        try:
            await self._hear_of_all()
        except BaseException:
            # Nobody else would: what could not be entered is not left either.
            self._store.close()
            self._close_readers()
            raise
        self._writer = LedgerWriter(self._store, self._committed)
        self._watch = asyncio.create_task(self._look_for_lapsed())
        self._recalling.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._watch.cancel()
        await asyncio.gather(self._watch, self._recalling.stop(), return_exceptions=True)
        await asyncio.to_thread(self._writer.close)
        self._close_readers()

    def _close_readers(self) -> None:
        self._readers.shutdown()
        self.reader.close()

    async def ask(self, question: Callable[[LedgerStoreReader], Result]) -> Result:
        """The answer of the ledger's reader, asked on a thread that may wait."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, question, self.reader)

    async def _submit(self, step: Callable[[Work], Result]) -> Result:
        future: asyncio.Future[Result] = self._loop.create_future()
        self._writer.enqueue(step, future, self._deliver)
        return await future

    def _deliver(self, answered: Sequence[tuple[asyncio.Future[Any], Any, BaseException | None]]) -> None:
        """On the writer's thread: the loop is woken once for all answers of a batch."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_answer, answered)

    @property
    def _in_force(self) -> PolicySet:
        return self._policy.value

    # For the gateway: see `tollkeeper.leases.Authority`.

    async def lease(self, request: LeaseRequest) -> LeaseReply:
        """See `Authority`."""
        now, policy = self._clock(), self._in_force
        tells = self._hearing.called(request.holder, request.sequence, now)
        try:
            reply = await self._leased(policy, request, now)
        finally:
            if tells:
                self._hearing.ended(request.holder, self._clock())
        self._hearing.booked(request.holder, request.sequence)
        self._faults.tell(reply)
        return self._recalling.answered(request, reply)

    async def _leased(self, policy: PolicySet, request: LeaseRequest, now: datetime) -> LeaseReply:
        """The reply, once it is durable. Where a want raises, and not the storage, all are done over apart."""
        lease = partial(bookkeeping.lease, policy=policy, request=request, now=now, expires=now + LEASE_TIME)
        try:
            return await self._submit(lease)
        except Unavailable:
            raise
        except Exception:  # noqa: BLE001 - what is wrong is told with the want, or raised again
            return await self._submit(partial(lease, apart=True))

    async def recalled(self, holder: str) -> Collection[str]:
        """See `Authority`."""
        return await self._recalling.recalled(holder)

    async def _holders_of(self, accounts: Collection[str]) -> Mapping[str, Collection[str]]:
        """Who has leases on these accounts. Where this is the only authority it has heard of all who have any."""
        among = tuple(self._hearing.holders) if self._is_alone else None
        return await self.ask(lambda reader: reader.holders_of(accounts, among))

    async def report(self, records: Sequence[UsageRecord], counters: Counters | None = None) -> None:
        """See `Authority`."""
        now, policy = self._clock(), self._in_force
        await self._submit(lambda work: bookkeeping.report(work, policy, records, now, counters))

    async def close(self, holder: str, kept: Mapping[str, int]) -> None:
        """See `Authority`."""
        now, policy = self._clock(), self._in_force
        await self._submit(lambda work: bookkeeping.close(work, policy, holder, kept, now))
        self._forget(holder)

    # For the operator: see `tollkeeper.books.Books`.

    async def open(self, limit: Limit, key: tuple[str, ...], now: datetime) -> Account:
        """See `Books`."""
        policy = self._in_force
        return await self._submit(lambda work: lending.open_settled(work, policy, limit, key, now))

    async def book_grant(self, grant: Grant, limit: Limit, now: datetime) -> GrantState:
        """See `Books`."""
        policy = self._in_force

        def book(work: Work) -> GrantState:
            state = opening.book_grant(work, grant, limit, now)
            lending.settle(work, policy, now)
            return state

        return await self._submit(book)

    async def first_crossing(self, account: str, threshold: int) -> bool:
        """See `Books`."""
        return await self._submit(lambda work: bookkeeping.cross(work, account, threshold))

    # For administrators: corrections (see `tollkeeper_ledger.corrections`).

    async def correct(self, step: Callable[[Work, PolicySet, datetime], Result]) -> Result:
        """Run one of the ledger's corrections under the policy in force."""
        now, policy = self._clock(), self._in_force
        return await self._submit(lambda work: step(work, policy, now))

    def subscribe(self, tell: Callable[[frozenset[str]], None]) -> Callable[[], None]:
        """See `Books`."""
        self._listeners.add(tell)
        return partial(self._listeners.discard, tell)

    def _committed(self, accounts: frozenset[str]) -> None:
        """On the writer's thread, after each commit."""
        if accounts and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._tell, accounts)

    def _tell(self, accounts: frozenset[str]) -> None:
        for tell in tuple(self._listeners):
            tell(accounts)

    async def _look_for_lapsed(self) -> None:
        """Look again and again. One look may take its time: beats go on beside it, for whoever calls is heard meanwhile."""
        look: asyncio.Task[None] | None = None
        self._beat()
        try:
            while True:
                await asyncio.sleep(LOOK_FOR_LAPSED_SECONDS)
                self._beat()
                if look is None or look.done():
                    look = asyncio.create_task(self._look())
        finally:
            if look is not None:
                look.cancel()
                await asyncio.gather(look, return_exceptions=True)

    def _beat(self) -> None:
        self._hearing.beat(self._clock(), timedelta(seconds=LOOK_FOR_LAPSED_SECONDS))

    async def _look(self) -> None:
        # A clock that was set between the beat that began this and its first step is seen too.
        self._beat()
        try:
            await self.lapse_unheard()
            await self.settle_owed()
            if self._loop.time() - self._looked_for_quiet >= LOOK_FOR_QUIET_SECONDS:
                self._looked_for_quiet = self._loop.time()
                await self.forget_quiet(self._loop.time())
        except Exception as error:  # noqa: BLE001 - leases of those that are gone must lapse, whatever one look meets
            _log.error("a look for leases that lapsed failed; the next one follows", error=repr(error))

    async def lapse_unheard(self) -> None:
        """Let the leases of holders lapse that were not heard of for a lease time; what cannot be booked is tried again."""
        now, policy = self._clock(), self._in_force
        try:
            await self._hear_of_all()
        except Unavailable as error:
            _log.warning("the ledger cannot say which leases live", error=str(error))
            self._deaf_since = self._deaf_since or now
            return
        if self._deaf_since is not None:
            # Holders of other authorities could not be heard of either.
            self._hearing.leave_out(now - self._deaf_since, now)
            self._deaf_since = None
        for silent in self._hearing.silent(now):
            if not self._hearing.is_still(silent):
                continue  # it was heard of, or ended, while an earlier one was booked
            holder, sequence = silent.holder, silent.sequence
            try:
                await self._submit(partial(_lapse, policy=policy, holder=holder, sequence=sequence, now=now))
            except Unavailable as error:
                _log.warning("leases of a holder that is gone cannot lapse yet", holder=holder, error=str(error))
                return
            except Exception as error:  # noqa: BLE001 - one holder's leases must not keep all others' from lapsing
                if holder not in self._stuck:
                    _log.error("a holder's leases stay held: they cannot lapse", holder=holder, error=repr(error))
                self._stuck.add(holder)
                continue
            if self._hearing.is_still(silent):
                self._forget(holder)

    async def settle_owed(self) -> None:
        """Hand on what corrections changed in closed windows while their limits were not known."""
        now, policy = self._clock(), self._in_force
        try:
            owed = await self.ask(lambda reader: reader.owed())
            for mark in (mark for mark in owed if handing.is_payable(policy, mark)):
                await self._settle_one(partial(_settle_owed, policy=policy, mark=mark, now=now), mark)
        except Unavailable as error:
            _log.warning("what closed windows owe cannot be handed on yet", error=str(error))

    async def _settle_one(self, step: Callable[[Work], None], mark: str) -> None:
        try:
            await self._submit(step)
        except Unavailable:
            raise
        except TollkeeperError as error:
            # One limit's amounts that fit no column must not keep all others from being handed on.
            _log.warning("what a closed window owes cannot be handed on", owed=mark, error=str(error))

    async def forget_quiet(self, at: float) -> None:
        """Forget holders that have no leases and were quiet for long, at a moment of the loop's clock; and counters that say
        nothing any more."""
        try:
            found = await self.ask(lambda reader: reader.holders_without_leases(MOST_AT_ONCE))
            due = self._quiet.due(found, at)
            for start in range(0, len(due), FORGOTTEN_AT_ONCE):
                await self._submit(partial(_forget_all, holders=due[start : start + FORGOTTEN_AT_ONCE]))
            over = await self.ask(lambda reader: reader.counters_over(self._clock(), FORGOTTEN_AT_ONCE))
            if over:
                await self._submit(lambda work: work.uncounted.update(over))
        except TollkeeperError as error:
            _log.warning("holders that are gone cannot be forgotten yet", error=str(error))

    async def _hear_of_all(self) -> None:
        """Also watch holders that talk to other authorities: they were heard of when their sequence number went on."""
        live = await self.ask(lambda reader: reader.live_holders())
        self._hearing.live(live, self._clock())

    def _forget(self, holder: str) -> None:
        self._hearing.forget(holder)
        self._stuck.discard(holder)
        self._recalling.forget(holder)


def _answer(answered: Sequence[tuple[asyncio.Future[Any], Any, BaseException | None]]) -> None:
    for future, value, error in answered:
        if future.done():
            continue  # whoever asked has gone
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)


def _forget_all(work: Work, holders: Sequence[Holder]) -> None:
    for holder in holders:
        bookkeeping.forget(work, holder)


def _settle_owed(work: Work, policy: PolicySet, mark: str, now: datetime) -> None:
    if handing.settle_owed(work, policy, mark, now):
        lending.settle(work, policy, now)


def _lapse(work: Work, policy: PolicySet, holder: str, sequence: int, now: datetime) -> None:
    """Let a holder's leases lapse, unless another authority has heard of it meanwhile."""
    if work.holder(holder).sequence <= sequence:
        bookkeeping.lapse(work, policy, holder, now)
