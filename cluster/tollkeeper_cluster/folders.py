"""Folders of ours in the temporary folder: each is held by a lock, and swept away once nobody holds it."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import IO

from tollkeeper_cluster import keeper
from tollkeeper_cluster.cache import cache_root, exclusive
from tollkeeper_cluster.errors import StartError

FOLDER_PREFIX = "tollkeeper-cluster-"
_LOCK = "held.lock"


def held_folder() -> tuple[Path, IO[str]]:
    """A new folder that only this user may enter, and the lock that holds it.

    The lock belongs to the open file: it can be passed to another process, and it lasts until the last of them closes
    it or ends. What earlier programs left behind is removed first. Raises StartError when no folder can be made.
    """
    try:
        # Sweeping and creating exclude each other: a folder that is not locked yet is not stale.
        with exclusive(cache_root() / "runs.lock"):
            sweep()
            return _locked(Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX)).resolve())
    except OSError as error:
        raise StartError(f"no folder for the run can be made ({error}): set TMPDIR and XDG_CACHE_HOME") from error


def _locked(folder: Path) -> tuple[Path, IO[str]]:
    try:
        lock = (folder / _LOCK).open("a")
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    fcntl.flock(lock, fcntl.LOCK_EX)
    return folder, lock


def sweep() -> None:
    """End and remove what is left of this user's folders that nobody holds any more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            with (folder / _LOCK).open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: it is held
                remove(folder)


def remove(folder: Path) -> None:
    """End the servers recorded in a folder, as far as they are still those processes, and remove it."""
    with contextlib.suppress(OSError, ValueError):
        for pid, started in json.loads((folder / keeper.RECORDS).read_text()).values():
            if started is not None and keeper.started_at(pid) == started:
                os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)
