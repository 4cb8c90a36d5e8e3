"""What if (R46): the past replayed under other policies or prices. Pure.

What is replayed is what was booked: settled usages, grants and corrections, in the order in which they came. A request is
refused when a Hard limit has no room for the amount that it really used, when the limit is insufficient (B3), when it
refuses callers without a key (B9), or when a new price list does not know its model and a Hard limit of money applies
(M6). From its admission to its booking its amount is held, as it was.

What cannot be known: who was refused then and would be let in now (nothing of them is booked); holds, which are larger
than what is used, so that near a cap more is let in here than would have been; what callers would have done after a
refusal; leases that were out, so that B3 does not close an account here to a request that it demonstrably admitted with no
more balance than it has in the replay. Loans between budgets follow the ledger's rules.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from tollkeeper import accounts as rules
from tollkeeper.accounts import Account
from tollkeeper.amounts import Unit
from tollkeeper.grants import Purse, Share, carry
from tollkeeper.history import BookedCorrection, BookedCredit, BookedUsage, History
from tollkeeper.leases import Refusal, Want, decide, deciding
from tollkeeper.limits import Limit, LimitRef, Target
from tollkeeper.policy import BoundAccount, PolicySet
from tollkeeper.prices import PriceList
from tollkeeper.usage import Charge
from tollkeeper.whatif_loans import ReplayedLoans

FIRST_REFUSED = 1000
"""How many refused requests are told one by one."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that would have been refused: by which limit, and why. Amounts in nano-dollars."""

    request: str
    at: datetime
    tenant: str
    user: str | None
    model: str
    limit: str
    reason: str
    cost: int


@dataclass(slots=True)
class Tally:
    """Sums over requests. `booked` is what they cost then, `cost` what the admitted ones cost in the replay, `refused_cost`
    what the refused ones would have cost; nano-dollars, unpriced ones count nothing."""

    requests: int = 0
    refused: int = 0
    booked: int = 0
    cost: int = 0
    refused_cost: int = 0
    unpriced: int = 0
    first_refused: datetime | None = None

    def add(self, usage: BookedUsage, cost: int | None, refused: bool) -> None:
        """Count one request."""
        self.requests += 1
        self.booked += usage.record.cost or 0
        self.unpriced += cost is None
        if refused:
            self.refused += 1
            self.refused_cost += cost or 0
            self.first_refused = self.first_refused or usage.record.admitted_at
        else:
            self.cost += cost or 0


@dataclass(slots=True)
class WhatIf:
    """The answer: sums in all and by tenant, user, model and refusing limit; the first refusals one by one.

    `unpriced` counts requests by provider and model that the new prices do not know; `strangers` are tenants of the past
    that the policies do not have: nothing limits them.
    """

    total: Tally = field(default_factory=Tally)
    by_tenant: dict[str, Tally] = field(default_factory=dict)
    by_user: dict[str, Tally] = field(default_factory=dict)
    by_model: dict[str, Tally] = field(default_factory=dict)
    by_limit: dict[str, Tally] = field(default_factory=dict)
    refusals: list[Refused] = field(default_factory=list)
    unpriced: dict[str, int] = field(default_factory=dict)
    strangers: dict[str, int] = field(default_factory=dict)


