"""How `tollkeeper up` ends when it is asked to: in order and in time, at once when it is asked twice."""

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest
from tests.e2e.conftest import apply_policy
from tests.e2e.programs import Up, simulated_provider, wait_for

from tollkeeper_cluster import Kubectl, LocalCluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

IDLE_SECONDS = 15.0
"""What an end takes at most when no request is in flight."""
AT_ONCE_SECONDS = 3.0


def children(pid: int) -> str:
    return " ".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")).strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_one_signal_ends_it_in_order(up: Up, number: signal.Signals) -> None:
    up.start()
    assert children(up.pid) == ""
    assert up.send(number).wait(IDLE_SECONDS) == 0
    assert '"event": "stopping' in up.log.read_text()
    assert "Traceback" not in up.log.read_text()
    assert not (up.data / "temporary").exists()


def test_a_second_ctrl_c_does_not_wait_for_requests_in_flight_and_they_are_charged_later(
    slow_up: Up, own_kubectl: Kubectl
) -> None:
    slow_up.start()
    apply_policy(own_kubectl, "slow", "5.00")
    with streaming(slow_up, slow_up.new_key("slow")):
        slow_up.send(signal.SIGINT)
        wait_for("the end to begin", lambda: '"event": "stopping' in slow_up.log.read_text())
        assert slow_up.send(signal.SIGINT).wait(AT_ONCE_SECONDS) == -signal.SIGINT
    assert "Traceback" not in slow_up.log.read_text()
    slow_up.start()
    wait_for("what was in flight to be charged", lambda: charged(slow_up))
    assert slow_up.stop() == 0


@pytest.fixture
def slow_up(own_cluster: LocalCluster, tmp_path: Path) -> Iterator[Up]:
    """`tollkeeper up`, not yet started, whose provider takes a minute for an answer."""
    with simulated_provider(tmp_path, "--milliseconds-per-token", "100") as (url, _):
        running = Up(tmp_path, own_cluster.environment(), url)
        kubectl = Kubectl(own_cluster.kubectl, own_cluster.environment())
        kubectl("delete", "lease", "tollkeeper-ledger", "-n", "tollkeeper-system", "--ignore-not-found")
        yield running
        running.kill()


def charged(up: Up) -> int:
    """Nano-dollars that are spent, or stand as unreconciled."""
    entries = (entry for line in up.exported() for entry in line["entries"])
    return sum(e["amount"] for e in entries if e["account"].endswith(("#spent", "#unreconciled")))


@contextmanager
def streaming(up: Up, key: str) -> Iterator[None]:
    """A long answer that has begun."""
    with openai.OpenAI(base_url=f"{up.addresses['gateway']}/openai/v1", api_key=key, max_retries=0) as client:
        chunks = client.chat.completions.create(
            model="gpt-5-mini",
            messages=[{"role": "user", "content": "hello"}],
            extra_headers={"Provider-Usage": "input=10,output=600"},
            stream=True,
        )
        with chunks:
            next(iter(chunks))
            yield


def test_it_ends_in_time_while_the_api_server_is_away(up: Up, own_cluster: LocalCluster) -> None:
    up.start()
    own_cluster.stop_api_server()
    try:
        assert up.send(signal.SIGTERM).wait(IDLE_SECONDS) == 0
    finally:
        own_cluster.start_api_server()
    assert "Traceback" not in up.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_while_it_waits_for_an_api_server_that_says_nothing(
    up: Up, tmp_path: Path, number: signal.Signals
) -> None:
    asked = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as silent:

        def take() -> None:
            connections.append(silent.accept()[0])
            asked.set()

        connections: list[socket.socket] = []
        threading.Thread(target=take, daemon=True).start()
        kubeconfig = tmp_path / "silent"
        kubeconfig.write_text(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n"
            f"clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:{silent.getsockname()[1]}'}}}}]\n"
            "users: [{name: u, user: {token: t}}]\n"
        )
        up.launch("--kubeconfig", str(kubeconfig))
        assert asked.wait(30)
        assert up.send(number).wait(AT_ONCE_SECONDS) == 0
        connections[0].close()
    assert up.log.read_text() == ""


def test_a_closed_terminal_does_not_end_what_was_started_to_outlive_it(up: Up) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does; a child begins with it
    try:
        up.start()
    finally:
        signal.signal(signal.SIGHUP, before)
    up.send(signal.SIGHUP)
    assert up.tollkeeper("keys", "list").returncode == 0
    assert up.stop() == 0
    assert "Traceback" not in up.log.read_text()
