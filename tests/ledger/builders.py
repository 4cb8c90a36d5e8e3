"""Builders of policies, records and ledgers for the tests of this room."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import uuid4

from tollkeeper.accounts import Account
from tollkeeper.amounts import Unit
from tollkeeper.books import Grant, GrantState
from tollkeeper.leases import LeaseReply, LeaseRequest, Want
from tollkeeper.limits import Limit, LimitRef
from tollkeeper.policy import PolicySet, TenantNode
from tollkeeper.prices import PriceList
from tollkeeper.usage import Buckets, Caller, Charge, Outcome, UsageRecord
from tollkeeper.windows import Calendar, Every
from tollkeeper_ledger import bookkeeping, opening
from tollkeeper_ledger.export import export
from tollkeeper_ledger.sqlite import SqliteStore
from tollkeeper_ledger.state import State
from tollkeeper_ledger.storage import LedgerAt, LedgerStoreReader, open_reader, open_store
from tollkeeper_ledger.work import Work

Result = TypeVar("Result")

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


def grant(amount: int, name: str = "top-up", **changes: object) -> Grant:
    values: dict[str, object] = {
        "id": f"uid-{name}", "name": name, "ref": budget().ref, "amount": amount, "reason": "TopUp", "reference": "INV-1",
        "priority": 10, "created": NOW, "effective_from": None, "expires_at": None,
    }  # fmt: skip
    return Grant(**(values | changes))  # type: ignore[arg-type]


class Desk:
    """A ledger and the steps on it, each committed at once; on whichever storage it lies."""

    def __init__(self, ledger: LedgerAt, *limits: Limit) -> None:
        self.ledger = ledger
        self.store = open_store(ledger)
        self.policy = policy(*limits)
        self.sequence = 0

    @property
    def sqlite(self) -> SqliteStore:
        """The store, for tests of SQLite alone."""
        assert isinstance(self.store, SqliteStore)
        return self.store

    def reopen(self) -> None:
        """Close the store and open it anew, as a restart does."""
        self.store.close()
        self.store = open_store(self.ledger)

    @contextmanager
    def reader(self) -> Iterator[LedgerStoreReader]:
        """Questions to what is committed."""
        reader = open_reader(self.ledger)
        try:
            yield reader
        finally:
            reader.close()

    def export(self) -> list[bytes]:
        """The whole chain, as lines."""
        with self.reader() as reader:
            return list(export(reader.chain()))

    def do(self, step: Callable[[Work], Result]) -> Result:
        """Run a step and commit it."""
        answers: list[Result] = []

        def change(state: State) -> Work:
            work = Work(state)
            answers[:] = [step(work)]
            return work

        self.store.transact(change)
        return answers[0]

    def commit(self, work: Work) -> None:
        self.sqlite.commit(work)

    def known(self, account: str) -> tuple[Account, str] | None:
        """An account as it is committed, and its unit."""
        return self.do(lambda work: work.account(account))

    def account(self, account: str) -> Account:
        known = self.known(account)
        assert known is not None
        return known[0]

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
        return self.do(lambda work: bookkeeping.lease(work, self.policy, request, now, now))

    def charge(self, *records: UsageRecord, now: datetime = NOW) -> None:
        self.do(lambda work: bookkeeping.charge_all(work, self.policy, records, now))

    def lapse(self, holder: str, now: datetime = NOW) -> None:
        self.do(lambda work: bookkeeping.lapse(work, self.policy, holder, now))

    def close(self, holder: str, kept: dict[str, int] | None = None, now: datetime = NOW) -> None:
        self.do(lambda work: bookkeeping.close(work, self.policy, holder, kept or {}, now))

    def open(self, limit: Limit, now: datetime = NOW) -> None:
        self.do(lambda work: opening.open_account(work, limit, (), now))

    def book_grant(self, grant: Grant, limit: Limit, now: datetime = NOW) -> GrantState:
        return self.do(lambda work: opening.book_grant(work, grant, limit, now))
