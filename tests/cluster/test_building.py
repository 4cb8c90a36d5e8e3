"""Building the programs: what is needed, what is said while it lasts, and what is said when it cannot be done."""

import io
import os
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from tollkeeper_cluster import BuildError, ToolchainError, ensure_binaries
from tollkeeper_cluster.cache import build_folder, cache_root, exclusive, published
from tollkeeper_cluster.pins import Module
from tollkeeper_cluster.progress import BuildState, described, shown_on
from tollkeeper_cluster.toolchain import compiled_packages, require_go, stale_packages


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def small_module(folder: Path, source: str) -> Module:
    (folder / "go.mod").write_text("module small\n\ngo 1.26\n")
    (folder / "main.go").write_text(source)
    return Module("a small program", folder, (".",), "-s -w")


def building(**environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tollkeeper_cluster", "build"]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False
    )


def test_without_go_one_line_says_what_to_install(tmp_path: Path) -> None:
    answer = building(PATH=str(tmp_path), XDG_CACHE_HOME=str(tmp_path / "cache"), KUBEBUILDER_ASSETS="")
    assert answer.returncode == 1
    assert answer.stdout == ""
    (line,) = answer.stderr.splitlines()
    assert "install Go 1.26 or newer" in line


def test_a_go_that_is_too_old_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "go", "echo go1.22.1; echo local")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(ToolchainError, match=r"go1\.22\.1, too old.*install Go 1\.26 or newer"):
        require_go()


def test_an_older_go_may_fetch_the_one_that_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "go", "echo go1.24.0; echo auto")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert require_go() == tmp_path / "go"


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "a-file").touch()
    answer = building(XDG_CACHE_HOME=str(tmp_path / "a-file"), KUBEBUILDER_ASSETS="")
    assert answer.returncode == 1
    (line,) = answer.stderr.splitlines()
    assert "a-file" in line
    assert "XDG_CACHE_HOME" in line


def test_assets_of_the_user_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("etcd", "kube-apiserver", "kubectl"):
        program(tmp_path, name, "exit 0")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    found = ensure_binaries()
    assert (found.api_server, found.controller_manager) == (tmp_path / "kube-apiserver", None)


def test_assets_that_lack_a_program_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "etcd", "exit 0")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    with pytest.raises(BuildError, match="has no program kube-apiserver"):
        ensure_binaries()


@pytest.mark.cluster
def test_a_program_is_built_and_its_packages_are_told(tmp_path: Path) -> None:
    source, made = tmp_path / "source", tmp_path / "made"
    source.mkdir()
    made.mkdir()
    # The name is new to Go's cache each time, so that there is something to compile.
    module = small_module(source, f'package main\n\nfunc main() {{ println("{tmp_path}") }}\n')
    go = require_go()
    assert "small" in stale_packages(go, module, lambda: None)
    assert list(compiled_packages(go, module, made))[-1] == "small"
    said = subprocess.run([made / "small"], capture_output=True, text=True, check=True).stderr
    assert said == f"{tmp_path}\n"
    assert [file.name for file in made.iterdir()] == ["small"]


@pytest.mark.cluster
def test_source_that_does_not_compile_is_told_in_one_line(tmp_path: Path) -> None:
    module = small_module(tmp_path, "package main\n\nfunc main() { undefined() }\n")
    with pytest.raises(BuildError, match=r"a small program could not be built: .*undefined") as told:
        list(compiled_packages(require_go(), module, tmp_path))
    assert "\n" not in str(told.value)


@pytest.mark.cluster
def test_a_build_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    source, cache = tmp_path / "source", tmp_path / "cache"
    source.mkdir()
    cache.mkdir()
    module = small_module(source, f'package main\n\nfunc main() {{ println("{tmp_path}") }}\n')

    def give_up() -> None:
        with published(cache / "made") as made, closing(compiled_packages(require_go(), module, made)) as packages:
            next(packages)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        give_up()
    assert list(cache.iterdir()) == []


def test_the_cache_follows_the_pins_and_the_xdg_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    module = small_module(tmp_path, "package main")
    before = build_folder((module,))
    assert before.parent == tmp_path / "tollkeeper" / "kubernetes-1.36.3"
    (tmp_path / "go.sum").write_text("something else\n")
    assert build_folder((module,)) != before


def test_a_relative_xdg_variable_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_root() == Path.home() / ".cache" / "tollkeeper"


def test_a_folder_appears_complete_or_not_at_all(tmp_path: Path) -> None:
    def fail_halfway() -> None:
        with published(tmp_path / "made") as filling:
            (filling / "half").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert list(tmp_path.iterdir()) == []
    with published(tmp_path / "made") as filling:
        (filling / "whole").touch()
    assert [file.name for file in tmp_path.iterdir()] == ["made"]


def test_what_a_killed_build_left_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "building-killed").mkdir()
    with published(tmp_path / "made"):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["made"]


def test_a_second_builder_waits_and_says_so(tmp_path: Path) -> None:
    lock, waiting, order = tmp_path / "lock", threading.Event(), list[str]()

    def second() -> None:
        with exclusive(lock, waiting=waiting.set):
            order.append("second")

    with exclusive(lock):
        builder = threading.Thread(target=second)
        builder.start()
        assert waiting.wait(10)
        order.append("first")
    builder.join()
    assert order == ["first", "second"]


def test_the_time_left_is_told_from_the_rate_so_far() -> None:
    state = BuildState("building etcd", elapsed_seconds=60, share=0.25)
    assert described(state) == "building etcd · 25 % · about 3 min 00 s left"


def test_no_time_left_is_told_before_it_can_be_known() -> None:
    assert described(BuildState("fetching", 5)) == "fetching · 5 s so far"
    assert described(BuildState("building", 5, share=0.01)) == "building · 1 % · 5 s so far"


def test_a_terminal_gets_one_line_that_changes() -> None:
    stream = Terminal()
    show = shown_on(stream)
    for share in (0.1, 0.5, 1.0):
        show(BuildState("building", 10, share))
    assert len(stream.getvalue().split("\r\r")) == 3
    assert stream.getvalue().count("\n") == 1


def test_a_log_gets_few_lines() -> None:
    stream = io.StringIO()
    show = shown_on(stream)
    for second in range(100):
        show(BuildState("building", second, share=second / 100))
    show(BuildState("built", 100, share=1.0))
    *shares, last = stream.getvalue().splitlines()
    assert [line.split(" · ")[1] for line in shares] == ["0 %", "20 %", "40 %", "60 %", "80 %"]
    assert last == "built in 1 min 40 s"
