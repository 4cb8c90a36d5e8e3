"""What a refused caller is told (F1, F2, F4)."""

from dataclasses import replace
from datetime import timedelta

import orjson
import pytest

from tests.sidecar.builders import NOW, account_of, limit, policy
from tollkeeper.accounts import Phase
from tollkeeper.amounts import Unit
from tollkeeper.leases import Reason, Refusal
from tollkeeper.limits import Limit
from tollkeeper.usage import Caller
from tollkeeper_sidecar.errors import Denial, RequestRefused
from tollkeeper_sidecar.openai_errors import answer_of
from tollkeeper_sidecar.refusals import judged, refused_by

CALLER = Caller("research")


def refusal(one: Limit, **changes: object) -> Refusal:
    whole = Refusal(
        account=account_of(one),
        ref=one.ref,
        tenants=one.tenants,
        unit=one.unit,
        reason=Reason.USED_UP,
        phase=Phase.INSUFFICIENT,
        balance=-100_000_000,
        minimum=-120_000_000,
        available=0,
        need=50_000_000,
        resets=NOW + timedelta(days=9),
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def told(*refusals: Refusal, limits: tuple[Limit, ...] = ()) -> RequestRefused:
    return refused_by(refusals, (), {account_of(one): one for one in limits}, policy(*limits), CALLER, NOW)


def test_used_up_names_limit_balance_reset_and_remedy_and_asks_nobody_to_retry() -> None:
    """F1, F2."""
    refused = told(refusal(limit()))
    answer = answer_of(refused)
    assert answer.status == 429
    assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["Tollkeeper-Reset"] == "2026-11-30T12:00:00Z"
    assert "Retry-After" not in answer.headers
    error = orjson.loads(answer.body)["error"]
    assert (error["type"], error["code"], error["param"]) == ("insufficient_quota", "insufficient_quota", None)
    for word in ("research/monthly", "-0.10 USD", "-0.12 USD", "0.05 USD", "2026-11-30T12:00:00Z", "TokenGrant"):
        assert word in error["message"]


def test_contended_asks_to_retry_soon() -> None:
    """F1."""
    answer = answer_of(told(refusal(limit(), reason=Reason.CONTENDED, phase=Phase.LOW, balance=10**9)))
    assert answer.status == 429
    assert answer.headers["Retry-After"] == "1"
    assert "x-should-retry" not in answer.headers
    assert orjson.loads(answer.body)["error"]["code"] == "rate_limit_exceeded"


@pytest.mark.parametrize(("seconds", "retry_after"), [(0.2, "1"), (30.5, "31"), (60, "60")])
def test_a_window_that_resets_within_the_minute_is_waited_for(seconds: float, retry_after: str) -> None:
    one = refusal(limit(), reason=Reason.CONTENDED, resets=NOW + timedelta(seconds=seconds))
    assert answer_of(told(one)).headers["Retry-After"] == retry_after


def test_a_window_without_room_that_resets_soon_blames_no_requests_in_flight() -> None:
    gone = refusal(limit(), reason=Reason.CONTENDED, resets=NOW + timedelta(seconds=30))
    assert "no room right now: it is used up (" in told(gone).message
    held = replace(gone, phase=Phase.SUFFICIENT, balance=10**9)
    assert "held by requests in flight" in told(held).message


def test_a_request_too_large_for_what_is_left_is_not_told_that_the_limit_is_used_up() -> None:
    message = told(refusal(limit(), phase=Phase.SUFFICIENT)).message
    assert "research/monthly has too little left for this request (balance" in message


def test_a_prepaid_budget_says_that_it_does_not_reset() -> None:
    refused = told(refusal(limit(), resets=None))
    assert "does not reset" in refused.message
    assert "Tollkeeper-Reset" not in answer_of(refused).headers


def test_of_several_limits_the_one_that_lasts_longest_is_named() -> None:
    """F4."""
    day, month = limit("day", unit=Unit.TOKENS), limit("month")
    refused = told(refusal(day, resets=NOW + timedelta(hours=2)), refusal(month))
    assert "research/month" in refused.message


def test_amounts_of_limits_above_the_caller_are_not_told() -> None:
    """F4."""
    of_parent = limit(tenants=frozenset({"acme"}))
    of_both = limit(tenants=frozenset({"acme", "research"}))
    for one in (of_parent, of_both):
        refused = told(refusal(one), limits=(one,))
        assert "research/monthly" in refused.message
        assert "2026-11-30" in refused.message
        assert "USD" not in refused.message


@pytest.mark.parametrize(("unit", "shown"), [(Unit.USD, "0.05"), (Unit.TOKENS, 50_000_000)])
def test_programs_are_told_amounts_as_people_are(unit: Unit, shown: object) -> None:
    (one,) = told(refusal(limit("a", unit=unit), need=50_000_000)).limits
    assert one["need"] == shown
    assert (one["reason"], one["phase"]) == ("used_up", "Insufficient")
    assert one["resets"] == "2026-11-30T12:00:00Z"


def test_a_limit_for_each_of_many_tenants_tells_a_tenant_its_own_amounts() -> None:
    each = limit(tenants=frozenset({"acme", "research", "other"}), each_tenant=True)
    for tenant, told_amounts in (("research", True), ("acme", False)):
        one = refusal(each, account=account_of(each, tenant))
        refused = refused_by((one,), (), {one.account: each}, policy(each), CALLER, NOW)
        assert ("USD" in refused.message) is told_amounts


def test_a_window_that_has_ended_is_told_as_one_and_refuses_for_a_second() -> None:
    """F1: it has reset."""
    one = judged(refusal(limit(), reason=Reason.ENDED, balance=10**9, resets=NOW), 5, 0, NOW)
    refused = told(one)
    assert (refused.denial, refused.retry_after, one.reason) == (Denial.CONTENDED, 1, Reason.ENDED)
    assert "which has just ended" in refused.message


@pytest.mark.parametrize(
    ("reason", "says"), [(Reason.UNKNOWN_ACCOUNT, "is being published"), (Reason.FAULT, "Its log says which")]
)
def test_an_account_that_the_authority_cannot_grant_out_of_is_our_fault(reason: Reason, says: str) -> None:
    one = judged(refusal(limit(), reason=reason, fault="1000 is too large"), 5, 0, NOW)
    refused = told(one)
    assert (refused.denial, refused.retry_after, one.reason) == (Denial.OURS, 1, reason)
    assert says in refused.message
    assert "too large" not in refused.message, "it may be an ancestor's amount (F4)"


@pytest.mark.parametrize(
    ("balance", "need", "unreported", "phase", "reason"),
    [
        (1000, 900, 0, Phase.LOW, Reason.CONTENDED),
        (1000, 1001, 0, Phase.LOW, Reason.USED_UP),
        (1000, 900, 200, Phase.LOW, Reason.USED_UP),
        (1000, 900, 0, Phase.INSUFFICIENT, Reason.USED_UP),
    ],
)
def test_room_is_contended_only_if_it_is_enough_for_the_whole_request(
    balance: int, need: int, unreported: int, phase: Phase, reason: Reason
) -> None:
    one = refusal(limit(), balance=balance, minimum=0, need=1, phase=phase, reason=Reason.CONTENDED)
    assert judged(one, need, unreported, NOW).reason is reason


def test_our_own_faults_say_so() -> None:
    answer = answer_of(RequestRefused(Denial.OURS, "the disk is full", retry_after=1))
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
