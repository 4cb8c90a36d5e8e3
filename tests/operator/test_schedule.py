"""The schedule: what is urgent goes at once, gates first, numbers together a little later."""

import asyncio

from tollkeeper.problems import ObjectRef
from tollkeeper_operator.schedule import Schedule

BUDGET = ObjectRef("TokenBudget", "a", "b")
QUOTA = ObjectRef("TokenQuota", "a", "b")
GATE = ObjectRef("WorkloadGate", "a", "tollkeeper")


async def test_a_gate_goes_before_what_has_waited_longer() -> None:
    schedule = Schedule(coalesce=3)
    for ref in (BUDGET, QUOTA, GATE):
        schedule.soon(ref)
    assert [(await schedule.take())[0] for _ in range(3)] == [GATE, BUDGET, QUOTA]


async def test_an_object_in_hand_is_given_to_nobody_else() -> None:
    schedule = Schedule(coalesce=3)
    schedule.soon(BUDGET)
    await schedule.take()
    schedule.soon(BUDGET)
    waiting = asyncio.create_task(schedule.take())
    await asyncio.sleep(0)
    assert not waiting.done()
    schedule.done(BUDGET)
    assert (await waiting)[0] == BUDGET


async def test_numbers_wait_since_the_last_write_and_urgency_does_not() -> None:
    schedule, loop = Schedule(coalesce=0.05), asyncio.get_running_loop()
    schedule.later(BUDGET)
    await schedule.take()
    schedule.done(BUDGET)
    written = loop.time()
    schedule.later(BUDGET)
    await schedule.take()
    assert loop.time() - written >= 0.05
    schedule.done(BUDGET)
    schedule.later(BUDGET)
    schedule.soon(BUDGET)
    asked = loop.time()
    await schedule.take()
    assert loop.time() - asked < 0.05


async def test_it_is_quiet_when_nothing_is_due_or_in_hand() -> None:
    schedule = Schedule(coalesce=3)
    assert schedule.is_quiet
    schedule.soon(BUDGET)
    assert not schedule.is_quiet
    await schedule.take()
    assert not schedule.is_quiet
    schedule.done(BUDGET)
    schedule.at(BUDGET, asyncio.get_running_loop().time() + 60)
    assert schedule.is_quiet


async def test_many_takers_get_each_object_once() -> None:
    schedule = Schedule(coalesce=3)
    wanted = {ObjectRef("Tenant", "", f"t{number}") for number in range(50)}
    taken: list[ObjectRef] = []

    async def taker() -> None:
        while True:
            ref, _ = await schedule.take()
            taken.append(ref)
            await asyncio.sleep(0)
            schedule.done(ref)

    takers = [asyncio.create_task(taker()) for _ in range(8)]
    for ref in sorted(wanted):
        schedule.soon(ref)
    async with asyncio.timeout(5):
        while not schedule.is_quiet:  # noqa: ASYNC110 - it tells its takers and nobody else
            await asyncio.sleep(0)
    for one in takers:
        one.cancel()
    await asyncio.gather(*takers, return_exceptions=True)
    assert sorted(taken) == sorted(wanted)
