# ruff: noqa: ARG002 - an empty ledger answers all questions alike
"""Many holders, and authorities, in a time of its own: real desks, real recalls, real bookkeeping; an event queue in place of
tasks and clocks."""

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

from tests.ledger.builders import NOW, policy, record
from tests.model.board import Board
from tests.model.office import Office
from tollkeeper.accounts import Account
from tollkeeper.leases import LEASE_TIME, RECALL_SECONDS, LeaseReply, LeaseRequest, Reason
from tollkeeper.limits import Limit
from tollkeeper.policy import BoundAccount, PolicySet
from tollkeeper.usage import Charge
from tollkeeper_ledger import bookkeeping, opening
from tollkeeper_ledger.state import BookedGrant, BookedShare, Holder, Lease
from tollkeeper_ledger.work import Work
from tollkeeper_sidecar.demand import Demand, HardAccounts, Hold, Tokens, demand_of
from tollkeeper_sidecar.desk import Desk
from tollkeeper_sidecar.waiting import Refused, Waiting

SLOWEST_MESSAGE_SECONDS = 0.2
SLOWEST_QUESTION_SECONDS = 0.05
"""To the database, or back."""

REPORT_SECONDS = 1.0


class Nothing:
    """A ledger's `State` before its first commit: all that happens stays in one `Work`."""

    def account(self, account: str) -> tuple[Account, str] | None:
        return None

    def with_held(self, account: str) -> tuple[Account, str, int] | None:
        return None

    def previous_account(self, account: str) -> Account | None:
        return None

    def overlapping(self, account: str, now: datetime) -> Account | None:
        return None

    def held_out_of_loans(self, lender: str) -> Mapping[str, int]:
        return {}

    def next_account(self, account: Account) -> Account | None:
        return None

    def leases_of(self, holder: str) -> Mapping[str, Lease]:
        return {}

    def holder(self, holder: str) -> Holder:
        return Holder(holder)

    def booked_among(self, names: Collection[str]) -> Collection[str]:
        return ()

    def transaction(self, request: str) -> Mapping[str, Any] | None:
        return None

    def grant(self, grant: str) -> BookedGrant | None:
        return None

    def shares_of(self, account: str) -> Sequence[BookedShare]:
        return ()

    def crossed(self, account: str, threshold: int) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller asks of which limits, how long its answer takes, and how much of its hold it uses."""

    demand: Demand
    seconds: float = 0.0
    percent: int = 100


@dataclass(eq=False, slots=True)
class Member:
    """One holder; `free_since` tells for each account since when something has been free there without a break."""

    name: str
    desk: Desk
    office: Office
    waiting: dict[Waiting, Request] = field(default_factory=dict)
    free_since: dict[str, float] = field(default_factory=dict)
    calls: int = 0
    calling: bool = False
    due: float = 0.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How one request was answered, and when. Of one that was refused as contended: how long after its first refusal by the
    authority (`patient`), and for how long others have had something free where it was refused, or anybody something that
    a loan stands for which it lacks, at most (`idle`)."""

    member: str
    outcome: object
    at: float
    patient: float = 0.0
    idle: float = 0.0


