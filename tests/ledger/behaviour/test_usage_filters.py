"""Usages found by what they were about: every filter against the same question asked of the records themselves."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ledger.builders import NOW, Desk, account_of, budget, record
from tests.ledger.conftest import NewLedger
from tollkeeper.usage import Caller, Charge, Outcome, UsageRecord
from tollkeeper.views import ALL_USAGES, UsageChoices, UsageFilter
from tollkeeper_ledger.storage import LedgerAt, LedgerStoreReader

LIMIT, OTHER = budget(allocation=10**9), budget("other", allocation=10**9)
ACCOUNT, OTHER_ACCOUNT = account_of(LIMIT), account_of(OTHER)

Value = TypeVar("Value")

NAMES = st.sampled_from([None, "a", "b", "'; --", "%", "É"])
MODELS = st.sampled_from(["gpt-5", "gpt-5-mini", "o%"])
STATUSES = st.sampled_from([200, 400, 429, 499, 500])
MINUTES = st.integers(0, 20 * 24 * 60)

records = st.builds(
    lambda user, assistant, feature, api_key, model, tool, status, outcome, minute, both: record(
        "g",
        Charge(ACCOUNT, 1, 0),
        *([Charge(OTHER_ACCOUNT, 1, 0)] if both else []),
        caller=Caller("team", user=user, assistant=assistant, feature=feature, api_key=api_key, session="s"),
        model=model,
        tool=tool,
        status=status,
        outcome=outcome,
        finished_at=NOW + timedelta(minutes=minute),
    ),
    *[NAMES] * 4,
    MODELS,
    NAMES,
    STATUSES,
    st.sampled_from(Outcome),
    MINUTES,
    st.booleans(),
)
wanted_filters = st.builds(
    UsageFilter,
    model=st.none() | MODELS,
    tool=NAMES,
    assistant=NAMES,
    api_key=NAMES,
    user=NAMES,
    feature=NAMES,
    status=st.none() | st.sampled_from([range(400, 500), range(200, 201), range(300, 400)]),
    outcome=st.none() | st.sampled_from(Outcome),
    since=st.none() | MINUTES.map(lambda minute: NOW + timedelta(minutes=minute)),
    until=st.none() | MINUTES.map(lambda minute: NOW + timedelta(minutes=minute)),
)
sparse = st.tuples(wanted_filters, st.sets(st.sampled_from([one.name for one in fields(UsageFilter)]), max_size=2)).map(
    lambda pair: UsageFilter(**{name: getattr(pair[0], name) for name in pair[1]})
)
"""Filters of one or two conditions: with all ten nothing would ever match."""


def lets_through(wanted: UsageFilter, one: UsageRecord) -> bool:
    caller = one.caller
    named = {"model": one.model, "tool": one.tool, "outcome": one.outcome} | {
        name: getattr(caller, name) for name in ("assistant", "api_key", "user", "feature")
    }
    return (
        all(getattr(wanted, name) in (None, value) for name, value in named.items())
        and (wanted.status is None or one.status in wanted.status)
        and (wanted.since is None or one.finished_at >= wanted.since)
        and (wanted.until is None or one.finished_at < wanted.until)
    )


def ids(reader: LedgerStoreReader, account: str, wanted: UsageFilter, size: int) -> tuple[list[str], int]:
    """All usages that are found, page by page, and how many there are said to be."""
    first = reader.usages(account, page=1, size=size, order="oldest", wanted=wanted)
    found = list(first.rows)
    for page in range(2, -(-first.total // size) + 2):
        found += reader.usages(account, page=page, size=size, order="oldest", wanted=wanted).rows
    return [row.id for row in found], first.total


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.lists(records, max_size=40), st.lists(sparse, min_size=1, max_size=8), st.integers(1, 12))
def test_a_filter_finds_and_counts_exactly_the_usages_that_it_lets_through(
    new_ledger: NewLedger, booked: list[UsageRecord], filters: list[UsageFilter], size: int
) -> None:
    desk = Desk(new_ledger(), LIMIT, OTHER)
    for start in range(0, len(booked), 7):
        desk.charge(*booked[start : start + 7])
    with desk.reader() as reader:
        for account in (ACCOUNT, OTHER_ACCOUNT):
            charged = [one for one in booked if any(charge.account == account for charge in one.charges)]
            for wanted in [*filters, ALL_USAGES]:
                expected = [one.id for one in charged if lets_through(wanted, one)]
                assert ids(reader, account, wanted, size) == (expected, len(expected))
            assert reader.usage_choices(account, most=100) == choices(charged)
    desk.store.close()


def choices(booked: Sequence[UsageRecord]) -> UsageChoices:
    def values(read: Callable[[UsageRecord], Value | None]) -> tuple[Value, ...]:
        return tuple(sorted({value for one in booked if (value := read(one)) is not None}, key=str))

    return UsageChoices(
        model=values(lambda one: one.model),
        tool=values(lambda one: one.tool),
        assistant=values(lambda one: one.caller.assistant),
        api_key=values(lambda one: one.caller.api_key),
        user=values(lambda one: one.caller.user),
        feature=values(lambda one: one.caller.feature),
        status=values(lambda one: one.status),
        outcome=values(lambda one: one.outcome),
    )


@pytest.fixture
def desk(ledger: LedgerAt) -> Iterator[Desk]:
    desk = Desk(ledger, LIMIT)
    yield desk
    desk.store.close()


def test_the_values_of_most_usages_are_offered_when_there_are_too_many(desk: Desk) -> None:
    users = [user for number in range(5) for user in [f"user-{number}"] * (number + 1)]
    desk.charge(*(record("g", Charge(ACCOUNT, 1, 0), caller=Caller("team", user=user)) for user in users))
    with desk.reader() as reader:
        assert reader.usage_choices(ACCOUNT, most=2).user == ("user-3", "user-4")


def test_an_account_that_nobody_opened_has_no_usages_and_no_choices(desk: Desk) -> None:
    nowhere = account_of(OTHER)
    with desk.reader() as reader:
        assert reader.usages(nowhere, page=1, wanted=UsageFilter(user="alice")).total == 0
        assert reader.usages(nowhere, page=1, wanted=UsageFilter(since=NOW)).total == 0
        assert reader.usage_choices(nowhere, most=10) == UsageChoices()


@pytest.mark.parametrize("length", [timedelta(hours=1), timedelta(days=30)], ids=["narrow", "wide"])
def test_a_time_range_holds_its_start_and_not_its_end_though_usages_were_booked_out_of_order(
    desk: Desk, length: timedelta
) -> None:
    def ended(name: str, when: datetime) -> UsageRecord:
        return record("g", Charge(ACCOUNT, 1, 0), request=name, finished_at=when)

    end = NOW + length
    tick = timedelta(microseconds=1)
    desk.charge(ended("late", end - tick), ended("start", NOW), ended("early", NOW - tick), ended("end", end))
    with desk.reader() as reader:
        page = reader.usages(ACCOUNT, page=1, order="oldest", wanted=UsageFilter(since=NOW, until=end))
    assert ([row.id for row in page.rows], page.total) == (["late", "start"], 2)
