"""How pytest-xdist divides the tests among its workers: by file, but all tests of the session's one cluster go to one worker.

A file stays whole for what its tests share (a control plane of their own, a world that was walked once). Those that share the
session's cluster run in their order on one worker: a control plane costs a tenth of a core even while nobody asks it anything,
and some tests install policies that hold for all of it.
"""

from xdist.scheduler import LoadScopeScheduling

ON_THE_SHARED_CLUSTER = ("tests/cluster/", "tests/core/resources/", "tests/kube/", "tests/operator/", "tests/webhook/")


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # it ships no types
    """Whole files; the folders of the shared cluster as if they were one."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


def scope_of(nodeid: str) -> str:
    """What a test must stay together with: a file, or all that is on the shared cluster."""
    if nodeid.startswith(ON_THE_SHARED_CLUSTER):
        return "the shared cluster"
    return nodeid.partition("::")[0]
