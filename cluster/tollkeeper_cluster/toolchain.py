"""The Go toolchain: is it there, is it new enough, what does it still have to compile, and the compiling itself."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from pathlib import Path
from typing import IO

from tollkeeper_cluster.errors import BuildError, ToolchainError
from tollkeeper_cluster.pins import GO_VERSION, Module

_FETCHING = "go: downloading "
_PACKAGE = re.compile(r"[\w.~/-]+")
_WANTED = ".".join(str(part) for part in GO_VERSION)
_INSTALL = (
    f"install Go {_WANTED} or newer and put it on PATH, or point KUBEBUILDER_ASSETS at a folder with "
    "kube-apiserver, etcd and kubectl"
)


def require_go() -> Path:
    """The `go` program on PATH. Raises ToolchainError when there is none, or only one that is too old."""
    found = shutil.which("go")
    if found is None:
        raise ToolchainError(f"Go is needed to build the local Kubernetes and was not found: {_INSTALL}")
    # Run away from any module: with GOTOOLCHAIN=auto an older Go fetches the one that our go.mod asks for.
    answer = subprocess.run(
        [found, "env", "GOVERSION", "GOTOOLCHAIN"], capture_output=True, text=True, cwd="/", check=False
    )
    version, _, switching = answer.stdout.strip().partition("\n")
    parts = re.match(r"go(\d+)\.(\d+)", version)
    if parts is None:
        raise ToolchainError(f"{found} does not tell its version ({_last_line(answer.stderr)}): {_INSTALL}")
    if (int(parts[1]), int(parts[2])) < GO_VERSION and switching.strip() in ("", "local"):
        raise ToolchainError(f"{found} is {version}, too old to build the local Kubernetes: {_INSTALL}")
    return Path(found)


def stale_packages(go: Path, module: Module, fetched: Callable[[], None]) -> set[str]:
    """The import paths of all packages that have to be compiled for `module`, as Go's own cache stands.

    Fetches the module's sources on the way, and calls `fetched` for each module that arrives. Raises BuildError when
    they cannot be had.
    """
    command = [str(go), "list", "-deps", *module.build_flags, "-f", "{{if .Stale}}{{.ImportPath}}{{end}}"]
    with tempfile.TemporaryFile("w+") as answer:
        problem = f"the sources of {module.title} could not be fetched"
        with closing(_lines([*command, *module.packages], module, problem, stdout=answer)) as lines:
            for line in lines:
                if line.startswith(_FETCHING):
                    fetched()
        answer.seek(0)
        return set(answer.read().split())


def compiled_packages(go: Path, module: Module, into: Path) -> Generator[str, None, None]:
    """Build the programs of `module` into the folder `into`; yields each package's import path as it is taken up.

    Raises BuildError. Closing the iterator early ends the compiler.
    """
    command = [str(go), "build", "-v", *module.build_flags, "-o", f"{into}/", *module.packages]
    scratch = {"GOTMPDIR": str(into)}
    with closing(_lines(command, module, f"{module.title} could not be built", environment=scratch)) as lines:
        yield from (line for line in lines if _PACKAGE.fullmatch(line))


def _lines(
    command: list[str],
    module: Module,
    problem: str,
    *,
    stdout: IO[str] | int = subprocess.DEVNULL,
    environment: Mapping[str, str] | None = None,
) -> Generator[str, None, None]:
    """The lines that Go writes on standard error. Raises BuildError that begins with `problem` when it fails."""
    complaints: list[str] = []
    with subprocess.Popen(
        command, cwd=module.folder, env=_environment(environment), stderr=subprocess.PIPE, stdout=stdout, text=True
    ) as program:
        assert program.stderr is not None  # noqa: S101 - the pipe is asked for above
        try:
            for line in program.stderr:
                if not (_PACKAGE.fullmatch(line.strip()) or line.startswith(_FETCHING)):
                    complaints.append(line)
                yield line.strip()
        except BaseException:
            # An interrupt, not a kill: Go then ends its compilers and removes its scratch files itself.
            program.send_signal(signal.SIGINT)
            program.stderr.read()
            raise
    if program.returncode != 0:
        raise _failure(problem, "".join(complaints))


def _environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    # The user's GOFLAGS may contradict ours (-mod=vendor); everything that matters is given on the command line.
    return {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off", **(more or {})}


def _failure(what: str, complaints: str) -> BuildError:
    if "no space left on device" in complaints:
        return BuildError(f"{what}: the disk is full; free about 4 GB (`go clean -cache` empties Go's own cache)")
    if "requires go >=" in complaints:
        return BuildError(f"{what}: {_last_line(complaints)}; {_INSTALL}")
    return BuildError(
        f"{what}: {_last_line(complaints)}; look at Go's settings (`go env`) and the network, and run it again"
    )


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"
