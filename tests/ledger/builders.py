"""Builders of policies, records and ledgers for the tests of this room."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from tollkeeper.amounts import Unit
from tollkeeper.leases import LeaseReply, LeaseRequest, Want
from tollkeeper.limits import Limit, LimitRef
from tollkeeper.policy import PolicySet, TenantNode
from tollkeeper.prices import PriceList
from tollkeeper.usage import Buckets, Caller, Charge, Outcome, UsageRecord
from tollkeeper.windows import Calendar, Every
from tollkeeper_ledger import bookkeeping, opening
from tollkeeper_ledger.sqlite import SqliteStore
from tollkeeper_ledger.work import Work

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
MONTHLY = Calendar.every(Every.MONTH, "Europe/Madrid")


def budget(name: str = "monthly", allocation: int = 1000, **changes: object) -> Limit:
    ref = LimitRef("TokenBudget", "team", name)
    defaults: dict[str, object] = {"tenants": frozenset({"team"}), "unit": Unit.USD, "calendar": MONTHLY}
    return Limit(ref=ref, allocation=allocation, **(defaults | changes))  # type: ignore[arg-type]


def policy(*limits: Limit) -> PolicySet:
    root = TenantNode("org", "org", ("org",), "Organization", frozenset(), {})
    team = TenantNode("team", "org/team", ("team", "org"), "Team", frozenset({"team"}), {})
    return PolicySet(1, {"org": root, "team": team}, limits, PriceList.bundled())


def account_of(limit: Limit, now: datetime = NOW) -> str:
    return limit.account_at((), now)[0].text


def record(
    holder: str, *charges: Charge, request: str | None = None, cost: int | None = None, **changes: object
) -> UsageRecord:
    values: dict[str, object] = {
        "id": request or str(uuid4()),
        "upstream_id": "chatcmpl-1",
        "holder": holder,
        "caller": Caller("team", user="alice"),
        "provider": "openai",
        "model": "gpt-5",
        "tool": None,
        "buckets": Buckets(input=100, output=10),
        "cost": cost if cost is not None else (charges[0].amount if charges else None),
        "price": "openai/gpt-5@test",
        "admitted_at": NOW,
        "finished_at": NOW + timedelta(seconds=1),
        "status": 200,
        "outcome": Outcome.OK,
        "streamed": False,
        "estimated": False,
        "charges": charges,
    }
    return UsageRecord(**(values | changes))  # type: ignore[arg-type]


class Desk:
    """A ledger file and the steps on it, each committed at once."""

    def __init__(self, path: Path, *limits: Limit) -> None:
        self.store = SqliteStore(path)
        self.policy = policy(*limits)
        self.sequence = 0

    def commit(self, work: Work) -> None:
        self.store.commit(work)

    def lease(
        self,
        holder: str,
        *wants: Want,
        returns: dict[str, int] | None = None,
        now: datetime = NOW,
        sequence: int | None = None,
    ) -> LeaseReply:
        self.sequence += 1
        request = LeaseRequest(holder, sequence or self.sequence, wants, returns or {})
        work = Work(self.store)
        reply = bookkeeping.lease(work, self.policy, request, now, now)
        self.commit(work)
        return reply

    def charge(self, *records: UsageRecord, now: datetime = NOW) -> None:
        work = Work(self.store)
        bookkeeping.charge_all(work, self.policy, records, now)
        self.commit(work)

    def lapse(self, holder: str) -> None:
        work = Work(self.store)
        bookkeeping.lapse(work, self.policy, holder, NOW)
        self.commit(work)

    def close(self, holder: str, kept: dict[str, int] | None = None) -> None:
        work = Work(self.store)
        bookkeeping.close(work, self.policy, holder, kept or {}, NOW)
        self.commit(work)

    def open(self, limit: Limit, now: datetime = NOW) -> None:
        work = Work(self.store)
        opening.open_account(work, limit, (), now)
        self.commit(work)
