"""Fixtures that every room's tests share: one local cluster a session, started when the first test asks for it."""

import contextlib
import itertools
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

from tests.division import ByFile
from tollkeeper_cluster import ClusterError, Kubectl, LocalCluster, ensure_binaries
from tollkeeper_cluster.progress import Progress, shown_on, silent

# A property fails for what it says, never for how busy the machine is.
settings.register_profile("tollkeeper", deadline=None)
settings.load_profile("tollkeeper")

# Programs inherit what is ignored: under `nohup` none that a test starts would end with its terminal.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

_CLUSTER_FIXTURES = {"cluster", "kubectl", "namespace"}
_namespace_numbers = itertools.count(1)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Divide the tests as `tests/division.py` says."""
    return ByFile(config, log)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the programs before the first test starts, so that no test's own time limit covers minutes of compiling.

    Where tests are divided among workers each comes here, and no test starts before all have been: one builds, others wait.
    """
    wanted = any(_CLUSTER_FIXTURES & set(getattr(item, "fixturenames", ())) for item in session.items)
    if not wanted or session.config.option.collectonly:
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")
    shown = capture.global_and_fixture_disabled() if capture else contextlib.nullcontext()
    # Without Go the tests that need the cluster fail, each with that line; all others run.
    with shown, contextlib.suppress(ClusterError):
        ensure_binaries(_progress())


def _progress() -> Progress:
    """How far a build is, told once: by the first of pytest-xdist's workers, whether it builds or waits for another."""
    return shown_on() if os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0" else silent


@pytest.fixture(scope="session")
def cluster() -> Iterator[LocalCluster]:
    """A control plane of this session's own."""
    try:
        running = LocalCluster.start()
    except ClusterError as error:
        pytest.fail(str(error), pytrace=False)
    with running:
        yield running


@pytest.fixture(scope="session")
def kubectl(cluster: LocalCluster) -> Kubectl:
    """`kubectl("get", "ns", namespace=..., input=..., check=...)` as the administrator of the session's cluster."""
    return Kubectl(cluster.kubectl, cluster.environment())


@pytest.fixture
def namespace(cluster: LocalCluster, kubectl: Kubectl) -> Iterator[str]:
    """A new namespace that pods can be created in, deleted afterwards without waiting for its end."""
    name = f"test-{next(_namespace_numbers)}"
    kubectl("create", "namespace", name)
    if cluster.has_controllers:
        kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=30s", namespace=name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")
