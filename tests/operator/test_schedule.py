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


class Asked(ObjectRef):
    """An object that counts how often it is looked at or compared."""

    times = 0

    def __hash__(self) -> int:
        Asked.times += 1
        return super().__hash__()

    def __lt__(self, other: object) -> bool:
        Asked.times += 1
        return isinstance(other, ObjectRef) and (self.kind, self.namespace, self.name) < (
            other.kind,
            other.namespace,
            other.name,
        )


async def looks_for_each_taken(count: int) -> float:
    """How often objects are looked at for each one that is taken, where so many are due, and again for later."""
    schedule, loop = Schedule(coalesce=3), asyncio.get_running_loop()
    for number in range(count):
        schedule.soon(Asked("Tenant", "", f"t{number}"))
    Asked.times = 0
    for _ in range(count):
        ref, _ = await schedule.take()
        schedule.done(ref)
        schedule.at(ref, loop.time() + 60)
    return Asked.times / count


async def test_taking_one_object_costs_no_more_where_there_are_many() -> None:
    few, many = await looks_for_each_taken(100), await looks_for_each_taken(1600)
    # Sixteen times as many: a heap is four steps deeper, anything that walks them all is sixteen times as long.
    assert many < 2 * few


async def test_objects_that_are_not_due_are_not_looked_at() -> None:
    schedule, loop = Schedule(coalesce=3), asyncio.get_running_loop()
    for number in range(1000):
        schedule.at(Asked("Tenant", "", f"t{number}"), loop.time() + 60 + number)
    Asked.times = 0
    wanted = Asked("Tenant", "", "wanted")
    schedule.soon(wanted)
    assert (await schedule.take())[0] is wanted
    assert Asked.times < 50


async def test_an_object_that_was_forgotten_is_given_to_nobody() -> None:
    schedule = Schedule(coalesce=3)
    schedule.soon(BUDGET)
    schedule.soon(QUOTA)
    schedule.forget(BUDGET)
    assert (await schedule.take())[0] == QUOTA
    schedule.done(QUOTA)
    assert schedule.is_quiet


async def test_asking_for_an_earlier_time_gives_it_once() -> None:
    schedule, loop = Schedule(coalesce=3), asyncio.get_running_loop()
    schedule.at(BUDGET, loop.time() + 60)
    schedule.soon(BUDGET)
    schedule.at(BUDGET, loop.time() - 1)
    assert (await schedule.take())[0] == BUDGET
    schedule.done(BUDGET)
    assert schedule.is_quiet
