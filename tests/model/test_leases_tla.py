"""The text of `docs/leases.tla` itself, evaluated.

Its promises hold in every state that it allows, and every step of the real ledger in its small world is one of its steps.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest

from tests.model.steps import Steps
from tests.model.tla import Specification
from tests.model.tlatext import UnknownTla
from tests.model.tlavalues import State, Value, function
from tests.model.world import Instance, Party, World

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "leases.tla").read_text()
CONFIGURED = (DOCS / "leases.cfg").read_text()
DOCUMENT = (DOCS / "leases.md").read_text()

FIRST = "two calls each, one request"
INSTANCES = {
    FIRST: Instance(holders=2, calls=2, requests=1, cap=3),
    "one call each, two requests": Instance(holders=2, calls=1, requests=2, cap=4),
    "one call each, one request": Instance(holders=2, calls=1, requests=1, cap=3),
    "three calls of one holder, one request": Instance(holders=1, calls=3, requests=1, cap=3),
}
LARGE = list(INSTANCES)[:2]
ONE_HOLDER = INSTANCES["three calls of one holder, one request"]
each_instance = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LARGE)) for name in INSTANCES]
)


def promises() -> list[str]:
    """The invariants that `leases.cfg` names."""
    (line,) = re.findall(r"^INVARIANTS (.*)$", CONFIGURED, re.MULTILINE)
    names: list[str] = line.split()
    return names


def constants_of(size: Instance) -> dict[str, Value]:
    return {
        "Holders": frozenset(f"h{number}" for number in range(size.holders)),
        "Requests": frozenset(f"r{number}" for number in range(size.requests)),
        "Cap": size.cap,
        "Hold": size.hold,
        "Wants": frozenset(size.wants),
        "MaxCalls": size.calls,
    }


def specification(size: Instance, text: str = TEXT) -> Specification:
    return Specification(text, constants_of(size))


@dataclass(frozen=True, slots=True)
class Walked:
    """The steps from every state that can be reached, how deep the furthest is, and the first promise that does not hold."""

    steps: Mapping[State, list[State]]
    depth: int
    broken: str | None = None

    @property
    def figures(self) -> tuple[int, int, int]:
        return len(self.steps), sum(map(len, self.steps.values())), self.depth


def walk(module: Specification) -> Walked:
    """Breadth first through every state, up to the first that breaks a promise."""
    steps: dict[State, list[State]] = {}
    level, depth = module.initial(), -1
    while level:
        depth += 1
        for state in level:
            for name in promises():
                if not module.holds(name, state):
                    return Walked(steps, depth, name)
            steps[state] = list(module.following(state))
        level = {after for state in level for after in steps[state]} - steps.keys()
    return Walked(steps, depth)


@cache
def walked(name: str) -> tuple[Specification, Walked]:
    """An instance of the text as it stands; walked once for all tests of it."""
    module = specification(INSTANCES[name])
    return module, walk(module)


def told(size_name: str) -> tuple[int, ...]:
    """The figures that the document tells of an instance of the text."""
    section = DOCUMENT.partition("| Instance of `leases.tla` itself |")[2]
    (row,) = re.findall(rf"^\| {size_name} \|.*\| ([\d,]+) \| ([\d,]+) \| (\d+) \|$", section, re.MULTILINE)
    return tuple(int(number.replace(",", "")) for number in row)


def state_of(world: World, size: Instance, module: Specification) -> State:
    """A world around the real ledger as the text says it."""
    begun = dict(enumerate(world.requests))
    requests = {f"r{number}": begun.get(number) for number in range(size.requests)}
    books = world.books
    said = {
        "spent": books.spent,
        "booked": books.booked,
        **{name: by_holder(getattr(books, name)) for name in ("outstanding", "lapsed", "closed", "heard")},
        "life": by_holder([party.life.value for party in world.parties]),
        "free": by_holder([party.free for party in world.parties]),
        "sequence": by_holder([party.sequence for party in world.parties]),
        "pending": by_holder([awaited(party) for party in world.parties]),
        "stage": function((name, one.stage.value if one else "new") for name, one in requests.items()),
        "owner": function((name, f"h{one.holder if one else 0}") for name, one in requests.items()),
        "used": function((name, one.used if one else 0) for name, one in requests.items()),
        "calls": frozenset(
            record(holder=f"h{one.holder}", sequence=one.sequence, want=one.want, returned=one.returned)
            for one in world.network
            if one.granted is None
        ),
        "answers": frozenset(
            record(holder=f"h{one.holder}", sequence=one.sequence, granted=one.granted)
            for one in world.network
            if one.granted is not None
        ),
    }
    return tuple(said[name] for name in module.variables)


def by_holder(values: "list[Value] | tuple[Value, ...]") -> Value:
    return function((f"h{number}", value) for number, value in enumerate(values))


def record(**fields: Value) -> Value:
    return function(fields.items())


def awaited(party: Party) -> Value:
    call = party.pending
    if call is None:
        return record(sequence=0, want=0, returned=0)
    return record(sequence=call.sequence, want=call.want, returned=call.returned)


def steps_that_are_none(size: Instance, module: Specification, found: Walked) -> list[str]:
    """The steps of the explorer's worlds that the text does not allow. A step that changes nothing is none at all."""
    steps = Steps(size)
    seen, waiting, foreign = {steps.start()}, [steps.start()], []
    while waiting:
        world = waiting.pop()
        before = state_of(world, size, module)
        allowed = {before, *found.steps[before]}
        for step in steps.of(world):
            if state_of(step.world, size, module) not in allowed:
                foreign.append(step.name)
            elif step.world not in seen:
                seen.add(step.world)
                waiting.append(step.world)
    return foreign


