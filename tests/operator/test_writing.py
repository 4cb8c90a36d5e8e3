"""Writing: Events once and in bounds, statuses only where they differ, grants only where nothing stands in the way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from tests.operator.conftest import Clock, Running, Start, eventually
from tests.operator.test_reconciling import budget, tenant

from tollkeeper.amounts import Unit
from tollkeeper.conditions import to_second
from tollkeeper.limits import Limit, LimitRef
from tollkeeper.notices import Notice, Reason
from tollkeeper.problems import ObjectRef
from tollkeeper.resources import TokenGrant, parse
from tollkeeper.windows import Calendar
from tollkeeper_kube import Rejected
from tollkeeper_kube.kinds import EVENT, TOKEN_BUDGET, TOKEN_QUOTA
from tollkeeper_operator.event_log import EventLog, event_name, event_of
from tollkeeper_operator.feed import Feed
from tollkeeper_operator.grant_desk import obstacle
from tollkeeper_operator.metrics import Metrics
from tollkeeper_operator.status_writer import SAID_AGAIN_SECONDS, StatusWriter

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


NAMES = ("用户😀", "jürgen", "𐍈\u2028b\x7f\ufeff", "\\ud83d\\", '"', "\x01\x85")
"""More than the gateway takes for names, which are printable alone: what a status is made of may come by other ways."""


def per_user(namespace: str) -> str:
    quota = f"""---
apiVersion: tollkeeper.dev/v1alpha1
kind: TokenQuota
metadata: {{name: daily, namespace: {namespace}}}
spec:
  tenantRef: {{name: {namespace}}}
  limits: [{{name: each, unit: Requests, amount: 9, window: {{every: Day}}, per: [User]}}]
"""
    return tenant(namespace) + budget(namespace) + "  per: [User]\n" + quota


@pytest.mark.cluster
async def test_no_name_of_a_caller_keeps_the_numbers_back(start: Start, namespace: str) -> None:
    async with start(Clock.at_noon()) as running:
        await running.apply(per_user(namespace))
        await running.ready("tokenbudget/monthly", namespace)
        await running.ready("tokenquota/daily", namespace)
        for name in NAMES:
            await running.spend(namespace, 10**8, user=name)
        status = await running.until(TOKEN_BUDGET, "monthly", namespace, spent="0.60")
        assert {one["key"] for one in status["top"]} == set(NAMES)

        async def counted() -> bool:
            (each,) = (await running.status(TOKEN_QUOTA, "daily", namespace))["limits"]
            return {one["key"] for one in each.get("top", ())} == set(NAMES)

        await eventually(counted, lambda: "the quota names not all callers")


def refusing(namespace: str, rule: str) -> str:
    """A policy of somebody else's by which the API server refuses statuses of this namespace's budgets."""
    return f"""---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {{name: statuses-{namespace}}}
spec:
  matchConstraints:
    resourceRules:
    - {{apiGroups: [tollkeeper.dev], apiVersions: ["*"], operations: [UPDATE], resources: [tokenbudgets/status]}}
  validations: [{{expression: "{rule}", message: not this one}}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {{name: statuses-{namespace}}}
spec:
  policyName: statuses-{namespace}
  validationActions: [Deny]
  matchResources: {{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {namespace}}}}}}}
"""


@asynccontextmanager
async def refused(running: Running, namespace: str, rule: str) -> AsyncIterator[None]:
    """While the API server refuses what breaks a rule: from when it is seen to, until the policy is taken away."""
    await running.apply(refusing(namespace, rule))

    async def heeded() -> bool:
        probe = {"status": {"top": [{"key": "eve", "used": "0", "remaining": "0", "utilization": 0}]}}
        path = TOKEN_BUDGET.path(namespace, "monthly", "status")
        try:
            await running.kube.call(
                "PATCH",
                path,
                what="p",
                body=probe,
                query={"dryRun": "All"},
                content_type="application/merge-patch+json",
            )
        except Rejected:
            return True
        return False

    try:
        await eventually(heeded, lambda: "the policy is not in force")
        yield
    finally:
        kinds = "validatingadmissionpolicy,validatingadmissionpolicybinding"
        await running.run("delete", kinds, f"statuses-{namespace}")


def sample(running: Running, name: str, **labels: str) -> float:
    return running.operator.metrics.registry.get_sample_value(f"tollkeeper_operator_{name}", labels) or 0.0


@pytest.mark.cluster
async def test_where_a_key_is_refused_in_a_status_all_other_numbers_are_written(start: Start, namespace: str) -> None:
    async with start(Clock.at_noon()) as running:
        await running.apply(per_user(namespace))
        await running.ready("tokenbudget/monthly", namespace)
        no_eve = "!has(object.status.top) || object.status.top.all(one, one.key != 'eve')"
        async with refused(running, namespace, no_eve):
            with capture_logs() as logs:
                await running.spend(namespace, 10**8, user="bob")
                await running.until(TOKEN_BUDGET, "monthly", namespace, spent="0.10")
                await running.spend(namespace, 10**8, user="eve")
                status = await running.until(TOKEN_BUDGET, "monthly", namespace, spent="0.20")
        assert status["keys"]["total"] == 2
        assert "top" not in status
        assert sample(running, "status_writes_total", kind="TokenBudget", result="without_keys") >= 1
        assert sample(running, "statuses_unwritten", kind="TokenBudget") == 0
        assert ["not this one" in one["error"] for one in logs if "without" in one["event"]] == [True]


@pytest.mark.cluster
async def test_what_cannot_be_written_stands_in_a_metric_until_it_is(start: Start, namespace: str) -> None:
    async with start(Clock.at_noon()) as running:
        await running.apply(tenant(namespace) + budget(namespace))
        await running.ready("tokenbudget/monthly", namespace)

        async def unwritten() -> bool:
            return sample(running, "statuses_unwritten", kind="TokenBudget") == 1

        async with refused(running, namespace, "object.status.spent == '0.00' && !has(object.status.top)"):
            await running.spend(namespace, 10**9)
            await eventually(unwritten, lambda: "nothing tells that a status could not be written")
        await running.until(TOKEN_BUDGET, "monthly", namespace, spent="1.00")
        assert sample(running, "statuses_unwritten", kind="TokenBudget") == 0


def test_what_cannot_be_written_is_said_again_while_it_lasts() -> None:
    now = 0.0
    feed, unused = Feed(lambda _ref, _change: None), cast("Any", None)
    writer = StatusWriter(unused, feed, unused, Metrics(), 30.0, monotonic=lambda: now)
    ref, said = ObjectRef("TokenBudget", "research", "monthly"), list[float]()
    with capture_logs() as logs:
        for now in range(0, 3 * int(SAID_AGAIN_SECONDS), 10):
            writer.failed(ref, Rejected("not this one"))
            said += [now] * (len(logs) - len(said))
        writer.failed(ref, Rejected("nor that"))
    assert said == [0, SAID_AGAIN_SECONDS, 2 * SAID_AGAIN_SECONDS]
    assert [one["error"] for one in logs] == ["not this one"] * 3 + ["nor that"]
    assert {(one["log_level"], one["object"]) for one in logs} == {("warning", str(ref))}


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
