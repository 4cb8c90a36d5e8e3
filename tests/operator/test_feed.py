"""The feed: whatever the order in which watches and listings arrive, what it holds is the newest."""

from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.problems import ObjectRef
from tollkeeper_operator.feed import Change, Feed

NAMES = ("a", "b")


def made(name: str, version: int, **extra: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "ns", "resourceVersion": str(version), "uid": name}
    return {"apiVersion": "v1", "kind": "Thing", "metadata": metadata, **extra}


def ref(name: str) -> ObjectRef:
    return ObjectRef("Thing", "ns", name)


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, int, bool]]:
    """What happened on the server: name, version, deleted."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=10))
    return [(name, number, draw(st.booleans())) for number, name in enumerate(names, start=1)]


@given(histories(), st.data())
def test_events_late_twice_or_around_a_listing_end_in_the_servers_state(
    history: list[tuple[str, int, bool]], data: st.DataObject
) -> None:
    truth: dict[str, int] = {}
    listed_at = data.draw(st.integers(0, len(history)))
    listing: Mapping[str, int] = {}
    for name, number, deleted in history:
        truth = {**truth, name: number} if not deleted else {one: at for one, at in truth.items() if one != name}
        if number == listed_at:
            listing = dict(truth)
    feed = Feed(lambda _ref, _change: None)
    # Of one object a watch tells in order; different objects, and the listing, in any.
    queues = {name: [event for event in history if event[0] == name] for name in NAMES}
    is_listed = False
    while not is_listed or any(queues.values()):
        turn = data.draw(st.sampled_from([name for name in NAMES if queues[name]] + ([] if is_listed else ["list"])))
        if turn == "list":
            feed.replace("Thing", [made(name, at) for name, at in listing.items()], listed_at)
            is_listed = True
            continue
        name, number, deleted = queues[turn].pop(0)
        for _ in range(data.draw(st.integers(1, 2))):
            feed.note("Thing", made(name, number), deleted=deleted)
    held = {raw["metadata"]["name"]: int(raw["metadata"]["resourceVersion"]) for raw in feed.of_kind("Thing")}
    assert held == truth


def test_a_listing_forgets_what_a_broken_watch_never_said_was_deleted() -> None:
    told: list[tuple[ObjectRef, Change]] = []
    feed = Feed(lambda one, change: told.append((one, change)))
    feed.replace("Thing", [made("a", 1), made("b", 2)], 2)
    feed.replace("Thing", [made("b", 2)], 9)
    assert feed.get(ref("a")) is None
    assert told[-1] == (ref("a"), Change.POLICY)


def test_an_object_that_is_deleted_is_not_brought_back_by_a_late_answer() -> None:
    feed = Feed(lambda _ref, _change: None)
    feed.note("Thing", made("a", 1))
    feed.note("Thing", made("a", 5), deleted=True)
    feed.note("Thing", made("a", 4))
    assert feed.get(ref("a")) is None
    feed.note("Thing", made("a", 6))
    assert feed.get(ref("a")) is not None


def test_a_change_is_of_policy_of_status_or_nothing() -> None:
    told: list[Change] = []
    feed = Feed(lambda _ref, change: told.append(change))
    feed.note("Thing", made("a", 1, spec={"x": 1}))
    feed.note("Thing", made("a", 2, spec={"x": 1}, status={"y": 1}))
    feed.note("Thing", made("a", 3, spec={"x": 1}, status={"y": 1}))
    feed.note("Thing", made("a", 4, spec={"x": 2}, status={"y": 1}))
    assert told == [Change.POLICY, Change.STATUS, Change.POLICY]


def test_who_wrote_which_field_is_not_kept() -> None:
    feed = Feed(lambda _ref, _change: None)
    raw = made("a", 1)
    raw["metadata"]["managedFields"] = [{"manager": "kubectl"}]
    feed.note("Thing", raw)
    held = feed.get(ref("a"))
    assert held is not None
    assert "managedFields" not in held["metadata"]
    assert "managedFields" in raw["metadata"]
