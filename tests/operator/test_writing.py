"""Writing: Events once and in bounds, statuses only where they differ, grants only where nothing stands in the way."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.operator.conftest import Start, eventually
from tests.operator.test_reconciling import budget, tenant

from tollkeeper.amounts import Unit
from tollkeeper.conditions import to_second
from tollkeeper.limits import Limit, LimitRef
from tollkeeper.notices import Notice, Reason
from tollkeeper.resources import TokenGrant, parse
from tollkeeper.windows import Calendar
from tollkeeper_kube.kinds import EVENT, TOKEN_BUDGET
from tollkeeper_operator.event_log import EventLog, event_name, event_of
from tollkeeper_operator.grant_desk import obstacle
from tollkeeper_operator.metrics import Metrics

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ABOUT: dict[str, Any] = {
    "apiVersion": "tollkeeper.dev/v1alpha1",
    "kind": "TokenBudget",
    "metadata": {"name": "monthly", "namespace": "research", "uid": "u-1"},
}


@given(st.text(min_size=1), st.text(min_size=1))
def test_an_event_has_the_same_name_exactly_when_it_tells_the_same(one: str, other: str) -> None:
    names = [event_name(Notice(Reason.BUDGET_LOW, "any", identity), ABOUT["metadata"]) for identity in (one, other)]
    assert (names[0] == names[1]) == (one == other)
    assert names[0].startswith("monthly.")


def test_an_event_names_its_object_and_is_never_too_long() -> None:
    event = event_of(Notice(Reason.GATE_CLOSED, "x" * 5000, "closed"), ABOUT, NOW, "tollkeeper-0")
    assert (event["metadata"]["namespace"], event["involvedObject"]["uid"], event["type"]) == (
        "research",
        "u-1",
        "Warning",
    )
    assert len(event["message"]) == 1024


def test_an_event_about_an_object_of_the_whole_cluster_stands_in_default() -> None:
    about = {**ABOUT, "metadata": {"name": "acme", "uid": "u-2"}}
    assert event_of(Notice(Reason.OVERSHOOT, "m", "i"), about, NOW, "x")["metadata"]["namespace"] == "default"


def grant(**spec: Any) -> TokenGrant:
    raw = {"apiVersion": "tollkeeper.dev/v1alpha1", "kind": "TokenGrant"}
    metadata = {"name": "top-up", "namespace": "research", "uid": "g-1"}
    made = parse({**raw, "metadata": metadata, "spec": {"budgetRef": {"name": "monthly"}, "amount": "2.50", **spec}})
    assert isinstance(made, TokenGrant)
    return made


def limit(unit: Unit = Unit.USD) -> Limit:
    return Limit(LimitRef("TokenBudget", "research", "monthly"), frozenset({"research"}), unit, Calendar.FOREVER, 0)


@pytest.mark.parametrize(
    ("given_grant", "given_limit", "reason"),
    [
        (grant(), limit(), None),
        (grant(), None, "BudgetNotFound"),
        (grant(), limit(Unit.TOKENS), "WrongUnit"),
        (grant(amount="1000000000"), limit(), "TooLarge"),
        (grant(effectiveFrom="2026-11-21T12:00:01Z"), limit(), "NotYetEffective"),
        (grant(effectiveFrom="2026-11-21T12:00:00Z"), limit(), None),
    ],
)
def test_a_grant_is_booked_when_its_budget_is_there_and_its_time_has_come(
    given_grant: TokenGrant, given_limit: Limit | None, reason: str | None
) -> None:
    """B8."""
    fault = obstacle(given_grant, given_limit, NOW)
    assert (fault.reason if fault else None) == reason


@pytest.mark.cluster
async def test_a_field_that_somebody_else_holds_in_a_status_starts_no_endless_writing(
    start: Start, namespace: str
) -> None:
    def written(sample: str = "tollkeeper_operator_status_writes_total") -> float:
        labels = {"kind": "TokenBudget", "result": "written"}
        return running.operator.metrics.registry.get_sample_value(sample, labels) or 0.0

    async with start() as running:
        await running.apply(tenant(namespace) + budget(namespace))
        await running.until(TOKEN_BUDGET, "monthly", namespace, phase="Sufficient")
        foreign = {"status": {"borrowed": "1.00"}}
        before = written()
        await running.kube.patch(TOKEN_BUDGET, "monthly", foreign, namespace, "status")

        async def noticed() -> bool:
            return written() > before

        await eventually(noticed, lambda: "the foreign field was never met")
        once = written()
        # A later edit is met after all that the first one could have caused.
        await running.apply(budget(namespace, allocation="11.00"))
        await running.until(TOKEN_BUDGET, "monthly", namespace, allocation="11.00")
        assert written() - once <= 2


@pytest.mark.cluster
async def test_what_happens_again_in_a_series_is_counted_in_its_event_and_by_a_new_one_when_that_is_gone(
    start: Start, namespace: str
) -> None:
    """As client-go's recorder does it, so that kubectl shows `x5 over 2m`; after a restart as well."""
    about = {**ABOUT, "metadata": {"name": "monthly", "namespace": namespace, "uid": "u-1"}}
    name = event_name(Notice(Reason.THRESHOLD_CROSSED, "", "series"), about["metadata"])

    async with start() as running:

        async def told(times: int, at: datetime) -> dict[str, Any]:
            log = EventLog(running.kube, Metrics())
            log.tell(Notice(Reason.THRESHOLD_CROSSED, f"at {at:%H:%M}", "series", times, "windows"), about, at)
            writing = asyncio.create_task(log.run())

            async def written() -> dict[str, Any] | None:
                found = await running.kube.find(EVENT, name, namespace)
                return found if found and found["lastTimestamp"] == to_second(at) else None

            event: dict[str, Any] = await eventually(written)
            writing.cancel()
            return event

        first = await told(2, NOW)
        assert (first["count"], first["message"]) == (2, "at 12:00; 2 windows")
        again = await told(3, NOW + timedelta(minutes=2))
        assert (again["count"], again["message"]) == (5, "at 12:02; 5 windows")
        assert again["firstTimestamp"] == first["firstTimestamp"] == to_second(NOW)
        assert again["metadata"]["uid"] == first["metadata"]["uid"]
        await running.kube.delete(EVENT, name, namespace)
        anew = await told(1, NOW + timedelta(hours=2))
        assert (anew["count"], anew["message"]) == (1, "at 14:00")
