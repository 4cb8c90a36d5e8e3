"""The per-user cache of built programs: one folder for each set of pins, complete or absent."""

import fcntl
import hashlib
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tollkeeper_cluster.pins import KUBERNETES_VERSION, MODULES, Module

_BUILDING = "building-"


def cache_root() -> Path:
    """The folder that holds everything we keep between runs (`$XDG_CACHE_HOME/tollkeeper`, else `~/.cache/tollkeeper`).

    A relative `XDG_CACHE_HOME` is ignored, as the XDG Base Directory Specification demands.
    """
    configured = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (configured if configured.is_absolute() else Path.home() / ".cache") / "tollkeeper"


def versions_folder() -> Path:
    """The folder with all builds of this Kubernetes version."""
    return cache_root() / f"kubernetes-{KUBERNETES_VERSION}"


def build_folder(modules: tuple[Module, ...] = MODULES) -> Path:
    """Where the programs of exactly these pins, flags and this platform live once they are built."""
    digest = hashlib.sha256(f"{platform.system()} {platform.machine()}".encode())
    for module in modules:
        digest.update(repr((module.packages, module.ldflags)).encode())
        for source in sorted(path for path in module.folder.iterdir() if path.is_file()):
            digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return versions_folder() / digest.hexdigest()[:16]


@contextmanager
def exclusive(lock: Path, *, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold `lock` against every other process; `waiting` is called once if another one holds it.

    The lock ends with the process that holds it, however that ends.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def published(folder: Path) -> Iterator[Path]:
    """A new folder to fill, which takes the name `folder` in one step if the block succeeds, and else vanishes.

    Call it with the lock of `folder.parent` held: what earlier builds left behind when they were killed is removed.
    """
    for leftover in folder.parent.glob(f"{_BUILDING}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    filling = Path(tempfile.mkdtemp(prefix=_BUILDING, dir=folder.parent))
    try:
        yield filling
        filling.replace(folder)
    finally:
        shutil.rmtree(filling, ignore_errors=True)
