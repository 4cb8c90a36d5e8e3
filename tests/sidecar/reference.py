"""A reference authority: the core's lease rules over accounts in memory, one step at a time."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from tests.sidecar.builders import NOW, account_of
from tollkeeper import accounts as rules
from tollkeeper.accounts import Account
from tollkeeper.counters import Counters
from tollkeeper.errors import Unavailable
from tollkeeper.leases import LEASE_TIME, Granted, LeaseReply, LeaseRequest, Refusal, decide
from tollkeeper.limits import Limit
from tollkeeper.usage import UsageRecord


class ReferenceAuthority:
    """Grants by `leases.decide`, books by the accounts' own transitions. `away` makes it unavailable."""

    def __init__(self, limits: Sequence[Limit]) -> None:
        self.limits = {account_of(one): one for one in limits}
        self.accounts: dict[str, Account] = {
            account: Account(account, None, one.account_at((), NOW)[1].end, one.allocation)
            for account, one in self.limits.items()
        }
        self.leases: dict[tuple[str, str], int] = {}
        self.booked: dict[str, UsageRecord] = {}
        self.counters: dict[str, Mapping[str, int]] = {}
        self.closed: dict[str, Mapping[str, int]] = {}
        self.calls = 0
        self.away = False

    def outstanding(self, holder: str, account: str) -> int:
        return self.leases.get((holder, account), 0)

    def lease_now(self, request: LeaseRequest, now: datetime) -> LeaseReply:
        self.calls += 1
        for account, amount in request.returns.items():
            assert 0 < amount <= self.outstanding(request.holder, account)
            self._shift(request.holder, account, -amount)
        granted: list[Granted] = []
        refused: list[Refusal] = []
        for want in request.wants:
            verdict = decide(self.limits[want.account], self.accounts[want.account], want, now)
            if isinstance(verdict, Refusal):
                refused.append(verdict)
            else:
                self._shift(request.holder, want.account, verdict)
                granted.append(Granted(want.account, verdict, now + LEASE_TIME))
        return LeaseReply(tuple(granted), tuple(refused))

    def _shift(self, holder: str, account: str, amount: int) -> None:
        self.leases[holder, account] = self.outstanding(holder, account) + amount
        self.accounts[account] = rules.hold(self.accounts[account], amount)

    def book_now(self, holder: str, used: Mapping[str, int], now: datetime) -> None:
        for account, amount in used.items():
            stood = min(amount, self.outstanding(holder, account))
            self.leases[holder, account] = self.outstanding(holder, account) - stood
            self.accounts[account] = rules.charge(
                self.accounts[account], self.limits[account], amount, from_held=stood, from_unreconciled=0, now=now
            )

    async def lease(self, request: LeaseRequest) -> LeaseReply:
        if self.away:
            raise Unavailable("the reference authority is away")
        return self.lease_now(request, NOW)

    async def recalled(self, holder: str) -> Collection[str]:
        await asyncio.Event().wait()
        raise AssertionError(f"nobody recalls anything from {holder}")

    async def report(self, records: Sequence[UsageRecord], counters: Counters | None = None) -> None:
        if self.away:
            raise Unavailable("the reference authority is away")
        if counters is not None:
            self.counters[counters.instance] = counters.values
        for record in records:
            if record.id not in self.booked:
                self.booked[record.id] = record
                self.book_now(record.holder, {one.account: one.amount for one in record.charges}, NOW)

    async def close(self, holder: str, kept: Mapping[str, int]) -> None:
        if self.away:
            raise Unavailable("the reference authority is away")
        self.closed[holder] = dict(kept)
        for (of, account), amount in tuple(self.leases.items()):
            if of == holder:
                stays = min(amount, kept.get(account, 0))
                self._shift(holder, account, -amount)
                account_now = self.accounts[account]
                self.accounts[account] = replace(account_now, unreconciled=account_now.unreconciled + stays)
