"""What one tenant's bodies may cost those of others, and what holds where a tenant wants something else meanwhile (R27)."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from tests.sidecar.bodies import (
    HOSTILE,
    KEPT,
    OTHER,
    OTHER_SECRET,
    TOKENS,
    answered,
    ask,
    asking,
    counted,
    question,
    until_counted,
)
from tests.sidecar.builders import key, policy
from tests.sidecar.conftest import SetUp
from tests.sidecar.remembering import Remembering
from tests.sidecar.test_failures import until
from tollkeeper.patterns import TookTooLong
from tollkeeper.policy import PolicySet
from tollkeeper_sidecar import capturing


async def test_rules_that_take_too_long_cost_their_tenant_its_bodies_and_nobody_else_any(
    stage: SetUp, keeper: Remembering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R27."""
    monkeypatch.setattr(capturing, "REDACTION_SECONDS", 0.2)
    running = await stage(asking(HOSTILE), keeper)
    body = question(messages=[{"role": "user", "content": "a" * 500_000}])
    with capture_logs() as logs:
        for _ in range(3):
            assert (await ask(running, body))[0] == 200
        await until_counted(running, 'tollkeeper_captures_dropped_total{reason="too_slow"}', 3)
        running.policy.publish(replace(asking(), version=2))
        await ask(running, question())
        await running.finished()
    (told,) = [line for line in logs if "takes too long" in line["event"]]
    assert (told["tenant"], "'a.*b|a'" in told["error"]) == ("research", True)
    assert len(keeper.kept) == 1


async def test_a_slow_body_of_one_tenant_costs_no_other_of_the_same_rules_its_own(
    stage: SetUp, keeper: Remembering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R27: most tenants have the rules that hold where nothing is said, and so the same."""
    running = await stage(two_tenants(), keeper)
    monkeypatch.setattr("tollkeeper_sidecar.recording.redacted_body", slow_where_it_says(b"slowly"))
    with capture_logs() as logs:
        await ask(running, question(user="slowly"))
        await ask(running, question())
        _, theirs, _ = await ask(running, question(), OTHER)
        await running.finished()
    (told,) = [line for line in logs if "takes too long" in line["event"]]
    assert told["tenant"] == "research"
    assert "a rule that is built in" in told["error"]
    assert [one.request_id for one in keeper.kept] == [theirs]


@pytest.mark.parametrize("gone", [False, True])
async def test_what_waits_of_a_tenant_that_keeps_nothing_any_more_is_not_kept(
    stage: SetUp, keeper: Remembering, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    """R27: `bodies: Never`, then `captures delete`, leaves nothing."""
    monkeypatch.setattr(capturing, "AT_ONCE", 1)
    running = await stage(two_tenants(), keeper)
    keeper.may_go_on.clear()
    await ask(running, question(), OTHER)
    await until(lambda: keeper.calls == 1)
    await ask(running, question())
    async with answered(running, question(stream=True), {"Provider-Behaviour": "slow=1"}) as answer:
        await answer.content.readany()
        running.policy.publish(keeping_no_more_of_research(gone=gone))
        await answer.read()
    keeper.may_go_on.set()
    await until_counted(running, 'tollkeeper_captures_dropped_total{reason="not_asked_for"}', 2)
    await running.finished()
    assert [one.tenant for one in keeper.kept] == ["acme"]


def keeping_no_more_of_research(*, gone: bool) -> PolicySet:
    both = two_tenants()
    never = {} if gone else {"research": replace(both.tenants["research"], capture=None)}
    return replace(both, version=2, tenants={"acme": both.tenants["acme"], **never})


@pytest.mark.parametrize(("days", "kept_days"), [(1, 1), (90, 30)])
async def test_what_waits_is_kept_no_longer_than_its_tenant_wants_now(
    stage: SetUp, keeper: Remembering, monkeypatch: pytest.MonkeyPatch, days: int, kept_days: int
) -> None:
    """R27."""
    monkeypatch.setattr(capturing, "AT_ONCE", 1)
    running = await stage(two_tenants(), keeper)
    keeper.may_go_on.clear()
    await ask(running, question(), OTHER)
    await until(lambda: keeper.calls == 1)
    await ask(running, question())
    now_in_force = policy(TOKENS, capture=replace(KEPT, retention=timedelta(days=days)))
    running.policy.publish(replace(now_in_force, version=2))
    keeper.may_go_on.set()
    await running.finished()
    (mine,) = [one for one in keeper.kept if one.tenant == "research"]
    assert mine.expires_at - mine.captured_at == timedelta(days=kept_days)


async def test_a_tenant_whose_bodies_take_long_leaves_room_for_those_of_others(
    stage: SetUp, keeper: Remembering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R27."""
    monkeypatch.setattr(capturing, "MOST_WAITING", 8)
    monkeypatch.setattr(capturing, "AT_ONCE", 1)
    running = await stage(two_tenants(), keeper)
    keeper.may_go_on.clear()
    await ask(running, question())
    await until(lambda: keeper.calls == 1)
    for _ in range(10):
        await ask(running, question())
    theirs = [(await ask(running, question(), OTHER))[1] for _ in range(2)]
    assert await counted(running, 'tollkeeper_captures_dropped_total{reason="no_room"}') == 8
    keeper.may_go_on.set()
    await running.finished()
    assert {one.request_id for one in keeper.kept if one.tenant == "acme"} == set(theirs)


async def test_a_tenants_bodies_leave_memory_for_those_of_others(stage: SetUp, keeper: Remembering) -> None:
    running = await stage(two_tenants(), keeper, captured_body_bytes=1024, captures_bytes=160_000)
    keeper.may_go_on.clear()
    large = question(messages=[{"role": "user", "content": "x" * 16_000}])
    for _ in range(12):
        await ask(running, large)
    await ask(running, large, OTHER)
    keeper.may_go_on.set()
    await running.finished()
    assert [one.tenant for one in keeper.kept].count("acme") == 1


def two_tenants() -> PolicySet:
    """Tenants `research` and `acme`, with the same rules and a key each."""
    keys_of_both = (key(), key(OTHER_SECRET, tenant="acme"))
    both = policy(TOKENS, keys=keys_of_both, capture=KEPT)
    return replace(both, tenants={**both.tenants, "acme": replace(both.tenants["acme"], capture=KEPT)})


def slow_where_it_says(word: bytes) -> Callable[..., bytes]:
    def redacted(content: bytes, *_: object, **__: object) -> bytes:
        if word in content:
            raise TookTooLong(
                "the pattern '[a-z]+@' takes too long: write it so that less of a text fits its beginning"
            )
        return content

    return redacted
