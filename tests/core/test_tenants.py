"""The tree of tenants and the owners of namespaces."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.policy_builders import codes, namespaces, tenant
from tollkeeper.resources import Tenant
from tollkeeper.tenants import MAX_DEPTH, Namespace, governed, resolve

NAMES = [f"t{number}" for number in range(12)]
SPACES = ["a", "b", "c", "d"]


@st.composite
def forests(draw: st.DrawFn) -> list[Tenant]:
    """Any tenants at all: with circles, missing parents, deep chains and claims to the same namespaces."""
    chosen = draw(st.lists(st.sampled_from(NAMES), unique=True))
    return [
        tenant(
            name,
            parent=draw(st.none() | st.sampled_from([other for other in NAMES if other != name])),
            names=tuple(draw(st.lists(st.sampled_from([*SPACES, "absent"]), unique=True, max_size=3))),
            team=draw(st.none() | st.sampled_from(["red", "blue"])),
            created=draw(st.none() | st.sampled_from(["01", "02"])),
        )
        for name in chosen
    ]


spaces = st.fixed_dictionaries({name: st.sampled_from([None, "red", "blue"]) for name in SPACES}).map(
    lambda teams: {name: Namespace({"team": team} if team else {}) for name, team in teams.items()}
)


@given(forests(), spaces)
def test_every_chain_ends_at_a_root_or_has_a_problem(tenants: list[Tenant], known: dict[str, Namespace]) -> None:
    tree = resolve(tenants, known)
    roots = {one.name for one in tenants if one.spec.parent_ref is None}
    blamed = {problem.ref.name for problem in tree.problems if problem.path == "spec.parentRef.name"}
    for name, node in tree.nodes.items():
        sound = node.chain[-1] in roots and len(node.chain) <= MAX_DEPTH
        assert sound != (name in blamed)


@given(forests(), spaces)
def test_no_tenant_is_above_itself(tenants: list[Tenant], known: dict[str, Namespace]) -> None:
    nodes = resolve(tenants, known).nodes
    assert set(nodes) == {one.name for one in tenants}
    for name, node in nodes.items():
        assert node.chain[0] == name
        assert len(set(node.chain)) == len(node.chain)
        if len(node.chain) > 1:
            assert node.chain[1:] == nodes[node.chain[1]].chain


@given(forests(), spaces)
def test_a_namespace_has_one_owner_among_those_who_claim_it(tenants: list[Tenant], known: dict[str, Namespace]) -> None:
    tree = resolve(tenants, known)
    claims = {
        space: {
            one.name
            for one in tenants
            if space in one.spec.namespaces.names
            or (one.spec.namespaces.selector is not None and one.spec.namespaces.selector.takes(known[space].labels))
        }
        for space in known
    }
    assert set(tree.owners) == {space for space, claimants in claims.items() if claimants}
    assert all(owner in claims[space] for space, owner in tree.owners.items())
    assert {(space, name) for name, node in tree.nodes.items() for space in node.namespaces} == set(tree.owners.items())
    doubly = {name for claimants in claims.values() if len(claimants) > 1 for name in claimants}
    assert doubly <= {problem.ref.name for problem in tree.problems if problem.code == "NamespaceOwnedTwice"}


@given(forests(), spaces, st.randoms())
def test_the_order_of_tenants_does_not_matter(
    tenants: list[Tenant], known: dict[str, Namespace], random: object
) -> None:
    shuffled = list(tenants)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert resolve(shuffled, dict(reversed(known.items()))) == resolve(tenants, known)


def test_a_path_names_the_way_from_the_top() -> None:
    tree = resolve([tenant("c", "b"), tenant("a"), tenant("b", "a")], {})
    assert {name: node.path for name, node in tree.nodes.items()} == {"a": "a", "b": "a/b", "c": "a/b/c"}
    assert tree.nodes["c"].root == "a"
    assert tree.is_within("c", "a")
    assert not tree.is_within("a", "c")
    assert not tree.is_within("missing", "a")


def test_a_circle_is_told_alike_to_each_of_its_tenants_and_to_those_below() -> None:
    tree = resolve([tenant("a", "c"), tenant("b", "a"), tenant("c", "b"), tenant("below", "b")], {})
    circle = "the tenants a → c → b → a are each above the other"
    assert codes(tree.problems) == {(name, "TenantCycle") for name in ("a", "b", "c", "below")}
    assert {problem.reason for problem in tree.problems if problem.ref.name != "below"} == {circle}
    assert tree.nodes["below"].chain == ("below", "b")


def test_below_a_missing_parent_everybody_is_told_who_names_it() -> None:
    tree = resolve([tenant("child", "gone"), tenant("grandchild", "child")], {})
    assert [str(problem) for problem in tree.problems] == [
        "Tenant child: spec.parentRef.name: there is no Tenant gone; create the Tenant gone, or name another parent",
        "Tenant grandchild: spec.parentRef.name: the tenant child above it names the parent gone: there is no Tenant gone; "
        "create the Tenant gone, or name another parent",
    ]


def test_eight_levels_are_the_most_and_the_ninth_keeps_all_limits_above() -> None:
    names = [f"level-{number}" for number in range(1, MAX_DEPTH + 2)]
    tree = resolve([tenant(name, parent) for name, parent in zip(names, [None, *names], strict=False)], {})
    assert codes(tree.problems) == {("level-9", "TooDeep")}
    assert len(tree.nodes["level-9"].chain) == 9


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_name_comes_before_a_label_and_the_earlier_before_the_later(order: tuple[int, ...]) -> None:
    claimants = [
        tenant("labels", team="red", created="01"),
        tenant("later", names=("space",), created="03"),
        tenant("earlier", names=("space",), created="02"),
    ]
    tree = resolve([claimants[index] for index in order], namespaces(space="red"))
    assert tree.owners == {"space": "earlier"}
    told = {problem.ref.name: problem.reason for problem in tree.problems}
    assert told["labels"] == (
        "it selects the namespace space, which the tenant earlier claims too, and does not get it: earlier owns it"
    )
    assert "and keeps it" in told["earlier"]
    assert set(told) == {"labels", "later", "earlier"}


def test_a_namespace_that_does_not_exist_yet_has_no_owner_and_may_not_be_claimed_twice() -> None:
    tree = resolve([tenant("one", names=("soon",)), tenant("two", names=("soon",))], {})
    assert tree.owners == {}
    assert codes(tree.problems) == {("one", "NamespaceOwnedTwice"), ("two", "NamespaceOwnedTwice")}


def test_governed_are_the_owned_and_the_labelled_namespaces() -> None:
    known = namespaces("owned", "neither") | {"labelled": Namespace({"tollkeeper.dev/metered": "true"})}
    assert governed(resolve([tenant("one", names=("owned",))], known), known) == {"owned", "labelled"}
