"""Statuses: what each object says of itself, computed whole from what is known (R11, B1 to B5, M1, K6).

Pure: the same accounts, problems and instant make the same status. Each function answers the JSON of `.status`; fields
that cannot be known are left out, never guessed. Conditions: `Ready` (in force), `WithinLimit` (room is left),
`UsageFresh` (the numbers are recent, I5), and `Stalled` where a person must change the object.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tollkeeper.accounts import Phase
from tollkeeper.amounts import Unit, format_amount
from tollkeeper.books import GrantState
from tollkeeper.conditions import Condition, written
from tollkeeper.counted import Counted, is_keyed, used
from tollkeeper.forecast import Forecast, NotEnoughHistory
from tollkeeper.limits import AccountId, Limit
from tollkeeper.policy import TenantNode
from tollkeeper.resources import PriceBook, TokenBudget, TokenGrant, TokenQuota
from tollkeeper.resources.pricebook import PriceBookColumns, PriceBookStatus
from tollkeeper.resources.tenant import TenantColumns, TenantEnforcement, TenantStatus
from tollkeeper.resources.tokenbudget import ForecastStatus, SpendForecast, TokenBudgetColumns, TokenBudgetStatus
from tollkeeper.resources.tokengrant import TokenGrantColumns, TokenGrantStatus
from tollkeeper.resources.tokenquota import LimitStatus, Span, TokenQuotaColumns, TokenQuotaStatus
from tollkeeper.windows import Window, format_column_time

NOTHING_TO_SAY = "-"
"""What a column shows where there is nothing to say."""


@dataclass(frozen=True, slots=True)
class Before:
    """What an object carries already: its generation, and the conditions whose times of transition are kept."""

    generation: int = 0
    conditions: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> "Before":
        """What a raw object carries."""
        status = raw.get("status") or {}
        return cls(int(raw["metadata"].get("generation") or 0), tuple(status.get("conditions") or ()))


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an object is not in force: a CamelCase reason, and a message with field path and remedy.

    One that `waits` may come right without anybody changing the object.
    """

    reason: str
    message: str
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Freshness:
    """When the numbers were read (`as_of`), and what kept them from being read again, if anything (I5)."""

    as_of: datetime
    stale_because: str | None = None

    def condition(self) -> Condition:
        """The `UsageFresh` condition."""
        if self.stale_because is not None:
            return Condition("UsageFresh", False, "LedgerUnreadable", self.stale_because)
        return Condition("UsageFresh", True, "UpToDate", "The numbers are those of the ledger")


def budget_status(
    budget: TokenBudget,
    before: Before,
    counted: Counted,
    forecast: Forecast | NotEnoughHistory | None,
    freshness: Freshness,
    now: datetime,
) -> dict[str, Any]:
    """The status of a TokenBudget that is in force. `forecast` is None where none is made (prepaid, or `per`)."""
    limit, total, phase = counted.limit, counted.total(), counted.phase()
    money = {name: format_amount(getattr(total, name), limit.unit) for name in _SHOWN}
    status = TokenBudgetStatus(
        observed_generation=before.generation,
        phase=phase,
        **money,
        utilization=counted.utilization(),
        period=_span(counted.window),
        keys=counted.keys(),
        top=counted.top(),
        forecast=_forecast(forecast, limit.unit),
        last_usage_time=_second(max((one.last_usage for one in counted.accounts if one.last_usage), default=None)),
        as_of=_second(freshness.as_of),
        columns=TokenBudgetColumns(
            forecast=_forecast_column(forecast, limit.unit),
            exhausted=_exhausted_column(forecast, budget.spec.zone),
            resets=_resets(counted.window, budget.spec.zone),
            as_of=format_column_time(freshness.as_of),
        ),
    )
    conditions = (
        Condition("Ready", True, "InForce", f"Binds {_bound(limit)}; {limit.enforcement} enforcement"),
        _within(phase, (_story(counted, budget.spec.zone),)),
        freshness.condition(),
    )
    return _with_conditions(status.to_wire(), conditions, before, now)


_SHOWN = ("balance", "allocation", "spent", "held", "granted", "rolled_over", "unreconciled", "overshoot")


