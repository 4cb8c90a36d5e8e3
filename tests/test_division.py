"""How the tests are divided among workers."""

from pathlib import Path

import pytest

from tests.division import ON_THE_SHARED_CLUSTER, scope_of

ROOT = Path(__file__).parents[1]


def test_all_tests_of_the_shared_cluster_go_to_one_worker(request: pytest.FixtureRequest) -> None:
    """Of those that this run collected: in a whole run, all."""
    on_it = [item.nodeid for item in request.session.items if "cluster" in getattr(item, "fixturenames", ())]
    assert {scope_of(nodeid) for nodeid in on_it} <= {scope_of(f"{ON_THE_SHARED_CLUSTER[0]}test_any.py::test_any")}


def test_the_folders_of_the_shared_cluster_are_there() -> None:
    assert all((ROOT / folder).is_dir() for folder in ON_THE_SHARED_CLUSTER)


def test_all_other_tests_stay_with_their_file() -> None:
    assert scope_of("tests/core/test_gates.py::test_a[x::y]") == scope_of("tests/core/test_gates.py::TestB::test_c")
    assert scope_of("tests/core/test_gates.py::test_a") != scope_of("tests/core/test_grants.py::test_a")
