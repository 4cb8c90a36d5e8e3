"""From what queries answer to what the API says."""

from collections.abc import Sequence
from datetime import UTC, datetime

from tollkeeper.accounts import Account, Phase
from tollkeeper.amounts import Unit, format_amount, format_money
from tollkeeper.costs import cost_parts, dollars
from tollkeeper.counters import Unbooked
from tollkeeper.forecast import COVERAGE, Forecast, NotEnoughHistory
from tollkeeper.limits import Limit
from tollkeeper.views import PaymentRow, PeriodRow, UsageRow
from tollkeeper.windows import Window
from tollkeeper_console.display import page_path, wall
from tollkeeper_console.models import (
    CostPartItem,
    ForecastShape,
    LimitDetail,
    LimitItem,
    PaymentItem,
    PeriodItem,
    PeriodList,
    SpendItem,
    SpendSeries,
    UnbookedItem,
    UsageItem,
    WindowShape,
)
from tollkeeper_console.queries import AccountView, LimitView
from tollkeeper_console.series import Series


def limit_item(view: LimitView) -> LimitItem:
    """A row of the overview."""
    return LimitItem.model_validate(
        _limit_fields(view.limit, view.shown, view.window, view.phase, view.tenants) | {"accounts": view.accounts}
    )


def limit_detail(view: AccountView) -> LimitDetail:
    """One account with its sums."""
    unit, account, totals = view.limit.unit, view.account, view.totals
    own = {
        "accounts": max(1, len(view.choices)),
        "key": list(view.id.key),
        "allocation": format_amount(account.allocation, unit),
        "rolled_over": format_amount(account.rolled_over, unit),
        "granted": format_amount(account.granted, unit),
        "borrowed": format_amount(account.borrowed, unit),
        "lent": format_amount(account.lent, unit),
        "unreconciled": format_amount(account.unreconciled, unit),
        "overshoot": format_amount(account.overshoot, unit),
        "usages": totals.usages,
        "tokens": totals.tokens,
        "cost": format_money(totals.cost),
        "unpriced": totals.unpriced,
        "today": format_amount(view.today, unit),
        "last_hour": format_amount(view.last_hour, unit),
        "first_usage": totals.first_usage,
        "last_usage": totals.last_usage,
        "as_of": view.now,
    }
    return LimitDetail.model_validate(_limit_fields(view.limit, account, view.window, view.phase, view.tenants) | own)


def _limit_fields(
    limit: Limit, account: Account, window: Window, phase: Phase, tenants: tuple[str, ...]
) -> dict[str, object]:
    unit = limit.unit
    return {
        "kind": limit.ref.kind,
        "namespace": limit.ref.namespace,
        "name": limit.ref.name,
        "limit": limit.ref.limit,
        "unit": unit.value,
        "tenants": list(tenants),
        "enforcement": limit.enforcement.value,
        "phase": phase.value,
        "account": account.id,
        "balance": format_amount(account.balance, unit),
        "minimum": format_amount(limit.minimum, unit),
        "remaining": format_amount(account.room(limit), unit),
        "spent": format_amount(account.spent, unit),
        "held": format_amount(account.held, unit),
        "cap": format_amount(account.cap(limit), unit),
        "utilization": account.utilization(limit),
        "window": WindowShape(start=_real(window.start), end=window.end, time_zone=limit.calendar.zone),
        "page": page_path(limit.ref),
    }


def _real(start: datetime) -> datetime | None:
    """A prepaid window began at the beginning of time; nobody wants to read that."""
    return start if start > datetime(1970, 1, 1, tzinfo=UTC) else None


def usage_item(row: UsageRow, unit: Unit) -> UsageItem:
    """One usage."""
    return UsageItem(
        id=row.id,
        upstream_id=row.upstream_id,
        time=row.time,
        tenant=row.tenant,
        user=row.user,
        assistant=row.assistant,
        feature=row.feature,
        api_key=row.api_key,
        provider=row.provider,
        model=row.model,
        tool=row.tool,
        buckets=dict(row.buckets),
        tokens=row.tokens,
        cost=None if row.cost is None else format_money(row.cost),
        price=row.price,
        cost_parts=[
            CostPartItem(name=part.name, count=part.count, unit_price=dollars(part.unit_price), cost=dollars(part.cost))
            for part in cost_parts(row.buckets, row.unit_prices)
        ],
        amount=format_amount(row.amount, unit),
        balance=format_amount(row.balance, unit),
        seconds=row.seconds,
        status=row.status,
        outcome=row.outcome,
        streamed=row.streamed,
        estimated=row.estimated,
        transaction=row.transaction,
    )


def unbooked_item(one: Unbooked) -> UnbookedItem:
    """What a gateway has settled and is not booked."""
    requests, tokens, cost = one.missing
    return UnbookedItem(
        gateway=one.instance, requests=requests, tokens=tokens, cost=format_amount(cost, Unit.USD), told=one.told
    )


def payment_item(row: PaymentRow, unit: Unit) -> PaymentItem:
    """One payment."""
    return PaymentItem(
        time=row.time,
        amount=format_amount(row.amount, unit),
        reason=row.reason,
        reference=row.reference,
        grant=row.grant,
        balance=format_amount(row.balance, unit),
        transaction=row.transaction,
        expires_at=row.expires_at,
    )


def period_list(rows: Sequence[PeriodRow]) -> PeriodList:
    """The periods of an account."""
    items = [
        PeriodItem(account=row.account, start=_real(row.start) if row.start else None, end=row.end) for row in rows
    ]
    return PeriodList(items=items)


def forecast_shape(seen: Forecast | NotEnoughHistory, unit: Unit) -> ForecastShape:
    """A forecast, or why there is none."""
    if isinstance(seen, NotEnoughHistory):
        return ForecastShape(status="NotEnoughHistory", reason=seen.reason, interval_percent=COVERAGE)
    return ForecastShape(
        status="Known",
        low=format_amount(seen.low, unit),
        median=format_amount(seen.median, unit),
        high=format_amount(seen.high, unit),
        interval_percent=COVERAGE,
        probability_of_exceeding=seen.probability_of_exceeding,
        exhaustion=seen.exhaustion,
        until=seen.until,
    )


def spend_series(view: AccountView, series: Series) -> SpendSeries:
    """A series with its forecast."""
    unit, zone = view.limit.unit, view.zone
    return SpendSeries(
        unit=unit.value,
        time_zone=zone,
        range=series.range,
        slice_seconds=series.slice_seconds,
        since=series.since,
        since_wall=wall(series.since, zone),
        now=view.now,
        now_wall=wall(view.now, zone),
        until=series.until,
        until_wall=wall(series.until, zone) if series.until else None,
        spent=format_amount(view.account.spent, unit),
        before=format_amount(series.before, unit),
        cap=format_amount(view.account.cap(view.limit), unit),
        points=[
            SpendItem(
                start=point.start,
                wall=wall(point.start, zone),
                amount=format_amount(point.amount, unit),
                cumulative=format_amount(cumulative, unit),
                requests=point.requests,
                tokens=point.tokens,
            )
            for point, cumulative in zip(series.points, series.cumulative, strict=True)
        ],
        forecast=forecast_shape(series.forecast, unit),
    )