def quota_status(
    quota: TokenQuota, before: Before, counted: Mapping[str, Counted], freshness: Freshness, now: datetime
) -> dict[str, Any]:
    """The status of a TokenQuota that is in force; `counted` holds its limits by name."""
    zones = {limit.name: limit.window.zone for limit in quota.spec.limits}
    ordered = [(name, counted[name]) for name in zones if name in counted]
    tightest = max(ordered, key=lambda pair: _limit_tightness(pair[1]), default=None)
    status = TokenQuotaStatus(
        observed_generation=before.generation,
        limits=tuple(_limit_status(name, one) for name, one in ordered),
        as_of=_second(freshness.as_of),
        columns=TokenQuotaColumns(
            limits=len(ordered),
            tightest=tightest[0] if tightest else NOTHING_TO_SAY,
            utilization=tightest[1].tightest().utilization(tightest[1].limit) if tightest else 0,
            resets=_resets(tightest[1].window, zones[tightest[0]]) if tightest else NOTHING_TO_SAY,
        ),
    )
    worst = max((one.phase() for _, one in ordered), key=lambda phase: phase.severity, default=Phase.SUFFICIENT)
    conditions = (
        Condition("Ready", True, "InForce", f"{len(ordered)} limits bind {_bound(ordered[0][1].limit)}"),
        _within(worst, tuple(_story(one, zones[name]) for name, one in ordered if one.phase() is worst)),
        freshness.condition(),
    )
    return _with_conditions(status.to_wire(), conditions, before, now)


def _limit_tightness(counted: Counted) -> tuple[int, int]:
    tightest = counted.tightest()
    return counted.phase().severity, tightest.utilization(counted.limit)


def _limit_status(name: str, counted: Counted) -> LimitStatus:
    limit, tightest = counted.limit, counted.tightest()
    return LimitStatus(
        name=name,
        phase=counted.phase(),
        window=_span(counted.window),
        used=format_amount(used(tightest), limit.unit),
        held=format_amount(tightest.held, limit.unit),
        remaining=format_amount(max(0, tightest.room(limit)), limit.unit),
        utilization=tightest.utilization(limit),
        keys=counted.keys(),
        top=counted.top(),
    )


def tenant_status(node: TenantNode, before: Before, binding: Iterable[Counted], now: datetime) -> dict[str, Any]:
    """The status of a Tenant in its place; `binding` are the limits that bind it, with the accounts it counts in."""
    namespaces = tuple(sorted(node.namespaces))
    enforcement = tenant_enforcement(binding)
    status = TenantStatus(
        observed_generation=before.generation,
        path=node.path,
        namespaces=namespaces,
        enforcement=enforcement,
        columns=TenantColumns(namespaces=",".join(namespaces) or NOTHING_TO_SAY),
    )
    owned = f"{len(namespaces)} namespaces" if len(namespaces) != 1 else "1 namespace"
    ready = Condition("Ready", True, "Resolved", f"{node.path} owns {owned}")
    return _with_conditions(status.to_wire(), (ready,), before, now)


def tenant_enforcement(binding: Iterable[Counted]) -> TenantEnforcement:
    """Blocked: a limit that closes gates is used up. Warned: one is low, or used up without blocking workloads."""
    phases = [(one.limit.blocks_workloads, one.phase()) for one in binding]
    if any(blocks and phase is Phase.INSUFFICIENT for blocks, phase in phases):
        return TenantEnforcement.BLOCKED
    warned = any(phase is not Phase.SUFFICIENT for _, phase in phases)
    return TenantEnforcement.WARNED if warned else TenantEnforcement.OPEN


def grant_status(
    grant: TokenGrant, before: Before, state: GrantState, unit: Unit, booked_at: datetime | None, now: datetime
) -> dict[str, Any]:
    """The status of a TokenGrant that is booked. `booked_at` stays what it was first."""
    remaining = format_amount(state.remaining, unit)
    status = TokenGrantStatus(
        observed_generation=before.generation,
        booked=True,
        transaction=state.transaction,
        remaining=remaining,
        booked_at=_second(booked_at),
        columns=_expiry(grant),
    )
    told = (
        ("Expired", f"Booked as {state.transaction}; what was left has lapsed")
        if state.expired
        else ("Booked", f"Booked as {state.transaction}; {remaining} {unit} is left")
    )
    return _with_conditions(status.to_wire(), (Condition("Ready", True, *told),), before, now)


