"""One run of servers on this machine (the local cluster's, the demo's): their folder, and their keeper."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from tollkeeper_cluster import keeper
from tollkeeper_cluster.errors import StartError
from tollkeeper_cluster.folders import held_folder, remove

_ENDING_SECONDS = 20.0
_LONGEST_WORDS = 400
# How the servers mark what ended them: Go's runtime, etcd's JSON, klog, and command lines.
_DISK_FULL = "no space left on device"
_REASON = re.compile(rf'^panic: |"level":"(fatal|panic)"|^F\d{{4}} |^[Ee]rror: |{_DISK_FULL}')


class Run:
    """A run folder and the keeper that holds it: use it as a context manager, or call `end`.

    Whatever happens to this process, `kill -9` too: the servers end and the folder goes. Every method may be called from
    any thread.
    """

    def __init__(self) -> None:
        self._orders = threading.Lock()
        self.folder, lock = held_folder()
        with lock:  # passes to the keeper
            self._keeper = _started_keeper(self.folder, lock)

    def start(self, name: str, argv: list[str], environment: Mapping[str, str] | None = None) -> int:
        """Start the server `name` and return its pid; its output goes to `NAME.log` in the run folder. Raises StartError.

        Without an `environment` it gets next to none: what the user has set must not change how a cluster behaves.
        """
        given = {} if environment is None else {"environment": dict(environment)}
        answer = self._order({"start": name, "argv": argv, **given})
        if "error" in answer:
            raise StartError(f"{name} could not be started: {answer['error']}")
        return int(answer["pid"])

    def send_signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to the server `name`, if it still runs."""
        self._order({"signal": name, "number": int(number)})

    def status(self, name: str) -> int | None:
        """The exit status of the server `name` if it has ended without `stop` (a signal as a negative number), or None."""
        status: int | None = self._order({}).get(name)
        return status

    def stop(self, name: str) -> None:
        """End the server `name`; when this returns it is gone."""
        self._order({"stop": name})

    def failure(self) -> str | None:
        """Which server ended by itself, and what it said last; None while all run."""
        for name, status in self._order({}).items():
            words = self.last_words(name)
            if _DISK_FULL in words:
                return f"{name} ended: the disk that holds {self.folder} is full; free some, or set TMPDIR"
            return f"{name} ended with {status}: {words}"
        return None

    def last_words(self, name: str) -> str:
        """The line out of the server `name`'s log that tells best why it ended, for an error message."""
        try:
            lines = (self.folder / f"{name}.log").read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        spoken = [line.strip() for line in lines if line.strip()]
        # A program that fails says why first; consequences and its stack follow.
        reason = next((line for line in spoken if _REASON.search(line)), None)
        return (reason or (spoken or ["it wrote nothing"])[-1])[:_LONGEST_WORDS]

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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def _order(self, order: dict[str, Any]) -> dict[str, Any]:
        with self._orders:
            try:
                stdin = _pipe(self._keeper.stdin)
                stdin.write(json.dumps(order).encode() + b"\n")
                stdin.flush()
                line = _pipe(self._keeper.stdout).readline()
                answer: dict[str, Any] = json.loads(line)
            except (OSError, ValueError) as error:
                raise StartError(f"the keeper of {self.folder} has ended: start again") from error
            return answer


def _started_keeper(folder: Path, lock: IO[str]) -> subprocess.Popen[bytes]:
    # A session of its own: a terminal's Ctrl-C and hang-up reach the user's program, which then ends the run.
    return subprocess.Popen(
        [sys.executable, "-I", "-S", keeper.__file__, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        pass_fds=(lock.fileno(),),
        start_new_session=True,
    )


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # noqa: S101 - both pipes are asked for when the keeper is started
    return pipe