def what_if(
    history: History,
    policy: PolicySet,
    prices: PriceList | None = None,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> WhatIf:
    """Replay a history under `policy`; with `prices`, at these instead of what was booked.

    The answer counts requests admitted in `[since, until)`; earlier ones are replayed too, since they fill the windows.
    """
    replay = _Replay(policy, prices)
    answer = WhatIf()

    def judge(usage: BookedUsage) -> None:
        verdict = replay.admit(usage)
        at = usage.record.admitted_at
        if (since is None or since <= at) and (until is None or at < until):
            _count(answer, usage, verdict, policy)

    steps: list[tuple[datetime, int, int, Callable[[], None]]] = []
    for number, credit in enumerate(history.credits):
        steps.append((credit.booked_at, 0, number, _later(replay.grant, credit)))
    for number, correction in enumerate(history.corrections):
        steps.append((correction.booked_at, 1, number, _later(replay.correct, correction)))
    for usage in history.usages:
        admitted = usage.record.admitted_at
        steps.append((admitted, 2, usage.place, _later(judge, usage)))
        steps.append((max(usage.booked_at, admitted), 3, usage.place, _later(replay.settle, usage)))
    for *_, step in sorted(steps, key=lambda step: step[:3]):
        step()
    return answer


def _later(step: Callable[[object], None] | Callable[..., None], of: object) -> Callable[[], None]:
    return lambda: step(of)


@dataclass(frozen=True, slots=True)
class _Verdict:
    cost: int | None
    limit: LimitRef | None = None
    reason: str = ""


def _count(answer: WhatIf, usage: BookedUsage, verdict: _Verdict, policy: PolicySet) -> None:
    record, refused = usage.record, verdict.limit is not None
    model = f"{record.provider}/{record.model}"
    groups = [
        (answer.by_tenant, record.caller.tenant),
        (answer.by_user, record.caller.user or "(none)"),
        (answer.by_model, model),
    ]
    if verdict.limit is not None:
        groups.append((answer.by_limit, str(verdict.limit)))
        if len(answer.refusals) < FIRST_REFUSED:
            answer.refusals.append(_told(usage, verdict, verdict.limit))
    for tally in (answer.total, *(group.setdefault(name, Tally()) for group, name in groups)):
        tally.add(usage, verdict.cost, refused)
    if verdict.cost is None:
        answer.unpriced[model] = answer.unpriced.get(model, 0) + 1
    if policy.tenants and record.caller.tenant not in policy.tenants:
        answer.strangers[record.caller.tenant] = answer.strangers.get(record.caller.tenant, 0) + 1


def _told(usage: BookedUsage, verdict: _Verdict, limit: LimitRef) -> Refused:
    record, caller = usage.record, usage.record.caller
    cost = verdict.cost or 0
    return Refused(
        record.id, record.admitted_at, caller.tenant, caller.user, record.model, str(limit), verdict.reason, cost
    )


class _Replay:
    """Accounts as they would have stood."""

    def __init__(self, policy: PolicySet, prices: PriceList | None) -> None:
        self._policy = policy
        self._prices = prices
        self._accounts: dict[str, Account] = {}
        self._limits: dict[str, Limit] = {}
        self._shares: dict[str, dict[str, Share]] = {}
        self._latest: dict[tuple[LimitRef, tuple[str, ...]], str] = {}
        self._next: dict[str, str] = {}
        self._in_flight: dict[int, tuple[tuple[str, int, int], ...]] = {}
        self._refused: set[str] = set()
        self._loans = ReplayedLoans(policy, self._accounts, self._open)

    def admit(self, usage: BookedUsage) -> _Verdict:
        """Judge a request, and hold what it takes."""
        record = usage.record
        target = Target(record.caller, record.provider, record.model)
        bound, keyless = self._policy.accounts_for(target, record.admitted_at)
        cost = self._cost(usage)
        verdict = self._verdict(usage, bound, keyless, cost)
        if verdict.limit is not None:
            self._refused.add(record.id)
            return verdict
        held = []
        for one in bound:
            account, amount = self._open(one.limit, one.account.key, record.admitted_at), self._amount(usage, one, cost)
            holding = self._need(usage, account, amount) if one.limit.is_hard else 0
            self._accounts[account.id] = rules.hold(account, holding)
            held.append((account.id, amount, holding))
        self._in_flight[usage.place] = tuple(held)
        return verdict

    def _verdict(
        self, usage: BookedUsage, bound: tuple[BoundAccount, ...], keyless: tuple[Limit, ...], cost: int | None
    ) -> _Verdict:
        if keyless:
            return _Verdict(cost, keyless[0].ref, "it refuses callers without a key")
        money = [one.limit for one in bound if one.limit.is_hard and one.limit.unit is Unit.USD]
        if cost is None and self._prices is not None and money:
            return _Verdict(cost, money[0].ref, "the model has no price")
        hard = (one for one in bound if one.limit.is_hard)
        refusals = [refusal for one in hard if (refusal := self._refusal(usage, one, cost))]
        if not refusals:
            return _Verdict(cost)
        first = deciding(refusals)
        return _Verdict(cost, first.ref, "used up" if first.available < first.need else "insufficient")

    def _refusal(self, usage: BookedUsage, one: BoundAccount, cost: int | None) -> Refusal | None:
        at = usage.record.admitted_at
        account = self._open(one.limit, one.account.key, at)
        need = self._need(usage, account, self._amount(usage, one, cost))
        account = self._loans.borrow(one.limit, account, need, at)
        verdict = decide(one.limit, account, Want(account.id, need, need), at)
        if isinstance(verdict, int):
            return None
        admitted = _charge_to(usage, account.id)
        had = usage.balances.get(account.id)
        was_let_in = admitted is not None and admitted.held > 0 and had is not None and account.balance >= had
        return None if was_let_in and verdict.available >= need else verdict

    def settle(self, usage: BookedUsage) -> None:
        """Charge a request that was let in."""
        for name, amount, held in self._in_flight.pop(usage.place, ()):
            limit, before = self._limits[name], self._expired(name, usage.booked_at)
            after = rules.charge(before, limit, amount, from_held=held, from_unreconciled=0, now=usage.booked_at)
            self._change(before, after, usage.booked_at)
            self._loans.borrow(
                limit, self._loans.give_back(limit, self._accounts[name], usage.booked_at), 0, usage.booked_at
            )

    def grant(self, credit: BookedCredit) -> None:
        """Put a grant in, if its budget stands in the same unit."""
        limit = self._policy.limit(credit.ref)
        if limit is None or limit.unit is not credit.unit or limit.per or limit.each_tenant:
            return
        account = self._open(limit, (), credit.booked_at)
        self._shares.setdefault(account.id, {})[credit.share.grant] = credit.share
        self._accounts[account.id] = rules.credit(account, limit, granted=credit.share.amount)

    def correct(self, correction: BookedCorrection) -> None:
        """Correct an account that stands in the replay too, unless the request was not let in."""
        account = self._accounts.get(correction.account)
        if account is not None and correction.request not in self._refused:
            limit, amount = self._limits[account.id], min(correction.amount, account.spent)
            self._change(account, rules.correct(account, limit, amount), correction.booked_at)

    def _cost(self, usage: BookedUsage) -> int | None:
        record = usage.record
        if self._prices is None or not record.buckets.total:
            return record.cost
        price = self._prices.find(record.provider, record.model, record.admitted_at)
        return price.cost(record.buckets) if price else None

    def _amount(self, usage: BookedUsage, one: BoundAccount, cost: int | None) -> int:
        """What the request takes; one that used nothing takes nothing."""
        buckets = usage.record.buckets
        return one.limit.amount_of(buckets, cost) if buckets.total else 0

    def _need(self, usage: BookedUsage, account: Account, amount: int) -> int:
        """What it is let in with: no more than was held for it then, where this very account held for it."""
        held = _charge_to(usage, account.id)
        return min(amount, held.held) if held is not None and held.held > 0 and held.amount == amount else amount

    def _open(self, limit: Limit, key: tuple[str, ...], at: datetime) -> Account:
        identity, window = limit.account_at(key, at)
        if identity.text in self._accounts:
            return self._expired(identity.text, at)
        fresh = Account(identity.text, window.start if window.end else None, window.end, allocation=0)
        previous = self._latest.get((limit.ref, key))
        earlier = self._accounts[previous].window_start if previous else None
        self._limits[identity.text] = limit
        rolled = 0
        shares: tuple[Share, ...] = ()
        if previous and earlier is not None and earlier < window.start:
            self._loans.give_back(limit, self._accounts[previous], at)
            over = carry(limit, self._expired(previous, at), self._alive(previous), fresh.window_start, at)
            rolled, shares = over.rolled_over, over.shares
            self._next[previous] = identity.text
        if previous is None or (earlier is not None and earlier < window.start):
            self._latest[limit.ref, key] = identity.text
        self._shares[identity.text] = {share.grant: share for share in shares}
        granted = sum(share.amount for share in shares)
        opened = rules.credit(fresh, limit, allocation=limit.allocation, rolled_over=rolled, granted=granted)
        self._accounts[identity.text] = opened
        return opened

    def _alive(self, name: str) -> tuple[Share, ...]:
        return tuple(self._shares.get(name, {}).values())

    def _expired(self, name: str, at: datetime) -> Account:
        """The account without the grants whose time is over."""
        account = self._accounts[name]
        due = Purse.of(account, self._alive(name), with_held=True).lapsing(at) if account.granted else {}
        for grant, left in due.items():
            account = rules.credit(account, self._limits[name], granted=-left)
            del self._shares[name][grant]
        self._accounts[name] = account
        return account

    def _change(self, before: Account, after: Account, at: datetime) -> None:
        """Take a change over, and hand on what it changes in what the next window was given."""
        self._accounts[after.id] = after
        following = self._next.get(after.id)
        if following is None:
            return
        limit, shares, account = self._limits[after.id], self._alive(after.id), self._accounts[following]
        was, now = (carry(limit, one, shares, account.window_start, at) for one in (before, after))
        standing, granted = self._shares[following], 0
        for share in {s.grant: s for s in (*was.shares, *now.shares)}.values():
            more = now.amounts.get(share.grant, 0) - was.amounts.get(share.grant, 0)
            if not more:
                continue
            known = standing.get(share.grant, replace(share, amount=0))
            standing[share.grant] = replace(known, amount=known.amount + more)
            granted += more
        rolled = now.rolled_over - was.rolled_over
        if rolled or granted:
            self._change(account, rules.credit(account, limit, rolled_over=rolled, granted=granted), at)


def _charge_to(usage: BookedUsage, account: str) -> Charge | None:
    return next((charge for charge in usage.record.charges if charge.account == account), None)


def breakdowns(answer: WhatIf) -> Iterator[tuple[str, Mapping[str, Tally]]]:
    """The groups of an answer, each with its name."""
    yield from (
        ("limit", answer.by_limit),
        ("tenant", answer.by_tenant),
        ("user", answer.by_user),
        ("model", answer.by_model),
    )
