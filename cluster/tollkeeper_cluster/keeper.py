"""The keeper of one run: a process of its own that starts the servers, and ends them when the run ends.

It exists because the program that uses a cluster can end without a word (`kill -9`). The servers are the keeper's
children, never the user's; the keeper ends them and removes the run folder as soon as its standard input closes or its
own parent is gone. If the keeper itself is killed, Linux kills the servers (parent-death signal: it follows the thread
that started them, which is why a process with a single thread does it), and the next start sweeps the rest away.

Run as a file of its own by `run.py`, with the standard library alone: `python -I -S keeper.py RUN_FOLDER`. It inherits
a lock on the run folder and holds it as long as it lives. Standard input: one JSON object a line; each is answered by
one line on standard output.

    {"start": NAME, "argv": [...]}   answers {"pid": N}, or {"error": TEXT}; with "environment": {...} it gets that one
    {"signal": NAME, "number": N}    answers {}; a server that has ended is sent nothing
    {"stop": NAME}                   answers {}
    {}                               answers {NAME: EXIT_STATUS} of the servers that ended without being stopped
"""

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

RECORDS = "processes.json"
_PARENT_CHECK_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1


def started_at(pid: int) -> str | None:
    """When process `pid` started, in the system's own terms, or None. Pid and start together name one process."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.exists():
        with contextlib.suppress(OSError):
            # The name of the program is in parentheses and may hold anything; field 22 counts from before it.
            return stat.read_text().rpartition(")")[2].split()[19]
        return None
    answer = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None


class Keeper:
    """The servers of one run, by name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pid = os.getpid()
        self._servers: dict[str, subprocess.Popen[bytes]] = {}
        self._libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry out one order, and return the answer to it."""
        if "start" in order:
            return self._start(order["start"], order["argv"], order.get("environment"))
        if "signal" in order:
            if order["signal"] in self._servers:
                self._servers[order["signal"]].send_signal(order["number"])
            return {}
        if "stop" in order:
            self._stop(order["stop"])
            return {}
        return {name: status for name, server in self._servers.items() if (status := server.poll()) is not None}

    def end(self) -> None:
        """End every server and remove the run folder."""
        for name in reversed(list(self._servers)):
            self._stop(name)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, name: str, argv: list[str], environment: dict[str, str] | None) -> dict[str, Any]:
        # Nothing of the user's environment: proxies, Go and Kubernetes settings would change how the servers behave.
        own = {"PATH": os.defpath, "HOME": str(self._folder), "TMPDIR": str(self._folder)}
        try:
            with (self._folder / f"{name}.log").open("ab") as log:
                server = subprocess.Popen(
                    argv,
                    cwd=self._folder,
                    env=own if environment is None else environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    preexec_fn=self._die_with_keeper,  # safe here: this process has one thread
                )
        except OSError as error:
            return {"error": f"{error.strerror}: {error.filename or argv[0]}"}
        self._servers[name] = server
        self._record()
        return {"pid": server.pid}

    def _stop(self, name: str) -> None:
        # Its data goes with the run folder, so there is nothing to save: killing is quickest and always works.
        server = self._servers.pop(name, None)
        if server is not None:
            server.kill()
            server.wait()
            self._record()

    def _die_with_keeper(self) -> None:
        if self._libc is not None:
            self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != self._pid:  # the keeper died before the line above took effect
                os._exit(1)

    def _record(self) -> None:
        known = {name: [server.pid, started_at(server.pid)] for name, server in self._servers.items()}
        with contextlib.suppress(OSError):  # a full disk: the sweep then has less to go by; nothing else depends on it
            fresh = self._folder / f"{RECORDS}.new"
            fresh.write_text(json.dumps(known))
            fresh.replace(self._folder / RECORDS)


def _serve(keeper: Keeper) -> None:
    parent, pending = os.getppid(), b""
    while True:
        # A copy of the pipe's other end may live on in a fork of the parent: its closing alone does not tell.
        if not select.select([0], [], [], _PARENT_CHECK_SECONDS)[0]:
            if os.getppid() != parent:
                return
            continue
        received = os.read(0, 65536)
        if not received:
            return
        *lines, pending = (pending + received).split(b"\n")
        for line in lines:
            os.write(1, json.dumps(keeper.obey(json.loads(line))).encode() + b"\n")


def _terminated(_signal: int, _frame: object) -> NoReturn:
    raise SystemExit(0)


def main() -> None:
    """Keep the run in the folder named by the first argument until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program that uses the cluster
    signal.signal(signal.SIGTERM, _terminated)
    keeper = Keeper(Path(sys.argv[1]))
    try:
        _serve(keeper)
    except BrokenPipeError:
        pass
    finally:
        keeper.end()


if __name__ == "__main__":
    main()
