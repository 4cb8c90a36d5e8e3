"""A run leaves no process and no file behind, however the program that started it ends."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tollkeeper_cluster import LocalCluster, StartError
from tollkeeper_cluster.folders import FOLDER_PREFIX, sweep
from tollkeeper_cluster.keeper import RECORDS
from tollkeeper_cluster.run import Run

_DEADLINE_SECONDS = 20.0
_SLEEPER = ["/bin/sleep", "1000"]
# Starts a cluster, tells its folder, and then waits to be killed.
_OWNER = """
import signal
from tollkeeper_cluster import LocalCluster
cluster = LocalCluster.start()
print(cluster.folder, flush=True)
signal.pause()
"""


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder for these runs alone, so that a sweep here meets no others."""
    folder = tmp_path_factory.mktemp("runs")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.fixture
def sleeping() -> Iterator[Run]:
    """A run with one server."""
    run = Run()
    run.start("sleeper", _SLEEPER)
    yield run
    run.end()


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited {_DEADLINE_SECONDS} s until {what}"
        time.sleep(0.01)


def servers(folder: Path) -> list[int]:
    return [pid for pid, _ in json.loads((folder / RECORDS).read_text()).values()]


def keeper_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def owner(program: str = _OWNER) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)


def test_an_ended_run_leaves_nothing(sleeping: Run) -> None:
    pids = servers(sleeping.folder)
    keeper = keeper_of(pids[0])
    sleeping.end()
    assert not any(lives(pid) for pid in [keeper, *pids])
    assert not sleeping.folder.exists()


def test_ending_twice_is_allowed(sleeping: Run) -> None:
    sleeping.end()
    sleeping.end()


def test_an_ended_run_takes_no_orders(sleeping: Run) -> None:
    sleeping.end()
    with pytest.raises(StartError, match="has ended"):
        sleeping.start("late", _SLEEPER)


def test_a_program_that_cannot_be_run_is_named(sleeping: Run) -> None:
    with pytest.raises(StartError, match="No such file or directory: /no/such/program"):
        sleeping.start("missing", ["/no/such/program"])


def test_a_server_that_ends_by_itself_is_reported_with_its_last_words(sleeping: Run) -> None:
    sleeping.start("failing", ["/bin/sh", "-c", "echo fine; echo the port is taken >&2; exit 3"])
    until(lambda: sleeping.failure() is not None, "the server has ended")
    assert sleeping.failure() == "failing ended with 3: the port is taken"


def test_the_reason_of_a_failure_is_told_rather_than_the_stack_after_it(sleeping: Run) -> None:
    sleeping.start("failing", ["/bin/sh", "-c", "echo panic: disk full; echo; echo 'main.go:11 +0x28'; exit 2"])
    until(lambda: sleeping.failure() is not None, "the server has ended")
    assert sleeping.failure() == "failing ended with 2: panic: disk full"


def test_a_stopped_server_is_no_failure(sleeping: Run) -> None:
    (pid,) = servers(sleeping.folder)
    sleeping.stop("sleeper")
    assert not lives(pid)
    assert sleeping.failure() is None


def test_a_sweep_leaves_a_living_run_alone(sleeping: Run) -> None:
    sweep()
    assert all(lives(pid) for pid in servers(sleeping.folder))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a parent-death signal")
def test_servers_die_with_a_killed_keeper_and_the_next_run_sweeps_its_folder(sleeping: Run) -> None:
    folder, pids = sleeping.folder, servers(sleeping.folder)
    os.kill(keeper_of(pids[0]), signal.SIGKILL)
    until(lambda: not any(map(lives, pids)), "the servers are gone")
    assert folder.exists()
    Run().end()
    assert not folder.exists()


def test_a_sweep_spares_a_process_that_took_over_a_recorded_pid(temporary_folder: Path) -> None:
    stale = temporary_folder / f"{FOLDER_PREFIX}stale"
    stale.mkdir()
    with subprocess.Popen(_SLEEPER) as innocent:
        (stale / RECORDS).write_text(json.dumps({"etcd": [innocent.pid, "the start of another process"]}))
        sweep()
        assert lives(innocent.pid)
        innocent.kill()
    assert not stale.exists()


@pytest.mark.cluster
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_of_a_cluster_is_left_when_its_program_is_ended_by(ending: signal.Signals) -> None:
    with owner() as program:
        assert program.stdout is not None
        folder = Path(program.stdout.readline().strip())
        pids = servers(folder)
        everything = [keeper_of(pids[0]), *pids]
        assert all(map(lives, everything))
        program.send_signal(ending)
    until(lambda: not any(map(lives, everything)), "every process is gone")
    until(lambda: not folder.exists(), "the run folder is gone")


@pytest.mark.cluster
def test_nothing_is_left_when_a_server_cannot_start(temporary_folder: Path, cluster: LocalCluster) -> None:
    with pytest.raises(StartError, match=r"kube-apiserver .*in time"):
        LocalCluster.start(timeout_seconds=0.0)
    assert list(temporary_folder.iterdir()) == []


@pytest.mark.cluster
def test_up_tells_how_to_reach_the_cluster_and_ends_cleanly(temporary_folder: Path) -> None:
    command = [sys.executable, "-m", "tollkeeper_cluster", "up"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        lines = [program.stdout.readline() for _ in range(4)]
        script = "".join(lines) + "kubectl get namespace default -o name"
        answer = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, timeout=60, check=True)
        program.send_signal(signal.SIGTERM)
        rest = program.stdout.read()
    assert answer.stdout == "namespace/default\n"
    assert (program.returncode, rest) == (0, "# ended\n")
    assert list(temporary_folder.iterdir()) == []
