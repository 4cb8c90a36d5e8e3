"""The Go toolchain: is it there, is it new enough, what does it still have to compile, and the compiling itself."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from tollkeeper_cluster.errors import BuildError, ToolchainError
from tollkeeper_cluster.pins import GO_VERSION, Module

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


def stale_packages(go: Path, module: Module) -> dict[str, int]:
    """The packages that have to be compiled for `module`, each with the size of its sources in bytes.

    Fetches the module's sources on the way. Raises BuildError when they cannot be had.
    """
    template = "{{if .Stale}}{{.ImportPath}}\t{{.Dir}}\t{{range .GoFiles}}{{.}} {{end}}{{end}}"
    command = [str(go), "list", "-deps", *module.build_flags, "-f", template, *module.packages]
    answer = subprocess.run(command, cwd=module.folder, env=_environment(), capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise _failure(f"the sources of {module.title} could not be fetched", answer.stderr)
    rows = (line.split("\t") for line in answer.stdout.splitlines() if line)
    return {name: _source_bytes(Path(folder), files.split()) for name, folder, files in rows}


def compiled_packages(go: Path, module: Module, into: Path) -> Iterator[str]:
    """Build the programs of `module` into the folder `into`; yields each package's import path as it is taken up.

    Raises BuildError. Closing the iterator early ends the compiler.
    """
    command = [str(go), "build", "-v", *module.build_flags, "-o", f"{into}/", *module.packages]
    environment = _environment({"GOTMPDIR": str(into.parent)})
    complaints: list[str] = []
    with subprocess.Popen(
        command, cwd=module.folder, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as build:
        assert build.stderr is not None  # noqa: S101 - the pipe is asked for above
        try:
            for line in build.stderr:
                if re.fullmatch(r"[\w.~/-]+", line.strip()):
                    yield line.strip()
                else:
                    complaints.append(line)
        finally:
            build.terminate()
    if build.returncode != 0:
        raise _failure(f"{module.title} could not be built", "".join(complaints))


def _environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    # The user's GOFLAGS may contradict ours (-mod=vendor); everything that matters is given on the command line.
    return {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off", **(more or {})}


def _source_bytes(folder: Path, files: list[str]) -> int:
    return sum((folder / file).stat().st_size for file in files if (folder / file).is_file())


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
