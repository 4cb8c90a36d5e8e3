"""Breakdowns out of hourly and daily sums: the same as adding up the requests themselves."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ledger.builders import NOW, Desk, account_of, budget, record
from tests.ledger.conftest import NewLedger
from tollkeeper.amounts import LARGEST
from tollkeeper.errors import InvalidValue
from tollkeeper.usage import Buckets, Caller, Charge, Outcome, UsageRecord
from tollkeeper.views import BreakdownRow
from tollkeeper_ledger.rollups import BY_DAY_ALONE, DIMENSIONS
from tollkeeper_ledger.storage import LedgerAt

LIMIT = budget(allocation=10**9)
ACCOUNT = account_of(LIMIT)
NAMES = st.sampled_from([None, "a", "b", "'; --"])
HOURS = st.integers(0, 80).map(lambda hour: NOW + timedelta(hours=hour))

records = st.builds(
    lambda tenant, user, session, key, workload, tool, model, tokens, cost, status, outcome, ended, took: record(
        "g",
        *([Charge(ACCOUNT, cost, 0)] if cost else []),
        caller=Caller(tenant, user=user, session=session, api_key=key, workload=workload),
        tool=tool,
        model=model,
        buckets=Buckets(input=tokens, cache_read=1, output=2, reasoning=tokens),
        status=status,
        outcome=outcome,
        admitted_at=ended - timedelta(milliseconds=took),
        finished_at=ended,
    ),
    st.sampled_from(["team", "other", "third"]),
    *[NAMES] * 5,
    st.sampled_from(["gpt-5", "o"]),
    st.integers(0, 100),
    st.none() | st.integers(1, 1000),
    st.sampled_from([200, 500]),
    st.sampled_from([Outcome.OK, Outcome.CUT_OFF]),
    st.builds(lambda hour, late: hour + timedelta(seconds=late), HOURS, st.integers(0, 3599)),
    st.integers(-9000, 9000),
)


def value_of(one: UsageRecord, dimension: str) -> str | None:
    where = one if dimension in ("provider", "model", "tool") else one.caller
    value: str | None = getattr(where, dimension)
    return value


def added_up(
    booked: Sequence[UsageRecord], dimension: str, tenants: set[str], since: datetime, until: datetime
) -> dict[str, BreakdownRow]:
    found: dict[str, list[UsageRecord]] = {}
    for one in booked:
        value = value_of(one, dimension)
        if value is not None and one.caller.tenant in tenants and since <= one.finished_at < until:
            found.setdefault(value, []).append(one)
    return {
        value: BreakdownRow(
            value,
            len(of),
            sum(one.status >= 400 or one.outcome is not Outcome.OK for one in of),
            sum(one.cost is None for one in of),
            sum(one.buckets.input_tokens for one in of),
            sum(one.buckets.output_tokens for one in of),
            sum(one.cost or 0 for one in of),
            sum(((one.finished_at - one.admitted_at) for one in of), timedelta()).total_seconds(),
        )
        for value, of in found.items()
    }


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.lists(records, max_size=30), st.sets(st.sampled_from(["team", "other", "nobody"])), HOURS, HOURS)
def test_a_breakdown_is_the_sum_of_the_requests_that_ended_in_its_time(
    new_ledger: NewLedger, booked: list[UsageRecord], tenants: set[str], since: datetime, until: datetime
) -> None:
    desk = Desk(new_ledger(), LIMIT)
    for start in range(0, len(booked), 9):
        desk.charge(*booked[start : start + 9])
    with desk.reader() as reader:
        for dimension in DIMENSIONS:
            first, after = since, until
            if dimension in BY_DAY_ALONE:
                first = since.replace(hour=0)
                after = (until + timedelta(hours=23)).replace(hour=0)
            rows = reader.breakdown(dimension, tenants=tenants, since=since, until=until)
            assert {row.value: row for row in rows} == added_up(booked, dimension, tenants, first, after)
            assert [row.cost for row in rows] == sorted((row.cost for row in rows), reverse=True)
    desk.store.close()


def test_a_dimension_that_there_is_not_is_named(ledger: LedgerAt) -> None:
    desk = Desk(ledger, LIMIT)
    with desk.reader() as reader, pytest.raises(InvalidValue, match="'colour' is no dimension of usage: use tenant,"):
        reader.breakdown("colour", tenants={"team"}, since=NOW, until=NOW)
    desk.store.close()


@pytest.mark.parametrize("at_once", [True, False])
def test_a_sum_that_no_column_holds_stays_at_the_largest_and_keeps_nothing_from_being_booked(
    ledger: LedgerAt, at_once: bool
) -> None:
    desk = Desk(ledger, LIMIT)
    dear = [record("g", cost=LARGEST), record("g", cost=LARGEST)]
    for report in [dear] if at_once else [[one] for one in dear]:
        desk.charge(*report)
    with desk.reader() as reader:
        day = NOW.replace(hour=0)
        (row,) = reader.breakdown("tenant", tenants={"team"}, since=day, until=day + timedelta(days=1))
    desk.store.close()
    assert (row.requests, row.cost) == (2, LARGEST)
