"""The statuses of what limits: TokenBudget and TokenQuota, from their accounts (B1 to B5, M1, K6, R11, R42)."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from tollkeeper.accounts import Phase
from tollkeeper.amounts import NANODOLLARS_PER_DOLLAR, Unit, format_amount
from tollkeeper.conditions import Condition
from tollkeeper.counted import Counted, is_keyed, used
from tollkeeper.forecast import Forecast, NotEnoughHistory
from tollkeeper.key_statuses import key_counts, top_keys
from tollkeeper.limits import AccountId, Enforcement, Limit
from tollkeeper.priced import priced
from tollkeeper.resources import TokenBudget, TokenQuota
from tollkeeper.resources.standing import Span
from tollkeeper.resources.tokenbudget import ForecastStatus, SpendForecast, TokenBudgetColumns, TokenBudgetStatus
from tollkeeper.resources.tokenquota import LimitStatus, TokenQuotaColumns, TokenQuotaStatus
from tollkeeper.statuses import NOTHING_TO_SAY, Freshness, Subject, finished, to_the_second
from tollkeeper.unpriced import NOTHING_UNPRICED, Unpriced
from tollkeeper.windows import Window, format_column_time


def budget_status(
    budget: TokenBudget,
    subject: Subject,
    counted: Counted,
    forecast: Forecast | NotEnoughHistory | None,
    freshness: Freshness,
    now: datetime,
    unpriced: Unpriced = NOTHING_UNPRICED,
) -> dict[str, Any]:
    """The status of a TokenBudget that is in force. `forecast` is None where none is made (prepaid, or `per`).

    `unpriced` is the usage of models that have no price still (M6).
    """
    limit, total, phase = counted.limit, counted.total(), counted.phase()

    def said(amount: int) -> str:
        return format_amount(amount, limit.unit)

    status = TokenBudgetStatus(
        phase=phase,
        balance=said(total.balance),
        allocation=said(total.allocation),
        spent=said(total.spent),
        held=said(total.held),
        granted=said(total.granted),
        rolled_over=said(total.rolled_over),
        borrowed=said(total.borrowed),
        lent=said(total.lent),
        unreconciled=said(total.unreconciled),
        overshoot=said(total.overshoot),
        utilization=counted.utilization(),
        period=_span(counted.window),
        keys=key_counts(counted),
        top=top_keys(counted),
        forecast=_forecast(forecast, limit.unit),
        last_usage_time=to_the_second(
            max((one.last_usage for one in counted.accounts if one.last_usage), default=None)
        ),
        as_of=to_the_second(freshness.as_of),
        columns=TokenBudgetColumns(
            forecast=_forecast_column(forecast, limit.unit),
            exhausted=_exhausted_column(forecast, budget.spec.zone),
            resets=_resets(counted.window, budget.spec.zone),
            as_of=format_column_time(freshness.as_of),
        ),
    )
    conditions = (
        *subject.standing("InForce", f"Binds {_bound(limit)}; {limit.enforcement} enforcement"),
        _within(phase, (_story(counted, budget.spec.zone), *_consequence(counted, phase))),
        freshness.condition(),
        *priced(unpriced),
    )
    return _without_idle_top(finished(status, conditions, subject, now))


def quota_status(
    quota: TokenQuota,
    subject: Subject,
    counted: Mapping[str, Counted],
    freshness: Freshness,
    now: datetime,
    unpriced: Unpriced = NOTHING_UNPRICED,
) -> dict[str, Any]:
    """The status of a TokenQuota that is in force; `counted` holds its limits by name, `unpriced` is as for a budget."""
    zones = {limit.name: limit.window.zone for limit in quota.spec.limits}
    ordered = [(name, counted[name]) for name in zones if name in counted]
    tightest = max(ordered, key=lambda pair: _limit_tightness(pair[1]), default=None)
    status = TokenQuotaStatus(
        limits=tuple(_limit_status(name, one) for name, one in ordered),
        as_of=to_the_second(freshness.as_of),
        columns=TokenQuotaColumns(
            limits=len(ordered),
            tightest=tightest[0] if tightest else NOTHING_TO_SAY,
            utilization=tightest[1].tightest().utilization(tightest[1].limit) if tightest else 0,
            resets=_resets(tightest[1].window, zones[tightest[0]]) if tightest else NOTHING_TO_SAY,
        ),
    )
    worst = max((one.phase() for _, one in ordered), key=lambda phase: phase.severity, default=Phase.SUFFICIENT)
    conditions = (
        *subject.standing("InForce", _binding(ordered)),
        _within(worst, tuple(_story(one, zones[name]) for name, one in ordered if one.phase() is worst)),
        freshness.condition(),
        *priced(unpriced),
    )
    done = finished(status, conditions, subject, now)
    return {**done, "limits": [_without_idle_top(limit) for limit in done["limits"]]}


def _without_idle_top(status: dict[str, Any]) -> dict[str, Any]:
    """Where there are no keys, there are none to name."""
    return status if status.get("top") else {name: value for name, value in status.items() if name != "top"}


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
        keys=key_counts(counted),
        top=top_keys(counted),
    )


def _within(phase: Phase, stories: Sequence[str]) -> Condition:
    return Condition("WithinLimit", phase is not Phase.INSUFFICIENT, str(phase), "; ".join(stories))


def _story(counted: Counted, zone: str) -> str:
    """One limit in a sentence: what is left, of how much, until when, and for whom if it has keys."""
    limit, account = counted.limit, counted.tightest()
    if _awaits_grant(counted):
        return "Nothing is in it"
    name = f"{limit.ref.limit}: " if limit.ref.limit else ""
    whose = f" for {','.join(AccountId.parse(account.id).key)}" if is_keyed(limit) and account.id else ""
    until = f", resets {format_column_time(counted.window.end, zone)} {zone}" if counted.window.end else ""
    left, credit = format_amount(account.balance, limit.unit), format_amount(account.credit, limit.unit)
    floor = f" (may go to {format_amount(limit.minimum, limit.unit)})" if limit.minimum else ""
    return f"{name}{left} {limit.unit} left of {credit}{floor}{whose}{until}"


def _consequence(counted: Counted, phase: Phase) -> Iterator[str]:
    """What a used up budget does, and what ends it: only Hard blocks (B3), and workloads only where it gates them (K3)."""
    limit, ref = counted.limit, counted.limit.ref
    if phase is not Phase.INSUFFICIENT:
        return
    if limit.enforcement is not Enforcement.HARD:
        yield f"{limit.enforcement} enforcement refuses nothing"
        return
    refused = "requests and new workloads" if limit.blocks_workloads else "the requests it counts"
    if _awaits_grant(counted):
        yield f"{refused} are refused until a TokenGrant is created in {ref.namespace} with budgetRef.name: {ref.name}"
        return
    reset = "it resets or " if counted.window.end else ""
    remedy = "its allocation is raised" if is_keyed(limit) else "a TokenGrant is applied"
    yield f"{refused} are refused until {reset}{remedy}"


def _awaits_grant(counted: Counted) -> bool:
    """Whether a budget lives on grants and has none: nothing is wrong, and nothing resets it."""
    limit = counted.limit
    takes_grants = limit.ref.kind == "TokenBudget" and not is_keyed(limit)
    return takes_grants and limit.allocation == 0 and counted.total().is_empty


def _binding(ordered: Sequence[tuple[str, Counted]]) -> str:
    count = "1 limit binds" if len(ordered) == 1 else f"{len(ordered)} limits bind"
    return f"{count} {_bound(ordered[0][1].limit)}"


def _bound(limit: Limit) -> str:
    names = sorted(limit.tenants)
    if limit.each_tenant:
        return f"{len(names)} tenants, each by itself"
    return f"tenant {names[0]}" if len(names) == 1 else f"{len(names)} tenants"


def _span(window: Window) -> Span | None:
    return Span(start=window.start, end=window.end) if window.end else None


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
        exhaustion_time=to_the_second(forecast.exhaustion),
        probability_of_exceeding=round(100 * forecast.probability_of_exceeding),
    )


def _forecast_column(forecast: Forecast | NotEnoughHistory | None, unit: Unit) -> str:
    if isinstance(forecast, Forecast):
        return format_amount(_rounded(forecast.median, unit), unit)
    return NOTHING_TO_SAY if forecast is None else "not enough history"


def _rounded(estimate: int, unit: Unit) -> int:
    """An estimate of money to the cent, below a dollar to a hundredth of one: more digits would say more than is known."""
    if not unit.is_money:
        return estimate
    step = NANODOLLARS_PER_DOLLAR // (100 if abs(estimate) >= NANODOLLARS_PER_DOLLAR else 10_000)
    return (estimate + step // 2) // step * step


def _exhausted_column(forecast: Forecast | NotEnoughHistory | None, zone: str) -> str:
    when = forecast.exhaustion if isinstance(forecast, Forecast) else None
    return format_column_time(when, zone) or NOTHING_TO_SAY
