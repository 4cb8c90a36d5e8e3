"""One run of the local cluster on this machine: its folder, its keeper, and what is left of runs that were killed."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Any

from tollkeeper_cluster import keeper
from tollkeeper_cluster.cache import cache_root, exclusive
from tollkeeper_cluster.errors import StartError

FOLDER_PREFIX = "tollkeeper-cluster-"
_LOCK = "keeper.lock"
_ENDING_SECONDS = 20.0


class Run:
    """A run folder and the keeper that holds it. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._orders = threading.Lock()
        # Sweeping and creating exclude each other: a folder whose keeper does not hold its lock yet is not stale.
        with exclusive(cache_root() / "runs.lock"):
            sweep()
            self.folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX)).resolve()
            self._keeper = _started_keeper(self.folder)

    def start(self, name: str, argv: list[str]) -> None:
        """Start the server `name`; its output goes to `NAME.log` in the run folder. Raises StartError."""
        answer = self._order({"start": name, "argv": argv})
        if "error" in answer:
            raise StartError(f"{name} could not be started: {answer['error']}")

    def stop(self, name: str) -> None:
        """End the server `name`; when this returns it is gone."""
        self._order({"stop": name})

    def failure(self) -> str | None:
        """Which server ended by itself, and what it said last; None while all run."""
        for name, status in self._order({}).items():
            return f"{name} ended with {status}: {self.last_words(name)}"
        return None

    def last_words(self, name: str) -> str:
        """The last line that the server `name` wrote, for an error message."""
        try:
            lines = (self.folder / f"{name}.log").read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "it wrote nothing")

    def end(self) -> None:
        """End all servers and remove the folder. Safe to call again."""
        with self._orders:
            with contextlib.suppress(OSError):
                _pipe(self._keeper.stdin).close()
            try:
                self._keeper.wait(_ENDING_SECONDS)
            except subprocess.TimeoutExpired:
                self._keeper.kill()
                self._keeper.wait()
            _pipe(self._keeper.stdout).close()
        remove(self.folder)

    def _order(self, order: dict[str, Any]) -> dict[str, Any]:
        with self._orders:
            try:
                stdin = _pipe(self._keeper.stdin)
                stdin.write(json.dumps(order).encode() + b"\n")
                stdin.flush()
                line = _pipe(self._keeper.stdout).readline()
                answer: dict[str, Any] = json.loads(line)
            except (OSError, ValueError) as error:
                raise StartError("the keeper of the local cluster has ended: start a new cluster") from error
            return answer


def sweep() -> None:
    """End and remove what is left of this user's runs whose keeper is gone."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            with (folder / _LOCK).open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: its keeper lives
                remove(folder)


def remove(folder: Path) -> None:
    """End the servers recorded in a run folder, as far as they are still those processes, and remove it."""
    with contextlib.suppress(OSError, ValueError):
        for pid, started in json.loads((folder / keeper.RECORDS).read_text()).values():
            if started is not None and keeper.started_at(pid) == started:
                os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


def _started_keeper(folder: Path) -> subprocess.Popen[bytes]:
    with (folder / _LOCK).open("a") as lock:
        # The lock belongs to the open file: it passes to the keeper and lasts as long as the keeper does.
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = [sys.executable, "-I", "-S", keeper.__file__, str(folder)]
        # A session of its own: a terminal's Ctrl-C and hang-up reach the user's program, which then ends the run.
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=(lock.fileno(),),
            start_new_session=True,
        )


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # noqa: S101 - both pipes are asked for when the keeper is started
    return pipe
