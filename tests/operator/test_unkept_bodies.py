"""A tenant that wants bodies kept where there is no key is told so; all else of it is in force (R27)."""

import pytest

from tollkeeper.prices import PriceList
from tollkeeper.problems import ObjectRef
from tollkeeper_operator.feed import Feed
from tollkeeper_operator.gathered import gather


@pytest.mark.parametrize(
    ("bodies", "keeps_bodies", "told"), [("Always", False, 1), ("Always", True, 0), ("Never", False, 0)]
)
def test_a_tenant_is_told_that_there_is_no_key_where_it_wants_one(bodies: str, keeps_bodies: bool, told: int) -> None:
    """R27."""
    feed = Feed(lambda *_: None)
    about = {"name": "research", "resourceVersion": "1", "uid": "u"}
    spec = {"level": "Team", "capture": {"bodies": bodies}}
    feed.note("Tenant", {"apiVersion": "tollkeeper.dev/v1alpha1", "kind": "Tenant", "metadata": about, "spec": spec})
    gathered = gather(feed, PriceList.bundled(), 1, keeps_bodies=keeps_bodies)
    problems = gathered.problems.get(ObjectRef("Tenant", "", "research"), ())
    assert [(one.path, one.code, one.refuses) for one in problems] == [
        ("spec.capture.bodies", "NoCaptureKey", False)
    ] * told
    assert "research" in gathered.policy.tenants
