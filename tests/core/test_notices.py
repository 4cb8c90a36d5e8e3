"""Notices: a change is told once, in words that say what to do; what did not change is not told."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tollkeeper.accounts import Account
from tollkeeper.amounts import Unit
from tollkeeper.limits import AccountId, Limit, LimitRef
from tollkeeper.notices import (
    Reason,
    budget_notices,
    gate_notices,
    grant_notices,
    quota_notices,
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
