"""Whose bodies are next: no tenant holds up another by more than one of its own (R27)."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from tests.sidecar.builders import NOW
from tollkeeper.captures import KeptBodies
from tollkeeper.redactionrules import Redaction
from tollkeeper_sidecar.recording import About, Recorded, Remembered
from tollkeeper_sidecar.turns import Turns

EMPTY = Remembered("application/json", b"", 0)
RULES = KeptBodies(timedelta(days=1), Redaction())


def of(tenant: str, number: int = 0) -> Recorded:
    return Recorded(About(f"{tenant}-{number}", tenant, NOW, RULES), 200, EMPTY, EMPTY, 0)


def served(turns: Turns, count: int, seconds: dict[str, float]) -> str:
    """The tenants that are served next, each at its cost."""
    order = ""
    for _ in range(count):
        tenant = turns.next().about.tenant
        turns.costs(tenant, seconds[tenant])
        order += tenant
    return order


def test_who_costs_much_is_served_as_long_as_the_others_and_no_more_often() -> None:
    turns = Turns(1000, 1000)
    for number in range(100):
        assert turns.put(of("s", number))
        assert turns.put(of("q", number))
    assert served(turns, 102, {"s": 10.0, "q": 0.1}).count("s") == 2


def test_who_comes_late_has_saved_up_nothing() -> None:
    turns = Turns(1000, 1000)
    for number in range(100):
        turns.put(of("a", number))
    served(turns, 50, {"a": 1.0})
    for number in range(100):
        turns.put(of("b", number))
    assert served(turns, 10, {"a": 1.0, "b": 1.0}).count("a") == 5


def test_who_comes_one_by_one_pays_for_what_it_had() -> None:
    turns = Turns(1000, 1000)
    for number in range(100):
        turns.put(of("q", number))
    order = ""
    for _ in range(50):
        turns.put(of("s"))
        order += served(turns, 1, {"s": 10.0, "q": 0.5})
    assert order.count("s") <= 3


def test_one_tenant_has_no_more_than_its_share() -> None:
    turns = Turns(4, 2)
    assert [turns.put(of(tenant)) for tenant in "aaabbc"] == [True, True, False, True, True, False]
    assert len(turns) == 4
    assert not turns.is_mostly_free
    assert turns.clear() == 4
    assert (len(turns), turns.is_mostly_free) == (0, True)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 20)), max_size=40))
def test_all_that_waits_is_served_once_and_each_tenants_in_its_order(asked: list[tuple[str, float]]) -> None:
    turns = Turns(5, 3)
    got: dict[str, list[str]] = {tenant: [] for tenant in "abc"}
    taken: dict[str, list[str]] = {tenant: [] for tenant in "abc"}

    def serve(seconds: float) -> None:
        one = turns.next().about
        turns.costs(one.tenant, seconds)
        got[one.tenant].append(one.request_id)

    for number, (tenant, seconds) in enumerate(asked):
        if turns.put(of(tenant, number)):
            taken[tenant].append(f"{tenant}-{number}")
        elif len(turns):
            serve(seconds)
    while len(turns):
        serve(0.0)
    assert got == taken