def waiting_grant_status(grant: TokenGrant, before: Before, fault: Fault, now: datetime) -> dict[str, Any]:
    """The status of a TokenGrant that is not booked yet: its budget is missing, or its time has not come (B8)."""
    status = TokenGrantStatus(observed_generation=before.generation, booked=False, columns=_expiry(grant))
    return _with_conditions(status.to_wire(), _not_ready(fault), before, now)


def _expiry(grant: TokenGrant) -> TokenGrantColumns:
    return TokenGrantColumns(expires=format_column_time(grant.spec.expires_at) or NOTHING_TO_SAY)


def price_book_status(book: PriceBook, before: Before, now: datetime) -> dict[str, Any]:
    """The status of a PriceBook whose prices are in force."""
    models, tools = len(book.spec.models), len(book.spec.tools)
    status = PriceBookStatus(
        observed_generation=before.generation, columns=PriceBookColumns(models=models, tools=tools)
    )
    ready = Condition("Ready", True, "InForce", f"{models} prices of models and {tools} of tools are in force")
    return _with_conditions(status.to_wire(), (ready,), before, now)


def faulty_status(before: Before, fault: Fault, now: datetime) -> dict[str, Any]:
    """The status of any object that is not in force: why, and what to do; no numbers, for none are counted."""
    return _with_conditions({"observedGeneration": before.generation}, _not_ready(fault), before, now)


def _not_ready(fault: Fault) -> tuple[Condition, ...]:
    ready = Condition("Ready", False, fault.reason, fault.message)
    return (ready,) if fault.waits else (ready, Condition("Stalled", True, fault.reason, fault.message))


def _with_conditions(
    status: dict[str, Any], conditions: Iterable[Condition], before: Before, now: datetime
) -> dict[str, Any]:
    standing = written(conditions, before=before.conditions, generation=before.generation, now=now)
    return {**status, "conditions": standing}


def _within(phase: Phase, stories: Sequence[str]) -> Condition:
    return Condition("WithinLimit", phase is not Phase.INSUFFICIENT, str(phase), "; ".join(stories))


def _story(counted: Counted, zone: str) -> str:
    """One limit in a sentence: what is left, of how much, until when, and for whom if it has keys."""
    limit, account = counted.limit, counted.tightest()
    name = f"{limit.ref.limit}: " if limit.ref.limit else ""
    whose = f" for {','.join(AccountId.parse(account.id).key)}" if is_keyed(limit) and account.id else ""
    until = f", resets {format_column_time(counted.window.end, zone)} {zone}" if counted.window.end else ""
    left, credit = format_amount(account.balance, limit.unit), format_amount(account.credit, limit.unit)
    return f"{name}{left} {limit.unit} left of {credit}{whose}{until}"


def _bound(limit: Limit) -> str:
    names = sorted(limit.tenants)
    if limit.each_tenant:
        return f"{len(names)} tenants, each by itself"
    return f"tenant {names[0]}" if len(names) == 1 else f"{len(names)} tenants"


def _span(window: Window) -> Span:
    return Span(start=window.start if window.end else None, end=window.end)


def _resets(window: Window, zone: str) -> str:
    return format_column_time(window.end, zone) or NOTHING_TO_SAY


def _forecast(forecast: Forecast | NotEnoughHistory | None, unit: Unit) -> ForecastStatus | None:
    if forecast is None:
        return None
    if isinstance(forecast, NotEnoughHistory):
        return ForecastStatus(message=forecast.reason)
    low, median, high = (format_amount(amount, unit) for amount in (forecast.low, forecast.median, forecast.high))
    return ForecastStatus(
        spend=SpendForecast(low=low, median=median, high=high),
        exhaustion_time=_second(forecast.exhaustion),
        probability_of_exceeding=round(100 * forecast.probability_of_exceeding),
    )


def _forecast_column(forecast: Forecast | NotEnoughHistory | None, unit: Unit) -> str:
    if isinstance(forecast, Forecast):
        return format_amount(forecast.median, unit)
    return NOTHING_TO_SAY if forecast is None else "not enough history"


def _exhausted_column(forecast: Forecast | NotEnoughHistory | None, zone: str) -> str:
    when = forecast.exhaustion if isinstance(forecast, Forecast) else None
    return format_column_time(when, zone) or NOTHING_TO_SAY


def _second(when: datetime | None) -> datetime | None:
    return when.replace(microsecond=0) if when else None
