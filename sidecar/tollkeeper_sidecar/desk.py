"""The lease desk: who gets a hold at once, who waits, and what the authority is asked next. Sans-I/O.

Rules:

- A request whose full need is free here, and for whose accounts nobody waits, is served at once, without a call.
- All others wait in the order of their coming. At most one call to the authority is under way; it carries one want for
  each account: enough for the first who waits for it, if possible in full for all of them, and some ahead.
- Those whom an answer covers in part get a lower output limit; those whom it does not cover are refused. A refusal that
  waiting may heal is taken to the authority once more, after a short patience in which requests in flight here may
  give back what they do not use (F1); and again, for a recall time in all, while other holders are asked for what they
  have left over (H4).
- A pool that runs dry is filled ahead of need, once a round for each account. What is idle, and not for those who wait,
  goes back with the next call. A lease that was not renewed in time is not used any more.
- Where others are short, all that is free goes back at once, and with every call and round of the recall time that
  follows; nothing is leased ahead meanwhile. Who waits parked does not keep it.
- While the authority cannot be reached, live leases are used up; then each limit's `whenStale` decides.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from tollkeeper.accounts import Phase
from tollkeeper.leases import LEASE_TIME, RECALL_SECONDS, LeaseReply, LeaseRequest, Reason, Refusal, Standing, Want
from tollkeeper.limits import WhenStale
from tollkeeper_sidecar.demand import AccountNeed, Demand, Hold
from tollkeeper_sidecar.pools import Pools
from tollkeeper_sidecar.refusals import judged, noted
from tollkeeper_sidecar.shortages import Shortages
from tollkeeper_sidecar.waiting import Outcome, Refused, Stale, TooManyWaiting, Waiting

ROUND_SECONDS = 0.5
"""How often demand ages and idle amounts are returned: idle for three rounds means returned within 2 s (H4)."""

PATIENCE_SECONDS = 0.25
"""How long a refused request waits before it asks again."""

LEASE_SECONDS = LEASE_TIME.total_seconds()
SAFETY_SECONDS = 5.0
"""A lease is not used in its last seconds: clocks and messages are not that exact."""

FIRST_BACKOFF_SECONDS = 0.2
LONGEST_BACKOFF_SECONDS = 3.0

_NONE = frozenset[str]()
_NOTHING: Mapping[str, int] = {}


@dataclass(slots=True)
class _Call:
    """A call under way: when it was sent, what it returns, and the recalls that it answers."""

    sent: float
    returns: Mapping[str, int]
    answers: frozenset[str]


class Desk:
    """Decides for one lease holder. Monotonic times are seconds; `now` is the wall clock, which windows go by."""

    def __init__(self, holder: str, most_waiting: int) -> None:
        self.pools = Pools()
        self.resolved: list[Waiting] = []
        self._holder = holder
        self._most_waiting = most_waiting
        self._queue: list[Waiting] = []
        self._wanted: Counter[str] = Counter()
        self._sequence = 0
        self._call: _Call | None = None
        self._leased_until = 0.0
        self._renew_at = 0.0
        self._round_at = 0.0
        self._failures = 0
        self._retry_at = 0.0
        self._asked_ahead: set[str] = set()
        self._shortages = Shortages()

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._queue)

    def arrive(self, demand: Demand, mono: float) -> Hold | Waiting:
        """A request comes: its hold, or its place among those who wait. Raises `TooManyWaiting`."""
        full = demand.full
        is_live = mono < self._leased_until or not demand.hard.bound
        if is_live and not (self._queue and self._overtakes(demand)) and self.pools.take_in_full(full):
            return full
        if len(self._queue) >= self._most_waiting:
            raise TooManyWaiting
        waiting = Waiting(demand)
        self._queue.append(waiting)
        self._wanted.update(need.id for need in waiting.needs)
        if mono < self._retry_at:
            self._without_authority(waiting, live=mono < self._leased_until)
        return waiting

    def _overtakes(self, demand: Demand) -> bool:
        """Whether somebody waits for one of its accounts."""
        return any(account in self._wanted for account, _ in demand.hard.bound)

    def settle(self, hold: Hold, used: Sequence[int], mono: float) -> None:
        """A request ended and used so much at each place of its hold; what it did not use may serve those who wait."""
        self.pools.settle(hold, used)
        if self._queue and mono < self._leased_until:
            self._serve()

    def give_up(self, waiting: Waiting) -> None:
        """A request waits no longer."""
        if waiting in self._queue:
            self._leave(waiting)

    def recalled(self, accounts: Collection[str], mono: float) -> None:
        """Others are short of these accounts: what is free there goes back with the next call."""
        self._shortages.told(accounts, mono)

    def next_request(self, now: datetime, mono: float) -> LeaseRequest | None:
        """What to ask the authority now, if anything; `answered` or `unavailable` must follow."""
        if self._call is not None or mono < self._retry_at:
            return None
        returns = self._returns(now, mono)
        wants = self._wants(mono, returns)
        answers = self._shortages.unanswered
        if not (wants or returns or answers or (mono >= self._renew_at and self.pools.outstanding())):
            return None
        self._sequence += 1
        self._shortages.answer(answers)
        self._call = _Call(mono, returns, answers)
        return LeaseRequest(
            self._holder, self._sequence, wants, returns, answers, self._last(mono) if self._queue else _NONE
        )

    def answered(self, reply: LeaseReply, now: datetime, mono: float) -> None:
        """The authority answered the call under way."""
        sent = self._call.sent if self._call else mono
        self._call = None
        self._failures = 0
        self._leased_until = sent + LEASE_SECONDS - SAFETY_SECONDS
        self._renew_at = sent + LEASE_SECONDS / 3
        for granted in reply.granted:
            self.pools.grant(granted.account, granted.amount)
        if not self._queue:
            return
        heard: dict[str, Standing] = {one.account: one for one in (*reply.others, *reply.refused)}
        asked = [waiting for waiting in self._queue if waiting.asking]
        for waiting in asked:
            waiting.asking, waiting.answered = False, True
        self._serve()
        for waiting in asked:
            if waiting.outcome is None:
                self._not_served(waiting, heard, reply.recalling, now, mono)

    def unavailable(self, mono: float, *, nothing_done: bool = True) -> None:
        """The authority did not answer the call under way, and did nothing.

        Where that is not certain, what the call returned is not used any more: it may be somebody else's by now.
        """
        call, self._call = self._call, None
        if call is not None:
            self._shortages.not_answered(call.answers)
            for account, amount in call.returns.items() if nothing_done else ():
                self.pools.grant(account, amount)
        self._failures += 1
        self._retry_at = mono + min(FIRST_BACKOFF_SECONDS * 2.0 ** min(self._failures - 1, 10), LONGEST_BACKOFF_SECONDS)
        for waiting in tuple(self._queue):
            self._without_authority(waiting, live=mono < self._leased_until)

    def next_due(self, mono: float) -> float | None:
        """Seconds until `next_request` may have something to ask without anything else happening."""
        due = [waiting.parked_until for waiting in self._queue if not waiting.asking]
        if any(True for _ in self.pools):
            due.append(self._round_at)
        if self._shortages.unanswered:
            due.append(mono)
        return max(0.0, min(due) - mono, self._retry_at - mono) if due else None

    @property
    def is_low(self) -> bool:
        """Whether a pool runs dry while nobody waits: a call ahead of need is worth it."""
        return self._call is None and not self.pools.low <= self._asked_ahead

    def _returns(self, now: datetime, mono: float) -> dict[str, int]:
        """What goes back: what is idle, once a round; what is free where others are short; all of it, when the leases
        were not renewed in time."""
        self._shortages.end(mono)
        new_round = mono >= self._round_at
        if new_round:
            self._round_at = mono + ROUND_SECONDS
            self._asked_ahead.clear()
            self.pools.next_round(now)
        if mono >= self._leased_until:
            return self.pools.withdraw_all()
        returns = self.pools.withdraw_all(self._shortages) if self._shortages else {}
        if new_round:
            returns |= self.pools.withdraw_idle(now, self._awaited() if self._queue else _NOTHING)
        return returns

    def _awaited(self) -> Counter[str]:
        """What those who wait may take of each account."""
        awaited = Counter[str]()
        for waiting in self._queue:
            for need in waiting.needs:
                awaited[need.id] += need.most
        return awaited

    def _wants(self, mono: float, returns: Mapping[str, int]) -> tuple[Want, ...]:
        """One want for each account that is short: for the first who waits, for all, and ahead."""
        first: dict[str, AccountNeed] = {}
        total: dict[str, int] = {}
        for waiting in self._queue:
            if waiting.parked_until > mono:
                continue
            waiting.asking = True
            for need in waiting.needs:
                first.setdefault(need.id, need)
                total[need.id] = total.get(need.id, 0) + need.most
                self.pools.opened(need)
        wants = [self._want(account, need.least, total[account]) for account, need in first.items()]
        low = self.pools.low - self._asked_ahead
        self._asked_ahead |= low
        self.pools.low.clear()
        ahead = [self._want(account, 0, 0) for account in low if account not in first and account not in returns]
        # Who waits and needs nothing (a model that is free) asks all the same: else nobody would answer.
        return tuple(wants + [want for want in ahead if want.ahead])

    def _last(self, mono: float) -> frozenset[str]:
        """The accounts that are asked for by those alone who give up when they are refused now."""
        leaving = [
            one for one in self._queue if one.asking and one.patient_until is not None and one.patient_until <= mono
        ]
        if not leaving:
            return _NONE
        staying = [one for one in self._queue if one not in leaving]
        return frozenset(_accounts_of(leaving) - _accounts_of(staying))

    def _want(self, account: str, least: int, total: int) -> Want:
        pool = self.pools.of(account)
        free, demand = (pool.free, pool.demand) if pool else (0, 0)
        need = max(0, least - free)
        desired = max(need, total - free)
        spare = max(0, free - total)
        ahead = 0 if spare >= demand or account in self._shortages else demand - spare
        return Want(account, need, desired, ahead)

    def _serve(self) -> None:
        """Serve who can be served, in order: in full, or with less once the authority has had its say."""
        for waiting in tuple(self._queue):
            free = {need.id: self.pools.free(need.id) for need in waiting.needs}
            hold: Hold | None = None
            if all(free[need.id] >= need.most for need in waiting.needs):
                hold = waiting.demand.full
            elif waiting.answered and not waiting.asking:
                hold = waiting.demand.within(free)
            if hold is not None:
                self._serve_with(waiting, hold)

    def _not_served(
        self, waiting: Waiting, heard: Mapping[str, Standing], recalling: frozenset[str], now: datetime, mono: float
    ) -> None:
        """Refuse, or let wait once more. Who is short of an account that did not refuse asks again with the next call."""
        refusals = tuple(
            judged(refusal, need.least, self._unreported(need.id), now)
            for need in waiting.needs
            if isinstance(refusal := heard.get(need.id), Refusal)
            and _refuses(refusal, need.least - self.pools.free(need.id))
        )
        if not refusals:
            return
        first = waiting.patient_until is None
        waiting.patient_until = waiting.patient_until or mono + RECALL_SECONDS
        may_come = first or (mono < waiting.patient_until and any(refusal.account in recalling for refusal in refusals))
        if may_come and all(refusal.reason is Reason.CONTENDED for refusal in refusals):
            waiting.parked_until = min(mono + PATIENCE_SECONDS, waiting.patient_until)
        else:
            self._resolve(waiting, Refused(refusals, self._others(waiting, heard, refusals)))

    def _others(
        self, waiting: Waiting, heard: Mapping[str, Standing], refusals: Iterable[Refusal]
    ) -> tuple[Standing, ...]:
        """How the limits stand that do not refuse a request."""
        refusing = {refusal.account for refusal in refusals}
        return tuple(
            noted(heard[need.id], need.least, self._unreported(need.id))
            for need in waiting.needs
            if need.id in heard and need.id not in refusing
        )

    def _unreported(self, account: str) -> int:
        pool = self.pools.of(account)
        return pool.unreported if pool else 0

    def _without_authority(self, waiting: Waiting, *, live: bool) -> None:
        """Serve out of live leases what can be, then let `whenStale` decide."""
        waiting.asking = False
        free = {need.id: self.pools.free(need.id) if live else 0 for need in waiting.needs}
        short = [need for need in waiting.needs if free[need.id] < need.least]
        closed = next((n.bound.limit for n in short if n.bound.limit.when_stale is WhenStale.FAIL_CLOSED), None)
        if closed is not None:
            self._resolve(waiting, Stale(closed))
            return
        opened = {need.id for need in short}
        hold = waiting.demand.within({account: amount for account, amount in free.items() if account not in opened})
        if hold is not None:
            self._serve_with(waiting, hold.without(opened) if opened else hold)

    def _serve_with(self, waiting: Waiting, hold: Hold) -> None:
        self.pools.take(waiting.needs, hold)
        self._resolve(waiting, hold)

    def _resolve(self, waiting: Waiting, outcome: Outcome) -> None:
        waiting.outcome = outcome
        self._leave(waiting)
        self.resolved.append(waiting)

    def _leave(self, waiting: Waiting) -> None:
        self._queue.remove(waiting)
        self._wanted.subtract(need.id for need in waiting.needs)
        self._wanted += Counter()


def _accounts_of(some: Iterable[Waiting]) -> set[str]:
    return {need.id for one in some for need in one.needs}


def _refuses(refusal: Refusal, missing: int) -> bool:
    """Whether a refusal of an account holds for a request that misses so much there: a blocked account refuses all (B3)."""
    return missing > 0 and (refusal.phase is Phase.INSUFFICIENT or missing > refusal.available)
