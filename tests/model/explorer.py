"""Breadth first through every world that can be reached; the first one that breaks a promise is told with the way to it."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tests.model.steps import Steps
from tests.model.world import Instance, Life, Stage, Step, World
from tollkeeper.limits import Limit


@dataclass(frozen=True, slots=True)
class Explored:
    """How many worlds and steps there were, how deep the furthest world is, and what was broken on which way, if anything."""

    worlds: int
    steps: int
    depth: int
    broken: str | None = None
    way: tuple[str, ...] = ()


def explore(size: Instance, *, most: int = 1_000_000) -> Explored:
    """Every world of one size. Raises `RuntimeError` beyond `most` worlds: then nothing was proved."""
    steps = Steps(size)
    first = steps.start()
    came_from: dict[World, tuple[World, str] | None] = {first: None}
    level: deque[World] = deque([first])
    taken = depth = 0
    while level:
        following: deque[World] = deque()
        for world in level:
            for step in steps.of(world):
                taken += 1
                broken = wrong(step, size, steps.limit)
                if broken:
                    return Explored(len(came_from), taken, depth, broken, (*_way(came_from, world), step.name))
                if step.world not in came_from:
                    came_from[step.world] = (world, step.name)
                    following.append(step.world)
        if len(came_from) > most:
            raise RuntimeError(f"more than {most} worlds: choose a smaller instance")
        level, depth = following, depth + bool(following)
    return Explored(len(came_from), taken, depth)


def _way(came_from: dict[World, tuple[World, str] | None], world: World) -> tuple[str, ...]:
    names: list[str] = []
    while (before := came_from[world]) is not None:
        world, name = before
        names.append(name)
    return tuple(reversed(names))


def wrong(step: Step, size: Instance, limit: Limit) -> str | None:
    """What a step breaks, if anything."""
    world = step.world
    if step.expected is not None and world.books != step.expected:
        return f"refinement: the model says {step.expected}, the ledger {world.books}"
    return next((name for name, holds in PROMISES.items() if not holds(world, size, limit)), None)


def _no_overshoot(world: World, size: Instance, limit: Limit) -> bool:
    account = world.account
    return account.spent + account.unreconciled + account.held <= account.cap(limit) and account.overshoot == 0


def _nothing_lost(world: World, size: Instance, limit: Limit) -> bool:
    account = world.account
    return sum(request.used for request in world.requests) <= account.spent + account.unreconciled + account.held


def _counted_once(world: World, size: Instance, limit: Limit) -> bool:
    booked = {f"r{number}": request.used for number, request in enumerate(world.requests)}
    account = world.account
    return account.spent == sum(booked[name] for name in world.books.booked) and account.requests == len(
        world.books.booked
    )


def _sums_of_leases(world: World, size: Instance, limit: Limit) -> bool:
    account, books = world.account, world.books
    return (account.held, account.unreconciled) == (books.held, books.unreconciled) and min(books.outstanding) >= 0


def _covered(world: World, size: Instance, limit: Limit) -> bool:
    """What a holder may still hand out, has handed out or has not reported is never more than its lease."""
    books = world.books
    for index, party in enumerate(world.parties):
        own = [(f"r{n}", one) for n, one in enumerate(world.requests) if one.holder == index]
        flying = size.hold * sum(one.stage is not Stage.SETTLED for _, one in own)
        unbooked = sum(one.used for name, one in own if one.stage is Stage.SETTLED and name not in books.booked)
        if party.life in (Life.ALIVE, Life.CRASHED) and party.free + flying + unbooked > books.outstanding[index]:
            return False
    return True


PROMISES: dict[str, Callable[[World, Instance, Limit], bool]] = {
    "I1: spent + unreconciled + held <= cap": _no_overshoot,
    "I2: the provider's book <= spent + unreconciled + held": _nothing_lost,
    "I3: each request counts once": _counted_once,
    "held and unreconciled are the sums of leases": _sums_of_leases,
    "a holder hands out no more than its lease": _covered,
}
