"""Notices: a change is told once, in words that say what to do; what did not change is not told."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tollkeeper.accounts import Account
from tollkeeper.amounts import Unit
from tollkeeper.limits import AccountId, Dimension, Limit, LimitRef
from tollkeeper.notices import (
    Reason,
    budget_notices,
    gate_notices,
    grant_notices,
    quota_notices,
    series_of,
    threshold_notice,
    thresholds_reached,
)
from tollkeeper.windows import Calendar, Every


def budget(phase: str = "Sufficient", *, fresh: bool = True, overshoot: str = "0.00") -> dict[str, Any]:
    return {
        "phase": phase,
        "balance": "5.00",
        "overshoot": overshoot,
        "spent": "1.00",
        "conditions": [
            {"type": "UsageFresh", "status": str(fresh), "message": "the ledger is locked", "lastTransitionTime": "t"},
            {"type": "WithinLimit", "status": "True", "message": "5.00 USD left", "lastTransitionTime": "t"},
        ],
    }


@pytest.mark.parametrize(
    ("before", "now", "reason"),
    [
        ("Sufficient", "Low", Reason.BUDGET_LOW),
        ("Sufficient", "Insufficient", Reason.BUDGET_INSUFFICIENT),
        ("Low", "Insufficient", Reason.BUDGET_INSUFFICIENT),
        ("Insufficient", "Low", Reason.BUDGET_RESTORED),
        ("Insufficient", "Sufficient", Reason.BUDGET_RESTORED),
        ("Low", "Sufficient", None),
        ("Low", "Low", None),
        ("Insufficient", "Insufficient", None),
    ],
)
def test_a_change_of_phase_is_told(before: str, now: str, reason: Reason | None) -> None:
    told = [notice.reason for notice in budget_notices(budget(before), budget(now))]
    assert told == ([reason] if reason else [])


def test_a_new_budget_is_told_of_only_when_it_is_in_trouble() -> None:
    assert list(budget_notices({}, budget())) == []
    assert [notice.reason for notice in budget_notices({}, budget("Insufficient"))] == [Reason.BUDGET_INSUFFICIENT]


def test_used_up_is_a_warning_and_restored_is_none() -> None:
    (gone,) = budget_notices(budget("Low"), budget("Insufficient"))
    (back,) = budget_notices(budget("Insufficient"), budget())
    assert (gone.type, back.type) == ("Warning", "Normal")
    assert gone.message == "5.00 USD left"
    assert back.message == "5.00 USD left; it refuses nothing any more"


def test_stale_numbers_and_a_passed_bound_are_told_once() -> None:
    worse = budget(fresh=False, overshoot="0.000000003")
    assert [notice.reason for notice in budget_notices(budget(), worse)] == [Reason.USAGE_STALE, Reason.OVERSHOOT]
    assert list(budget_notices(worse, worse)) == []
    assert [notice.reason for notice in quota_notices({}, worse)] == [Reason.USAGE_STALE]


def test_a_grant_is_told_of_when_it_is_booked_and_when_it_expires() -> None:
    def grant(reason: str, *, booked: bool) -> dict[str, Any]:
        return {"booked": booked, "conditions": [{"type": "Ready", "reason": reason, "message": "m"}]}

    waiting, booked, expired = (
        grant("BudgetNotFound", booked=False),
        grant("Booked", booked=True),
        grant("Expired", booked=True),
    )
    assert [notice.reason for notice in grant_notices({}, waiting)] == []
    assert [notice.reason for notice in grant_notices(waiting, booked)] == [Reason.GRANT_BOOKED]
    assert [notice.reason for notice in grant_notices(booked, expired)] == [Reason.GRANT_EXPIRED]
    assert [notice.reason for notice in grant_notices(expired, expired)] == []


def test_a_gate_is_told_of_when_it_closes_or_opens() -> None:
    open_, shut = {"open": True, "since": "a"}, {"open": False, "message": "used up", "since": "b"}
    assert [notice.reason for notice in gate_notices({}, open_)] == []
    assert [notice.message for notice in gate_notices({}, shut)] == ["used up"]
    assert [notice.reason for notice in gate_notices(shut, open_)] == [Reason.GATE_OPENED]
    assert list(gate_notices(shut, {**shut, "message": "used up twice"})) == []


def test_every_threshold_that_is_reached_is_its_own_notice() -> None:
    """R8."""
    ref = LimitRef("TokenQuota", "research", "fair-use", "daily")
    limit = Limit(ref, frozenset({"research"}), Unit.TOKENS, Calendar.FOREVER, 1000, thresholds=(50, 80, 100))
    account = Account(AccountId(ref, ("ada",), "forever", Unit.TOKENS).text, None, None, allocation=1000, spent=800)
    assert thresholds_reached(limit, account) == {50, 80}
    notices = [threshold_notice(threshold, limit, account) for threshold in (50, 80)]
    assert len({notice.identity for notice in notices}) == 2
    assert notices[1].message == "80% of daily is used for ada: 200 Tokens is left of 1000"


def quota(every: Every, *per: Dimension, zone: str = "UTC") -> Limit:
    ref = LimitRef("TokenQuota", "research", "fair-use", "each")
    calendar = Calendar.every(every, zone)
    return Limit(ref, frozenset({"research"}), Unit.TOKENS, calendar, 1000, per=per, thresholds=(50, 80))


def used_by(limit: Limit, at: datetime, spent: int, *key: str) -> Account:
    identity, window = limit.account_at(key, at)
    return Account(identity.text, window.start, window.end, allocation=1000, spent=spent)


def identity(
    limit: Limit, day: int, hour: int, minute: int = 0, *, key: tuple[str, ...] = (), threshold: int = 50
) -> str | None:
    at = datetime(2026, 11, day, hour, minute, tzinfo=UTC)
    series = series_of(threshold, limit, used_by(limit, at, 500, *key))
    return series.identity if series else None


def test_a_threshold_of_all_keys_of_a_window_is_one_series() -> None:
    daily = quota(Every.DAY, Dimension.USER)
    ada = identity(daily, 21, 12, key=("ada",))
    assert ada is not None
    assert ada == identity(daily, 21, 13, key=("bob",))
    assert ada not in (identity(daily, 22, 12, key=("ada",)), identity(daily, 21, 12, key=("ada",), threshold=80))


@pytest.mark.parametrize("per", [(), (Dimension.USER,)])
def test_a_threshold_of_all_windows_of_an_hour_is_one_series(per: tuple[Dimension, ...]) -> None:
    by_the_minute, keys = quota(Every.MINUTE, *per), [(f"user-{number}",) if per else () for number in range(2)]
    first = identity(by_the_minute, 21, 12, 0, key=keys[0])
    assert first is not None
    assert first == identity(by_the_minute, 21, 12, 59, key=keys[1])
    assert first != identity(by_the_minute, 21, 13, 0, key=keys[0])


@pytest.mark.parametrize("every", [Every.HOUR, Every.DAY, Every.MONTH])
def test_a_threshold_of_one_account_for_an_hour_or_longer_is_told_by_itself(every: Every) -> None:
    """R8: once a window."""
    assert identity(quota(every), 21, 12) is None


def test_a_series_of_keys_names_those_that_used_most_and_counts_the_rest() -> None:
    daily, at = quota(Every.DAY, Dimension.USER), datetime(2026, 11, 21, tzinfo=UTC)
    spent = {"ada": 510, "bob": 1300, "cyd": 499, "dan": 970, "eve": 700, "fay": 500}
    accounts = [used_by(daily, at, amount, user) for user, amount in spent.items()]
    series = series_of(50, daily, accounts[0])
    assert series is not None
    told = series.notice(accounts[0], accounts, 5)
    assert told.says(5) == (
        "50% of each is used for 5 keys until 2026-11-22 00:00 UTC: bob (130%), dan (97%), eve (70%) and 2 more"
    )
    first = series.notice(accounts[0], accounts[:1], 1)
    assert first.says(1) == "50% of each is used for ada: 490 Tokens is left of 1000 until 2026-11-22 00:00 UTC"


def test_a_name_of_any_length_leaves_room_for_the_others() -> None:
    daily, at = quota(Every.DAY, Dimension.USER), datetime(2026, 11, 21, tzinfo=UTC)
    accounts = [used_by(daily, at, 900 - number, f"{number}" * 256) for number in range(4)]
    series = series_of(50, daily, accounts[0])
    assert series is not None
    assert series.notice(accounts[0], accounts, 4).message.endswith("… (89%) and 1 more")


def test_a_series_of_windows_says_how_many_reached_it_in_which_hour_on_the_limits_own_clock() -> None:
    by_the_minute = quota(Every.MINUTE, zone="Europe/Madrid")
    account = used_by(by_the_minute, datetime(2026, 11, 21, 12, 7, tzinfo=UTC), 800)
    series = series_of(80, by_the_minute, account)
    assert series is not None
    told = series.notice(account, [account], 36)
    one = "80% of each is used: 200 Tokens is left of 1000 until 2026-11-21 13:08 Europe/Madrid"
    assert told.says(1) == one
    assert told.says(37) == f"{one}; 37 windows reached it in the hour from 2026-11-21 13:00 Europe/Madrid"


def test_a_budget_without_a_grant_tells_no_threshold_and_its_first_spending_does() -> None:
    ref = LimitRef("TokenBudget", "research", "prepaid")
    limit = Limit(ref, frozenset({"research"}), Unit.TOKENS, Calendar.FOREVER, 0, thresholds=(50, 80, 95, 100))
    empty = Account(AccountId(ref, (), "forever", Unit.TOKENS).text, None, None, allocation=0)
    assert thresholds_reached(limit, empty) == frozenset()
    assert thresholds_reached(limit, replace(empty, granted=100, spent=60)) == {50}
    assert thresholds_reached(limit, replace(empty, spent=60)) == {50, 80, 95, 100}


def test_a_threshold_says_until_when_in_the_limits_own_zone_by_its_name() -> None:
    ref = LimitRef("TokenBudget", "research", "monthly")
    madrid = Calendar.every(Every.MONTH, "Europe/Madrid")
    limit = Limit(ref, frozenset({"research"}), Unit.TOKENS, madrid, 1000, thresholds=(50,))
    identity, window = limit.account_at((), datetime(2026, 11, 21, tzinfo=UTC))
    account = Account(identity.text, window.start, window.end, allocation=1000, spent=500)
    assert threshold_notice(50, limit, account).message.endswith("left of 1000 until 2026-12-01 00:00 Europe/Madrid")
