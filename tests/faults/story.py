"""A fixed history of one tenant's budgets, as calls in the order in which an authority gets them; on either storage.

Every way the ledger may change is in it: openings, leases, returns, usage in time and late, lapses, holders that come
back, grants that burn and expire, loans, corrections, ends of holders, and a month's end with what is carried over it.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from tests.ledger.builders import NOW, account_of, budget, grant, policy, record
from tollkeeper.counters import SETTLED, Counters
from tollkeeper.errors import InvalidValue
from tollkeeper.leases import LeaseRequest, Want
from tollkeeper.lenders import with_lenders
from tollkeeper.usage import Charge, UsageRecord
from tollkeeper_ledger import bookkeeping, corrections, lending, opening
from tollkeeper_ledger.corrections import Change
from tollkeeper_ledger.storage import Store
from tollkeeper_ledger.work import Work
from tollkeeper_ledger.writer import LedgerWriter

_TENANTS = policy().tenants
_OF_TEAM = budget(allocation=1000, rollover=300, minimum=0, borrowing=200)
_OF_ORG = budget("whole", allocation=5000, minimum=0, lending=400, tenants=frozenset({"org"}))
(TEAM, WHOLE), _ = with_lenders((_OF_TEAM, _OF_ORG), _TENANTS)
POLICY = policy(TEAM, WHOLE)
DECEMBER = NOW + timedelta(days=14)
OF_TEAM, OF_WHOLE = account_of(TEAM), account_of(WHOLE)
BEYOND_ITS_OWN = 1200

Step = Callable[[Work], object]


@dataclass(frozen=True, slots=True)
class Call:
    """What one caller asks, all in one commit; asked again, it answers what it did, or that it was done before."""

    name: str
    steps: tuple[Step, ...]


def lease(holder: str, sequence: int, amount: int = 0, returns: int = 0) -> Step:
    """Ask for an amount of both budgets, and give some of the first one back."""
    wants = tuple(Want(account, amount, amount) for account in (OF_TEAM, OF_WHOLE) if amount)
    request = LeaseRequest(holder, sequence, wants, {OF_TEAM: returns} if returns else {})
    return lambda work: bookkeeping.lease(work, POLICY, request, NOW, NOW)


def used(request: str, holder: str, amount: int) -> UsageRecord:
    """A request that was charged to both budgets, out of a hold of 50."""
    charges = (Charge(OF_TEAM, amount, 50), Charge(OF_WHOLE, amount, 50))
    return record(holder, *charges, request=request)


def report(*records: UsageRecord, now: datetime = NOW) -> Step:
    """Book settled requests."""
    return lambda work: bookkeeping.charge_all(work, POLICY, records, now)


def counted(holder: str, requests: int) -> Step:
    """What a holder has settled so far."""
    return lambda work: work.count(Counters(holder, {SETTLED[0]: requests}), NOW)


def end(holder: str, kept: int = 0) -> Step:
    """End a holder that keeps something of the first budget."""
    return lambda work: bookkeeping.close(work, POLICY, holder, {OF_TEAM: kept} if kept else {}, NOW)


def opened(now: datetime) -> Step:
    """Look at the first budget at a time: its account is opened, its grants expire."""
    return lambda work: lending.open_settled(work, POLICY, TEAM, (), now)


def granted(name: str, amount: int, expires: datetime | None = None) -> Step:
    """A grant to the first budget."""
    booked = grant(amount, name, expires_at=expires)
    return lambda work: opening.book_grant(work, booked, TEAM, NOW)


def once(step: Callable[[Work], object], before: str) -> Step:
    """A correction, whose caller takes "it was booked before" for an answer."""

    def run(work: Work) -> object:
        try:
            return step(work)
        except InvalidValue as error:
            if before not in str(error):
                raise
            return str(error)

    return run


def adjusted(account: str, amount: int, reference: str, now: datetime = NOW) -> Step:
    """An operator's adjustment."""
    change = Change(account, amount)
    return once(
        lambda work: corrections.adjust(work, POLICY, change, reason="wrong", reference=reference, now=now),
        "booked already",
    )


def refunded(request: str) -> Step:
    """A whole request given back."""
    return once(
        lambda work: corrections.refund(work, POLICY, request, cost=None, reason="poor", now=NOW), "refunded already"
    )


CALLS: tuple[Call, ...] = (
    Call("open", (opened(NOW),)),
    Call("lease", (lease("g1", 1, 300),)),
    Call("report", (report(used("r1", "g1", 30), used("r2", "g1", 45)), counted("g1", 2))),
    Call("group", (lease("g2", 1, 200), report(used("r3", "g1", 20)), granted("top-up", 500), lease("g1", 2, 0, 60))),
    Call("count", (counted("g1", 4), counted("g1", 3))),
    Call("cross", (lambda work: bookkeeping.cross(work, OF_TEAM, 25),)),
    Call("lapse", (lambda work: bookkeeping.lapse(work, POLICY, "g2", NOW),)),
    Call("report of a lapsed holder", (report(used("r4", "g2", 50)),)),
    Call("a lapsed holder is back", (lease("g2", 2, 10),)),
    Call("adjust", (adjusted(OF_TEAM, 15, "INC-1"),)),
    Call("refund", (refunded("r1"),)),
    Call("a grant that ends", (granted("short", 40, NOW + timedelta(hours=1)),)),
    Call("it expires", (opened(NOW + timedelta(hours=2)),)),
    Call("borrow", (lease("g1", 3, BEYOND_ITS_OWN),)),
    Call("close with an open hold", (end("g1", kept=50),)),
    Call("December", (opened(DECEMBER),)),
    Call("late, into November", (report(used("r5", "g1", 35), now=DECEMBER), counted("g1", 3))),
    Call("adjust November", (adjusted(OF_TEAM, -25, "INC-2", DECEMBER),)),
    Call("close", (end("g2"),)),
)


class Caller:
    """Makes calls through a ledger's writer; `committed` is told on the writing thread before an answer is delivered."""

    def __init__(self, store: Store, committed: Callable[[], None] = lambda: None) -> None:
        self._writer = LedgerWriter(store, lambda _accounts: committed())

    def make(self, call: Call) -> None:
        """Make a call: all of its steps wait before the writer takes them, so that one commit holds them."""
        gate = threading.Event()
        first = self._writer.submit(lambda _: gate.wait(60))
        answers = [self._writer.submit(step) for step in call.steps]
        gate.set()
        first.result(120)
        for answer in answers:
            answer.result(120)

    def close(self) -> None:
        """Close the ledger."""
        self._writer.close()
