"""What pages and API ask: the policy in force and the ledger, put together into values to show.

All of it is synchronous and reads only; the server calls it on its reading threads. Every question takes one
`PolicySet`, so that an answer is of one policy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce

from tollkeeper.accounts import Account, Phase
from tollkeeper.counted import Counted, is_keyed
from tollkeeper.counters import Tally, Unbooked
from tollkeeper.errors import InvalidValue
from tollkeeper.forecast import Forecast, NotEnoughHistory, forecast, slice_seconds_for
from tollkeeper.limits import AccountId, Limit, LimitRef
from tollkeeper.policy import CurrentPolicy, PolicySet
from tollkeeper.views import (
    ALL_USAGES,
    AccountTotals,
    LedgerReader,
    Order,
    Page,
    PaymentRow,
    PeriodRow,
    SpendPoint,
    UsageChoices,
    UsageFilter,
    UsageRow,
)
from tollkeeper.windows import Window, midnight, zone_named
from tollkeeper_console.errors import NotFound

MOST_CHOICES = 100
"""How many accounts of one limit are offered for choice: the tightest first."""

MOST_PERIODS = 60
"""How many periods of an account are offered for choice: the last ones."""

MISSED_AFTER = timedelta(minutes=1)
"""Gateways report within seconds what they have settled."""

_PREPAID_HISTORY = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class LimitView:
    """One limit in its current window: `shown` is its tightest account, `tenants` the paths it is bound to."""

    limit: Limit
    window: Window
    shown: Account
    phase: Phase
    accounts: int
    tenants: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AccountView:
    """One account with its sums. `today` begins at `zone`'s midnight; `choices` are the limit's
    accounts in this window."""

    limit: Limit
    id: AccountId
    account: Account
    window: Window
    phase: Phase
    current: Window
    tenants: tuple[str, ...]
    totals: AccountTotals
    today: int
    last_hour: int
    zone: str
    choices: tuple[Account, ...]
    now: datetime

    @property
    def is_current(self) -> bool:
        """Whether the window shown is the one that counts now."""
        return self.window == self.current


@dataclass(frozen=True, slots=True)
class Queries:
    """The console's questions. `clock` tells the time (aware)."""

    reader: LedgerReader
    policy: CurrentPolicy
    clock: Callable[[], datetime]

    def limits(self, kind: str | None = None) -> tuple[LimitView, ...]:
        """All limits in force, or those of one kind; the worst first, then by use and name."""
        policy, now = self.policy.value, self.clock()
        views = [self._limit_view(limit, policy, now) for limit in policy.limits if kind in (None, limit.ref.kind)]
        return tuple(sorted(views, key=_urgency))

    def account(self, ref: LimitRef, chosen: str | None = None) -> AccountView:
        """One account of a limit: the chosen one, else the tightest of its window. Raises `NotFound`."""
        policy, now = self.policy.value, self.clock()
        limit = _limit_of(policy, ref)
        current = limit.calendar.window_at(now)
        known = self.reader.accounts_of(limit, current.key())
        account_id, account = self._chosen(limit, chosen, known, now)
        window = limit.calendar.window_at(account.window_start or now) if account.window_end else current
        zone = limit.calendar.zone
        return AccountView(
            limit=limit,
            id=account_id,
            account=account,
            window=window,
            phase=account.phase(limit),
            current=current,
            tenants=_paths(limit, policy),
            totals=self.reader.totals(account.id),
            today=self._spent_since(
                account.id, midnight(now.astimezone(zone_named(zone)).date(), zone_named(zone)), now
            ),
            last_hour=self._spent_since(account.id, now - timedelta(hours=1), now),
            zone=zone,
            choices=self._choices(limit, window, current, known),
            now=now,
        )

    def unbooked(self) -> Sequence[Unbooked]:
        """What gateways have settled, by their own count, and is not booked."""
        return self.reader.unbooked()

    def missed(self) -> Tally:
        """All of that whose gateways have not counted on for `MISSED_AFTER`: what else there is is on its way."""
        before = self.clock() - MISSED_AFTER
        return reduce(Tally.plus, (one.missing for one in self.unbooked() if one.told <= before), Tally())

    def periods(self, view: AccountView) -> Sequence[PeriodRow]:
        """The account's last periods, the newest first."""
        return self.reader.periods(view.account.id, most=MOST_PERIODS)

    def usages(
        self, view: AccountView, page: int, size: int, order: Order, wanted: UsageFilter = ALL_USAGES
    ) -> Page[UsageRow]:
        """One page of the account's usages that a filter lets through."""
        return self.reader.usages(view.account.id, page=page, size=size, order=order, wanted=wanted)

    def usage_choices(self, view: AccountView, most: int) -> UsageChoices:
        """What occurs among the account's usages."""
        return self.reader.usage_choices(view.account.id, most=most)

    def usage(self, view: AccountView, usage: str) -> UsageRow:
        """One usage of the account. Raises `NotFound`."""
        row = self.reader.usage(view.account.id, usage)
        if row is None:
            raise NotFound(f"usage {usage} is not booked on {view.limit.ref}")
        return row

    def payments(self, view: AccountView, page: int, size: int, order: Order) -> Page[PaymentRow]:
        """One page of the account's grants."""
        return self.reader.payments(view.account.id, page=page, size=size, order=order)

    def spend(self, view: AccountView, slice_seconds: int, since: datetime) -> Sequence[SpendPoint]:
        """The account's spending since an instant, in slices; empty ones are left out."""
        return self.reader.spend(view.account.id, slice_seconds=slice_seconds, since=since, until=view.now)

    def forecast(self, view: AccountView) -> Forecast | NotEnoughHistory:
        """What the account will have spent at its window's end (R42). A window that is over has nothing to forecast."""
        if not view.is_current:
            return NotEnoughHistory("This period is over: nothing is left to forecast.")
        since = view.window.start if view.window.end else view.now - _PREPAID_HISTORY
        points = self.spend(view, slice_seconds_for(view.window), since)
        return forecast(points, account=view.account, minimum=view.limit.minimum, now=view.now)

    def _limit_view(self, limit: Limit, policy: PolicySet, now: datetime) -> LimitView:
        window = limit.calendar.window_at(now)
        counted = Counted(limit, window, self.reader.accounts_of(limit, window.key()))
        return LimitView(
            limit, window, counted.tightest(), counted.phase(), len(counted.accounts), _paths(limit, policy)
        )

    def _choices(self, limit: Limit, window: Window, current: Window, known: Sequence[Account]) -> tuple[Account, ...]:
        """The accounts of the window that is shown, of which those of the current one are known already."""
        if not is_keyed(limit):
            return ()
        accounts = known if window == current else self.reader.accounts_of(limit, window.key())
        return _tightest_first(limit, accounts)[:MOST_CHOICES]

    def _chosen(
        self, limit: Limit, chosen: str | None, known: Sequence[Account], now: datetime
    ) -> tuple[AccountId, Account]:
        if chosen is not None:
            account_id = _account_id(chosen, limit.ref)
            account = self.reader.account(chosen)
            if account is None:
                raise NotFound(f"{limit.ref} has no account {chosen}")
            return account_id, account
        if known:
            account = _tightest_first(limit, known)[0]
            return AccountId.parse(account.id), account
        account_id, window = limit.account_at((), now)
        allocation = 0 if is_keyed(limit) else limit.allocation
        return account_id, Account(account_id.text, window.start, window.end, allocation)

    def _spent_since(self, account: str, since: datetime, now: datetime) -> int:
        return sum(point.amount for point in self.reader.spend(account, slice_seconds=60, since=since, until=now))


