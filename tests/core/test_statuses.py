"""Statuses: pairs of what is known and the status that it makes, and what holds for all of them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.accounts import Account, Phase
from tollkeeper.amounts import Unit, parse_amount
from tollkeeper.books import GrantState
from tollkeeper.compile import Binding, limits_of
from tollkeeper.conditions import Condition, status_of, written
from tollkeeper.counted import Counted
from tollkeeper.forecast import Forecast, NotEnoughHistory
from tollkeeper.gates import GateVerdict
from tollkeeper.key_statuses import top_keys
from tollkeeper.limit_statuses import budget_status, quota_status
from tollkeeper.limits import AccountId, Limit, LimitRef
from tollkeeper.policy import TenantNode
from tollkeeper.problems import ObjectRef, Problem
from tollkeeper.resources import PriceBook, TokenBudget, TokenGrant, TokenQuota, parse
from tollkeeper.resources.tokenbudget import TokenBudgetStatus
from tollkeeper.statuses import (
    Fault,
    Freshness,
    Subject,
    faulty_status,
    gate_status,
    grant_status,
    price_book_status,
    tenant_status,
    waiting_grant_status,
)
from tollkeeper.unbuilt import unbuilt
from tollkeeper.windows import Calendar

PAIRS = Path(__file__).parent / "status_pairs"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.mark.parametrize("case", sorted(path.name for path in PAIRS.iterdir()))
def test_what_is_known_makes_the_expected_status(case: str) -> None:
    given_input = yaml.safe_load((PAIRS / case / "input.yaml").read_text())
    expected = yaml.safe_load((PAIRS / case / "expected.yaml").read_text())
    assert _status_of(given_input) == expected


def _status_of(known: dict[str, Any]) -> dict[str, Any]:
    now: datetime = known["now"]
    raw = known["object"]
    owner = parse({name: value for name, value in raw.items() if name != "status"})
    assert isinstance(owner, TokenBudget | TokenQuota)
    limits = {limit.ref.limit: limit for limit in limits_of(owner, Binding(frozenset({"research"})))}
    counted = {name: _counted(limit, known["accounts"], now) for name, limit in limits.items()}
    subject = Subject.of(raw, unbuilt(owner))
    freshness = Freshness(known.get("asOf", now), known.get("stale"))
    if isinstance(owner, TokenQuota):
        return quota_status(owner, subject, counted, freshness, now)
    return budget_status(owner, subject, counted[""], _forecast(known.get("forecast")), freshness, now)


def _counted(limit: Limit, accounts: Sequence[dict[str, Any]], now: datetime) -> Counted:
    window = limit.calendar.window_at(now)
    own = [one for one in accounts if one.get("limit", "") == limit.ref.limit]
    return Counted(limit, window, tuple(_account(limit, one, now) for one in own))


def _account(limit: Limit, one: dict[str, Any], now: datetime) -> Account:
    def amount(name: str) -> int:
        return parse_amount(one.get(name, 0), limit.unit)

    identity, window = limit.account_at(tuple(one.get("key", ())), now)
    return Account(
        identity.text,
        window.start,
        window.end,
        allocation=limit.allocation,
        rolled_over=amount("rolledOver"),
        granted=amount("granted"),
        spent=amount("spent"),
        held=amount("held"),
        unreconciled=amount("unreconciled"),
        overshoot=amount("overshoot"),
        recent=(amount("recent"),) if "recent" in one else (),
        last_usage=datetime.fromisoformat(one["lastUsage"]) if "lastUsage" in one else None,
    )


def _forecast(said: dict[str, Any] | None) -> Forecast | NotEnoughHistory | None:
    if said is None:
        return None
    if "reason" in said:
        return NotEnoughHistory(said["reason"])
    low, median, high = (int(Decimal(said[name]) * 10**9) for name in ("low", "median", "high"))
    exhaustion = datetime.fromisoformat(said["exhaustion"]) if said["exhaustion"] else None
    return Forecast(low, median, high, said["probability"], exhaustion, NOW, 100)


ACCOUNTS = st.builds(
    Account,
    id=st.sampled_from([f"TokenBudget/research/each//{name}@2026-11-01T00:00:00Z@USD" for name in ("ada", "grace")]),
    window_start=st.just(datetime(2026, 11, 1, tzinfo=UTC)),
    window_end=st.just(datetime(2026, 12, 1, tzinfo=UTC)),
    allocation=st.integers(0, 10**12),
    spent=st.integers(0, 10**12),
    held=st.integers(0, 10**12),
    unreconciled=st.integers(0, 10**12),
    recent=st.lists(st.integers(0, 10**10), max_size=5).map(tuple),
)


def per_user(raw: dict[str, Any] | None = None) -> TokenBudget:
    spec = {"tenantRef": {"name": "research"}, "allocation": "10.00", "period": {"every": "Month"}, "per": ["User"]}
    metadata = {"name": "each", "namespace": "research", "generation": 1}
    owner = parse({"apiVersion": "tollkeeper.dev/v1alpha1", "kind": "TokenBudget", "metadata": metadata, "spec": spec})
    assert isinstance(owner, TokenBudget)
    return owner


@given(st.lists(ACCOUNTS, max_size=4))
def test_any_accounts_make_a_status_that_the_api_server_takes_and_whose_phase_is_the_worst(
    accounts: list[Account],
) -> None:
    """B5."""
    budget = per_user()
    limit = next(limits_of(budget, Binding(frozenset({"research"}))))
    counted = Counted(limit, limit.calendar.window_at(NOW), tuple(accounts))
    status = budget_status(budget, Subject(1), counted, None, Freshness(NOW), NOW)
    read = TokenBudgetStatus.model_validate(status)
    worst = max((one.phase(limit).severity for one in accounts), default=0)
    assert read.phase is not None
    assert read.phase.severity == worst
    assert status_of(status, "WithinLimit") == str(read.phase is not Phase.INSUFFICIENT)
    assert read.keys is not None
    assert read.keys.total == len(accounts)


@given(st.lists(ACCOUNTS, min_size=1, max_size=3), st.integers(1, 10**6))
def test_the_same_knowledge_later_changes_nothing_but_its_age(accounts: list[Account], seconds: int) -> None:
    budget = per_user()
    limit = next(limits_of(budget, Binding(frozenset({"research"}))))
    counted = Counted(limit, limit.calendar.window_at(NOW), tuple(accounts))
    first = budget_status(budget, Subject(1), counted, None, Freshness(NOW), NOW)
    later = datetime.fromtimestamp(NOW.timestamp() + seconds, UTC)
    again = budget_status(budget, Subject(1, first), counted, None, Freshness(later), later)
    for status in (first, again):
        del status["asOf"], status["columns"]["asOf"]
    assert first == again


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    early, late = "2026-11-01T00:00:00Z", "2026-11-21T12:00:00Z"
    before = [{"type": "Ready", "status": "True", "lastTransitionTime": early}]
    for status, since in ((True, early), (False, late), (None, late)):
        (now,) = written([Condition("Ready", status, "Because", "so")], before=before, generation=2, now=NOW)
        assert (now["lastTransitionTime"], now["observedGeneration"]) == (since, 2)


def problem(code: str) -> Problem:
    return Problem(ObjectRef("TokenBudget", "a", "b"), "spec.tenantRef.name", code, "there is no Tenant x", "create it")


@pytest.mark.parametrize(("code", "stalled"), [("TenantNotFound", None), ("TenantNotOwned", "True")])
def test_only_what_a_person_must_change_is_stalled(code: str, stalled: str | None) -> None:
    fault = Subject(1, problems=(problem(code),)).fault
    assert fault is not None
    status = faulty_status(Subject(1), fault, NOW)
    assert status_of(status, "Ready") == "False"
    assert status_of(status, "Stalled") == stalled


def test_a_tenant_is_blocked_by_a_limit_that_closes_gates_and_warned_by_any_other() -> None:
    node = TenantNode("research", "acme/research", ("research", "acme"), "Department", frozenset({"b", "a"}), {})
    gone = Account("x", None, None, allocation=0)
    hard = Limit(LimitRef("TokenBudget", "a", "b"), frozenset({"acme"}), Unit.USD, Calendar.FOREVER, 0)
    closes = Limit(hard.ref, hard.tenants, Unit.USD, Calendar.FOREVER, 0, blocks_workloads=True)
    for binding, enforcement in (([], "Open"), ([(hard, gone)], "Warned"), ([(hard, gone), (closes, gone)], "Blocked")):
        status = tenant_status(node, Subject(1), binding, NOW)
        assert status["enforcement"] == enforcement
        assert (status["path"], status["namespaces"], status["columns"]) == (
            "acme/research",
            ["a", "b"],
            {"namespaces": "a,b"},
        )


def grant() -> TokenGrant:
    spec = {"budgetRef": {"name": "monthly"}, "amount": "25.00", "expiresAt": "2026-12-24T18:00:00Z"}
    metadata = {"name": "top-up", "namespace": "research", "uid": "u"}
    owner = parse({"apiVersion": "tollkeeper.dev/v1alpha1", "kind": "TokenGrant", "metadata": metadata, "spec": spec})
    assert isinstance(owner, TokenGrant)
    return owner


def test_a_booked_grant_keeps_the_time_at_which_it_was_seen_first() -> None:
    first = grant_status(grant(), Subject(1), GrantState("u", "0191", 25 * 10**9, False), Unit.USD, NOW)
    later = datetime(2026, 11, 22, tzinfo=UTC)
    again = grant_status(grant(), Subject(1, first), GrantState("u", "0191", 12_100_000_000, False), Unit.USD, later)
    assert first["bookedAt"] == again["bookedAt"] == "2026-11-21T12:00:00Z"
    assert (again["booked"], again["transaction"], again["remaining"]) == (True, "0191", "12.10")
    assert again["columns"]["expires"] == "2026-12-24 18:00"


def test_a_grant_that_waits_is_not_booked_and_not_stalled() -> None:
    status = waiting_grant_status(grant(), Subject(1), Fault("BudgetNotFound", "create it", waits=True), NOW)
    assert status["booked"] is False
    assert [condition["type"] for condition in status["conditions"]] == ["Ready"]


def test_a_price_book_counts_its_prices() -> None:
    price = {"provider": "openai", "model": "gpt-5", "perMillion": {"input": "1", "output": "2"}}
    raw = {"apiVersion": "tollkeeper.dev/v1alpha1", "kind": "PriceBook", "metadata": {"name": "acme"}}
    book = parse({**raw, "spec": {"models": [price]}})
    assert isinstance(book, PriceBook)
    status = price_book_status(book, Subject(7), NOW)
    assert (status["columns"], status["observedGeneration"]) == ({"models": 1, "tools": 0}, 7)


def test_a_gate_stands_since_it_last_opened_or_closed() -> None:
    shut, open_ = GateVerdict(False, "used up"), GateVerdict(True, "open")
    first = gate_status(shut, Subject(1), NOW, NOW)
    later = datetime(2026, 11, 22, tzinfo=UTC)
    assert gate_status(shut, Subject(1, first), later, later)["since"] == "2026-11-21T12:00:00Z"
    assert gate_status(open_, Subject(1, first), later, later)["since"] == "2026-11-22T00:00:00Z"
    assert gate_status(open_, Subject(1, first), later, later)["columns"]["since"] == "2026-11-22 00:00"


def test_an_account_of_a_key_is_named_by_its_key() -> None:
    identity = AccountId(LimitRef("TokenQuota", "a", "b", "c"), ("ada",), "forever", Unit.TOKENS)
    limit = Limit(identity.ref, frozenset({"a"}), Unit.TOKENS, Calendar.FOREVER, 10)
    keyed = Limit(identity.ref, frozenset({"a"}), Unit.TOKENS, Calendar.FOREVER, 10, each_tenant=True)
    account = Account(identity.text, None, None, allocation=10, spent=4)
    window = Calendar.FOREVER.window_at(NOW)
    assert top_keys(Counted(limit, window, (account,))) == ()
    assert [top.key for top in top_keys(Counted(keyed, window, (account,)))] == ["ada"]


def test_usage_that_waits_too_long_to_be_booked_makes_numbers_stale_and_an_unreadable_ledger_is_told_first() -> None:
    since = NOW - timedelta(minutes=2)
    late = Freshness(NOW, lacks_since=since).condition()
    assert (late.type, late.status, late.reason) == ("UsageFresh", False, "UsageUnreported")
    assert late.message.startswith("Usage since 2026-11-21T11:58:00Z is not in the numbers")
    assert Freshness(NOW, "disk full", since).condition().message == "disk full"
    assert Freshness(NOW).condition().status is True