class Timeline:
    """Holders of authorities that share a ledger, dealt to them in turn. `come` says who comes when; `run` lets time pass,
    and checks I1 after everything that happens."""

    def __init__(
        self,
        limits: Sequence[Limit],
        holders: int,
        seed: int = 0,
        *,
        authorities: int = 1,
        in_force: PolicySet | None = None,
    ) -> None:
        self.policy = in_force or policy(*limits)
        self.accounts = {limit.account_at((), NOW)[0].text: limit for limit in limits}
        self.work = Work(Nothing())
        self.mono = 0.0
        self.ended: list[Ended] = []
        self.in_flight: Counter[str] = Counter()
        self._random = Random(seed)  # noqa: S311 - delays, not secrets
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self.board = Board()
        self.offices = [Office(self, self.board if authorities > 1 else None) for _ in range(authorities)]
        self.members = [
            Member(f"g{number}", Desk(f"g{number}", 1000), self.offices[number % authorities])
            for number in range(holders)
        ]
        for member in self.members:
            member.office.listening.add(member.name)
        for account, limit in self.accounts.items():
            opening.open_account(self.work, limit, (), NOW)
            assert self.work.account(account) is not None

    @property
    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.mono)

    def request(
        self, prompt: int, output: int, *limits: Limit, seconds: float = 0.0, percent: int = 100, lower: bool = False
    ) -> Request:
        """A request that falls under these limits."""
        hard = [(one.account_at((), NOW)[0].text, BoundAccount(one, *one.account_at((), NOW))) for one in limits]
        demand = demand_of(Tokens(prompt, 1, 0), None, output, output, HardAccounts(hard), lower=lower)
        return Request(demand, seconds, percent)

    def come(self, at: float, which: int, request: Request) -> None:
        """A caller comes to one holder."""
        self.at(at, lambda: self._arrive(self.members[which], request))

    def run(self, until: float) -> None:
        """Let everything happen that happens until then."""
        while self._events and self._events[0][0] <= until:
            self.mono, _, happens = heapq.heappop(self._events)
            happens()
            self._check()
        self.mono = until

    def account(self, account: str) -> Account:
        known = self.work.account(account)
        assert known is not None
        return known[0]

    def free(self, account: str) -> dict[str, int]:
        """What each holder has leased there and not handed out."""
        return {member.name: member.desk.pools.free(account) for member in self.members}

    def at(self, time: float, happens: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (time, self._number, happens))

    def _later(self, happens: Callable[[], None]) -> None:
        self.at(self.mono + self._random.choice([0.001, 0.02, SLOWEST_MESSAGE_SECONDS]), happens)

    def _arrive(self, member: Member, request: Request) -> None:
        place = member.desk.arrive(request.demand, self.mono)
        if isinstance(place, Hold):
            self._start(member, request, place)
        else:
            member.waiting[place] = request
        self._wake(member)

    def _wake(self, member: Member) -> None:
        if member.calling:
            return
        request = member.desk.next_request(self.now, self.mono)
        if request is not None:
            member.calling = True
            member.calls += 1
            self._later(lambda: self._called(member, request))
        elif (seconds := member.desk.next_due(self.mono)) is not None:
            due = member.due = self.mono + seconds + 0.001
            self.at(due, lambda: self._wake(member) if member.due == due else None)

    def _called(self, member: Member, request: LeaseRequest) -> None:
        if member.office.dead:
            return
        reply = bookkeeping.lease(self.work, self.policy, request, self.now, self.now + LEASE_TIME)
        answer = member.office.answered(request, reply)
        self._later(lambda: self._hear(member, answer))

    # What authorities meet: see `office.World`.

    def question(self, happens: Callable[[], None]) -> None:
        self.at(self.mono + self._random.choice([0.001, SLOWEST_QUESTION_SECONDS]), happens)

    def holders_of(self, accounts: Collection[str]) -> Mapping[str, Collection[str]]:
        return {
            account: [one.name for one in self.members if self.work.lease(one.name, account).outstanding]
            for account in accounts
        }

    def tell(self, holder: str) -> None:
        member = next(one for one in self.members if one.name == holder)
        self._later(lambda: self._recall(member))

    def _recall(self, member: Member) -> None:
        if not member.office.dead:
            member.desk.recalled(member.office.recalls.take(member.name), self.mono)
            self._wake(member)

    def _hear(self, member: Member, reply: LeaseReply) -> None:
        member.calling = False
        member.desk.answered(reply, self.now, self.mono)
        self._collect(member)
        self._wake(member)

    def _collect(self, member: Member) -> None:
        for waiting in member.desk.resolved:
            request = member.waiting.pop(waiting)
            if isinstance(waiting.outcome, Hold):
                self._start(member, request, waiting.outcome)
            else:
                self.ended.append(self._refused(member, waiting))
        member.desk.resolved.clear()

    def _start(self, member: Member, request: Request, hold: Hold) -> None:
        self.ended.append(Ended(member.name, hold, self.mono))
        self.in_flight.update(hold.amounts)
        self.at(self.mono + request.seconds, lambda: self._settle(member, request, hold))

    def _refused(self, member: Member, waiting: Waiting) -> Ended:
        refused = waiting.outcome
        assert isinstance(refused, Refused)
        assert waiting.patient_until is not None
        patient = self.mono - waiting.patient_until + RECALL_SECONDS
        contended = all(one.reason is Reason.CONTENDED for one in refused.refusals)
        where = [one for one in refused.refusals if contended and one.held_by_others]
        looked_at = [(other, one.account) for other in self.members for one in where if other is not member]
        # A loan stands for what its own holder has left over, too.
        looked_at += [(other, name) for other in self.members for one in where for name in one.lent_to]
        since = [other.free_since.get(name, self.mono) for other, name in looked_at]
        return Ended(member.name, refused, self.mono, patient, self.mono - min(since, default=self.mono))

    def _settle(self, member: Member, request: Request, hold: Hold) -> None:
        each = tuple(amount * request.percent // 100 for amount in hold.each)
        used = hold.hard.by_account(each)
        member.desk.settle(hold, each, self.mono)
        self.in_flight.subtract(hold.amounts)
        self._collect(member)
        charges = [Charge(account, amount, hold.amounts[account]) for account, amount in used.items()]
        usage = record(member.name, *charges)
        self.at(self.mono + self._random.uniform(0.0, REPORT_SECONDS), lambda: self._report(member, usage, used))

    def _report(self, member: Member, usage: Any, used: Mapping[str, int]) -> None:
        bookkeeping.charge_all(self.work, self.policy, [usage], self.now)
        member.desk.pools.booked(used)

    def _check(self) -> None:
        for name, limit in self.accounts.items():
            account = self.account(name)
            assert account.spent + account.unreconciled + account.held <= account.cap(limit)
            assert account.overshoot == 0
            leased = sum(self.work.lease(one.name, name).outstanding for one in self.members)
            assert self.in_flight[name] + sum(self.free(name).values()) <= leased == account.held
        for member in self.members:
            for name in self.accounts:
                if member.desk.pools.free(name) > 0:
                    member.free_since.setdefault(name, self.mono)
                else:
                    member.free_since.pop(name, None)