def test_the_configuration_is_the_first_instance() -> None:
    given = dict(re.findall(r"^  (\w+) = (.*)$", CONFIGURED, re.MULTILINE))
    sets = {name: frozenset(re.findall(r"\w+", text)) for name, text in given.items() if text.startswith("{")}
    numbers = {name: int(text) for name, text in given.items() if name not in sets}
    wants = frozenset(map(int, sets.pop("Wants")))
    assert {**sets, **numbers, "Wants": wants} == constants_of(INSTANCES[FIRST])


@each_instance
def test_no_state_that_the_text_allows_breaks_a_promise(name: str) -> None:
    _, found = walked(name)
    assert found.broken is None
    assert found.figures == told(name)


@each_instance
def test_every_step_of_the_code_is_a_step_of_the_text(name: str) -> None:
    assert steps_that_are_none(INSTANCES[name], *walked(name)) == []


FAULTS = {
    "a call counts as often as it arrives": (r"~closed[c.holder] /\ c.sequence > heard[c.holder]", "~closed[c.holder]"),
    "a grant looks at what is spent alone": ("granted <= Available +", "granted <= Cap - spent +"),
    "a report is booked twice": (r'stage[r] = "settled" /\ r \notin booked', 'stage[r] = "settled"'),
    "what a holder had is forgotten when it lapses": (
        "lapsed' = [lapsed EXCEPT ![h] = TRUE]\n  /\\ UNCHANGED <<spent, outstanding,",
        "lapsed' = [lapsed EXCEPT ![h] = TRUE]\n  /\\ outstanding' = [outstanding EXCEPT ![h] = 0]\n  /\\ UNCHANGED <<spent,",
    ),
    "a holder takes back what it returned": (
        "/\\ answers' = {a \\in answers : a.holder # h}\n  /\\ UNCHANGED <<authority, life, free, sequence, requests, calls>>",
        "/\\ answers' = {a \\in answers : a.holder # h}\n  /\\ free' = [free EXCEPT ![h] = @ + pending[h].returned]\n"
        "  /\\ UNCHANGED <<authority, life, sequence, requests, calls>>",
    ),
    "a holder is closed before its requests are booked": (r"  /\ Unbooked(h) = {}" + "\n", ""),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_text_breaks_a_promise(fault: str) -> None:
    right, wrong = FAULTS[fault]
    assert TEXT.count(right) == 1
    assert walk(specification(ONE_HOLDER, TEXT.replace(right, wrong))).broken is not None


def test_the_code_takes_steps_that_a_stricter_text_does_not_allow() -> None:
    """Were the comparison blind, a text in which no lease ever lapses would pass it."""
    module = specification(ONE_HOLDER, TEXT.replace("outstanding[h] > 0 /\\ ~lapsed[h]", "outstanding[h] > Cap"))
    assert any("lapses" in step for step in steps_that_are_none(ONE_HOLDER, module, walk(module)))


def test_an_action_that_leaves_a_variable_open_is_refused() -> None:
    right = "  /\\ UNCHANGED <<spent, outstanding, closed, heard, booked, holders, requests, network>>\n"
    assert TEXT.count(right) == 1
    with pytest.raises(UnknownTla, match="does not say what becomes of"):
        walk(specification(ONE_HOLDER, TEXT.replace(right, "")))


def test_constants_that_the_module_does_not_assume_are_refused() -> None:
    with pytest.raises(UnknownTla, match="not what the module assumes"):
        specification(replace(ONE_HOLDER, hold=0))


def test_a_text_that_is_not_tla_is_refused_with_its_line() -> None:
    with pytest.raises(UnknownTla, match=r"line \d+ is not TLA\+"):
        specification(ONE_HOLDER, TEXT.replace("Held         == SumOver(", "Held         == SumOver(("))


def test_what_is_not_evaluated_here_is_refused() -> None:
    with pytest.raises(UnknownTla, match="case is not evaluated here"):
        walk(specification(ONE_HOLDER, TEXT.replace("Available    == Cap", "Available    == CASE TRUE -> Cap")))