def cumulated(account: Account, points: Sequence[SpendPoint]) -> list[int]:
    """What had been spent at the end of each point; the last is what is spent now."""
    total = account.spent - sum(point.amount for point in points)
    sums: list[int] = []
    for point in points:
        total += point.amount
        sums.append(total)
    return sums


def first_usage(view: AccountView) -> datetime:
    """When the account's history begins: its first usage, or now where there is none."""
    return view.totals.first_usage or view.now


def _urgency(view: LimitView) -> tuple[int, int, LimitRef]:
    return -view.phase.severity, -view.shown.utilization(view.limit), view.limit.ref


def _tightest_first(limit: Limit, accounts: Sequence[Account]) -> tuple[Account, ...]:
    return tuple(sorted(accounts, key=lambda one: (-one.phase(limit).severity, -one.utilization(limit), one.id)))


def _limit_of(policy: PolicySet, ref: LimitRef) -> Limit:
    limit = policy.limit(ref)
    if limit is not None:
        return limit
    raise NotFound(f"{ref} is not in force: it does not exist, or its conditions say why it does not apply")


def _account_id(text: str, ref: LimitRef) -> AccountId:
    try:
        parsed = AccountId.parse(text)
    except InvalidValue as error:
        raise NotFound(str(error)) from error
    if parsed.ref != ref:
        raise NotFound(f"account {text} is not one of {ref}")
    return parsed


def _paths(limit: Limit, policy: PolicySet) -> tuple[str, ...]:
    return tuple(sorted(policy.tenants[name].path if name in policy.tenants else name for name in limit.tenants))


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)
