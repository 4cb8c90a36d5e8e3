"""The programs of the control plane: found in KUBEBUILDER_ASSETS or in the cache, else built into the cache."""

import errno
import os
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tollkeeper_cluster.cache import build_folder, exclusive, published
from tollkeeper_cluster.errors import BuildError
from tollkeeper_cluster.pins import MODULES, Module
from tollkeeper_cluster.progress import BuildState, Progress, silent
from tollkeeper_cluster.toolchain import compiled_packages, require_go, stale_packages

_ASSETS_VARIABLE = "KUBEBUILDER_ASSETS"


@dataclass(frozen=True, slots=True)
class Binaries:
    """Paths of the programs. `controller_manager` is None where a KUBEBUILDER_ASSETS folder lacks it."""

    etcd: Path
    api_server: Path
    kubectl: Path
    controller_manager: Path | None


def ensure_binaries(progress: Progress = silent) -> Binaries:
    """The programs of a control plane, built first if need be (minutes, shown by `progress`).

    Raises ToolchainError without a usable Go, BuildError for everything else that stops the build, and when
    KUBEBUILDER_ASSETS names a folder that lacks a program.
    """
    if assets := os.environ.get(_ASSETS_VARIABLE):
        return _from_assets(Path(assets).expanduser())
    folder = build_folder()
    if not folder.is_dir():
        try:
            _build(folder, progress)
        except OSError as error:
            raise BuildError(_storage_complaint(folder, error)) from error
    return _complete(folder)


def _complete(folder: Path) -> Binaries:
    return Binaries(folder / "etcd", folder / "kube-apiserver", folder / "kubectl", folder / "kube-controller-manager")


def _from_assets(folder: Path) -> Binaries:
    found = _complete(folder)
    for program in (found.etcd, found.api_server, found.kubectl):
        if not os.access(program, os.X_OK):
            raise BuildError(
                f"{_ASSETS_VARIABLE}={folder} has no program {program.name}: "
                f"point it at a folder with etcd, kube-apiserver and kubectl, or unset it to build them"
            )
    controllers = found.controller_manager
    if controllers is not None and not os.access(controllers, os.X_OK):
        controllers = None
    return Binaries(found.etcd, found.api_server, found.kubectl, controllers)


def _storage_complaint(folder: Path, error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return (
            f"the disk is full: the local Kubernetes needs about 4 GB while it is built, and 250 MB in {folder.parent}"
        )
    return f"the cache folder {folder.parent} cannot be used ({error.strerror}): set XDG_CACHE_HOME to one that can"


def _build(folder: Path, progress: Progress) -> None:
    begun = time.monotonic()

    def tell_waiting() -> None:
        progress(BuildState("another process builds the local Kubernetes; waiting for it", time.monotonic() - begun))

    with exclusive(folder.parent / ".lock", waiting=tell_waiting):
        if folder.is_dir():
            return
        go = require_go()
        with published(folder) as filling:
            _compile(go, filling, _gathered_work(go, progress), progress)


def _gathered_work(go: Path, progress: Progress) -> list[tuple[Module, set[str]]]:
    """What has to be compiled for each module. Fetches all sources."""
    begun, modules = time.monotonic(), 0
    work: list[tuple[Module, set[str]]] = []
    known: set[str] = set()
    for module in MODULES:

        def tell(fetched: int, title: str = module.title) -> None:
            nonlocal modules
            modules += fetched
            detail = f"{modules} modules" if modules else ""
            progress(BuildState(f"fetching the sources of {title}", time.monotonic() - begun, detail=detail))

        tell(0)
        stale = stale_packages(go, module, lambda: tell(1)) - known
        known |= {package for package in stale if _is_standard(package)}
        work.append((module, stale))
    return work


def _compile(go: Path, into: Path, work: list[tuple[Module, set[str]]], progress: Progress) -> None:
    # Packages are a fair measure: timed, the share of packages compiled ran within 5 % of the share of time spent.
    total = sum(len(stale) for _, stale in work) or 1
    begun, finished = time.monotonic(), 0
    for module, stale in work:
        with closing(compiled_packages(go, module, into)) as packages:
            for compiled, _ in enumerate(packages, start=1):
                share = (finished + min(compiled, len(stale))) / total
                progress(BuildState(f"building {module.title}", time.monotonic() - begun, min(share, 0.99)))
        finished += len(stale)
    progress(BuildState("built the local Kubernetes", time.monotonic() - begun, 1))


def _is_standard(package: str) -> bool:
    """Whether Go's standard library holds `package`: the modules share it, and all else they have at own versions."""
    return "." not in package.partition("/")[0]
