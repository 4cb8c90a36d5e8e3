"""What keeps the demo, or its setup, from beginning: one clear line, before anything is built or started."""

import os
import socket
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tollkeeper_cli.listening import bound
from tollkeeper_demo.ports import require_free_ports
from tollkeeper_demo.settings import PORTS, from_environment
from tollkeeper_demo.telling import StoryError
from tollkeeper_demo.trace import TraceError

ROOT = Path(__file__).parents[2]


def free_ports() -> dict[str, str]:
    with ExitStack() as held:
        taken = {name: held.enter_context(closing(bound("127.0.0.1", 0))) for name, _ in PORTS.values()}
        return {name: str(one.getsockname()[1]) for name, one in taken.items()}


def demo(**environment: str) -> str:
    """The one line of a demo that does not begin."""
    ended = subprocess.run(
        [sys.executable, "-m", "tollkeeper_demo"], cwd=ROOT, env={**os.environ, **free_ports(), **environment},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    return line


@pytest.mark.parametrize("server", PORTS)
def test_a_taken_port_is_named_with_the_variable_that_moves_it(server: str) -> None:
    variable = PORTS[server][0]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        settings = from_environment({**free_ports(), variable: port})
        with pytest.raises(StoryError) as raised:
            require_free_ports(settings)
    assert f"cannot listen on 127.0.0.1:{port}: the port is taken" in str(raised.value)
    assert f"`make demo {variable}=" in str(raised.value)


def test_two_servers_cannot_have_one_port() -> None:
    with pytest.raises(StoryError, match="PORT and GATEWAY_PORT are both 9"):
        require_free_ports(from_environment({**free_ports(), "PORT": "9", "GATEWAY_PORT": "9"}))


@pytest.mark.parametrize("text", ["0", "-1", "65536", "web", "8080.0"])
def test_what_is_no_port_is_named_by_its_variable(text: str) -> None:
    with pytest.raises(StoryError, match=f"PORT={text}: it is not a port"):
        from_environment({"PORT": text})


def test_a_trace_is_read_whole_before_anything_is_started(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    with pytest.raises(StoryError, match=r"TRACE=.*trace\.csv: there is no such file"):
        from_environment({"TRACE": str(trace)})
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16,1,1\n2023-11-16,1,x\n")
    with pytest.raises(TraceError, match=r"trace\.csv: line 3: GeneratedTokens 'x'"):
        from_environment({"TRACE": str(trace)})


@pytest.mark.slow
def test_the_demo_tells_each_in_one_line(tmp_path: Path) -> None:
    assert demo(TRACE="missing.csv").startswith("demo: TRACE=missing.csv: there is no such file; name a CSV")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert demo(PORT=str(taken.getsockname()[1])).startswith("demo: console: cannot listen on 127.0.0.1:")


@pytest.mark.slow
def test_without_go_it_says_what_to_install(tmp_path: Path) -> None:
    empty = {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "KUBEBUILDER_ASSETS": ""}
    said = demo(**empty)
    assert said.startswith("demo: Go is needed to build the local Kubernetes and was not found: install Go 1.")
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho go1.19\necho local\n")
    go.chmod(0o755)
    assert demo(**empty).startswith(f"demo: {go} is go1.19, too old to build the local Kubernetes: install Go 1.")


def setup(folder: Path, python: str, **environment: str) -> str:
    """The first line of a `make setup` that fails in a folder of its own; after it `make` says where it failed."""
    for needed in ("requirements.lock", "pyproject.toml"):
        (folder / needed).touch()
    ended = subprocess.run(
        ["make", "-f", ROOT / "Makefile", "setup", f"PYTHON={python}"], cwd=folder, env={**os.environ, **environment},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 2
    assert not (folder / ".venv").exists()
    line, from_make = ended.stderr.splitlines()
    assert from_make.startswith("make")
    return line


def test_setup_without_the_python_that_was_named_says_so(tmp_path: Path) -> None:
    assert setup(tmp_path, "no-python").startswith(
        "tollkeeper needs Python 3.11 or newer, and there is no no-python: install it"
    )


def test_setup_with_an_old_python_says_which(tmp_path: Path) -> None:
    old = tmp_path / "old-python"
    old.write_text(
        f"#!/bin/sh\nexec {sys.executable} -c 'import sys; sys.version_info = (3, 10, 1); exec(sys.argv[2])' \"$@\"\n"
    )
    old.chmod(0o755)
    assert setup(tmp_path, str(old)) == (
        f"tollkeeper needs Python 3.11 or newer, {old} is 3.10: install a newer one, and name it with PYTHON="
    )


def test_setup_without_the_modules_of_environments_says_how_to_get_them(tmp_path: Path) -> None:
    (tmp_path / "ensurepip.py").write_text("raise ImportError")
    said = setup(tmp_path, sys.executable, PYTHONPATH=str(tmp_path))
    assert "cannot make a virtual environment" in said
    assert "apt-get install python3-venv" in said
