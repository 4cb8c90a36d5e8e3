"""A real ledger file with a policy over it, filled through the ledger's own bookkeeping."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from tollkeeper.amounts import Unit
from tollkeeper.books import Grant
from tollkeeper.limits import Dimension, Enforcement, Limit, LimitRef
from tollkeeper.policy import CurrentPolicy, PolicySet, TenantNode
from tollkeeper.prices import PriceList
from tollkeeper.usage import Buckets, Caller, Charge, Outcome, UsageRecord
from tollkeeper.windows import Calendar, Every
from tollkeeper_ledger import bookkeeping, opening
from tollkeeper_ledger.reader import SqliteReader
from tollkeeper_ledger.sqlite import SqliteStore
from tollkeeper_ledger.work import Work

NOW = datetime(2026, 11, 21, 15, 4, 30, tzinfo=UTC)
DOLLAR = 10**9
MONTHLY = Calendar.every(Every.MONTH, "Europe/Madrid")
DAILY = Calendar.every(Every.DAY, "Europe/Madrid")

BUDGET = Limit(
    ref=LimitRef("TokenBudget", "research", "monthly"),
    tenants=frozenset({"research"}),
    unit=Unit.USD,
    calendar=MONTHLY,
    allocation=250 * DOLLAR,
    minimum=-120_000_000,
    low_threshold=25 * DOLLAR,
)
LOW = replace(BUDGET, ref=LimitRef("TokenBudget", "support", "monthly"), allocation=40 * DOLLAR)
SPENT = replace(BUDGET, ref=LimitRef("TokenBudget", "growth", "campaign"), allocation=3 * DOLLAR, low_threshold=0)
QUOTA = Limit(
    ref=LimitRef("TokenQuota", "research", "assistants", "per-user-daily"),
    tenants=frozenset({"research"}),
    unit=Unit.TOKENS,
    calendar=DAILY,
    allocation=2_000_000,
    per=(Dimension.USER,),
    enforcement=Enforcement.SOFT,
)
UNIT_PRICES = {"input": "0.25", "cache_read": "0.025", "output": "2", "reasoning": "2", "request": "0.010880789"}
"""With the tokens of `usage` they come to 0.012120789 dollars."""

UNUSED = replace(BUDGET, ref=LimitRef("TokenBudget", "research", "spare"))


def policy(*limits: Limit) -> PolicySet:
    acme = TenantNode("acme", "acme", ("acme",), "Organization", frozenset(), {})
    research = TenantNode("research", "acme/research", ("research", "acme"), "Team", frozenset({"research"}), {})
    return PolicySet(1, {"acme": acme, "research": research}, limits, PriceList())


class Bookings:
    """A ledger file: book usages and grants, each committed at once; subscribers are told as the ledger tells them."""

    def __init__(self, path: Path, *limits: Limit, now: datetime = NOW) -> None:
        self.now = now
        self.store = SqliteStore(path)
        self.reader = SqliteReader(path)
        self.policy = CurrentPolicy(policy(*limits))
        self._told: list[Callable[[frozenset[str]], None]] = []

    def close(self) -> None:
        self.reader.close()
        self.store.close()

    def clock(self) -> datetime:
        return self.now

    def subscribe(self, tell: Callable[[frozenset[str]], None]) -> Callable[[], None]:
        self._told.append(tell)
        return lambda: self._told.remove(tell)

    def commit(self, work: Work) -> None:
        self.store.commit(work)
        for tell in tuple(self._told):
            tell(work.changed_accounts)

    def use(
        self, limit: Limit, *amounts: int, ago: timedelta = timedelta(0), user: str = "alice", **changes: object
    ) -> str:
        """Book requests that took so much of a limit, the last of them `ago`; the account's identity comes back."""
        key = (user,) if limit.per else ()
        when = self.now - ago
        work = Work(self.store)
        account = opening.open_account(work, limit, key, when).id
        records = [usage(account, amount, limit.unit, when, user, **changes) for amount in amounts]
        bookkeeping.charge_all(work, self.policy.value, records, when)
        self.commit(work)
        return account

    def pay(self, limit: Limit, amount: int, reference: str | None = "INV-2026-1123", reason: str = "TopUp") -> None:
        """Book a grant."""
        grant = Grant(
            str(uuid4()),
            f"top-up-{reference or 'none'}".lower(),
            limit.ref,
            amount,
            reason,
            reference,
            10,
            self.now,
            None,
            None,
        )
        work = Work(self.store)
        opening.book_grant(work, grant, limit, self.now)
        self.commit(work)


def usage(account: str, amount: int, unit: Unit, when: datetime, user: str, **changes: object) -> UsageRecord:
    record = UsageRecord(
        id=str(uuid4()),
        upstream_id=f"chatcmpl-{uuid4().hex[:12]}",
        holder="gateway-1",
        caller=Caller("research", user=user, assistant="summariser"),
        provider="openai",
        model="gpt-5-mini",
        tool=None,
        buckets=Buckets(input=1200, cache_read=800, output=340, reasoning=120),
        cost=amount if unit.is_money else 12_120_000,
        price="genai-prices/openai/gpt-5-mini@0.2.3",
        admitted_at=when - timedelta(seconds=2.4),
        finished_at=when,
        status=200,
        outcome=Outcome.OK,
        streamed=True,
        estimated=False,
        charges=(Charge(account, amount, 0),),
    )
    return replace(record, **changes)  # type: ignore[arg-type]


def month_of_work(books: Bookings, limit: Limit, daily: Sequence[int], start: datetime) -> None:
    """Three busy hours on each day, so that a month looks like one; each entry is a day's spending."""
    for day, amount in enumerate(daily):
        for hour in (9, 12, 16):
            when = start + timedelta(days=day, hours=hour, minutes=17 * (day % 3))
            if when < books.now:
                books.use(limit, amount // 3 // 2, amount // 3 - amount // 3 // 2, ago=books.now - when)
