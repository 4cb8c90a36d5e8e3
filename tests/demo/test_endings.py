"""However the demo ends, nothing of it is left: no process and no file. Told by the processes and files themselves."""

import fcntl
import os
import pty
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest
from tests.e2e.programs import wait_for

from tollkeeper_demo.settings import PORTS

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
DEMO = [sys.executable, "-m", "tollkeeper_demo"]
AS_MAKE = ["/bin/sh", "-c", f"{sys.executable} -m tollkeeper_demo; exit $?"]
"""A parent that waits for the demo as `make` does."""
GONE_SECONDS = 60.0


def free_ports() -> dict[str, str]:
    """The variables that move each server of the demo to a free port."""
    with ExitStack() as held:
        taken = {
            name: held.enter_context(closing(socket.create_server(("127.0.0.1", 0)))) for name, _ in PORTS.values()
        }
        return {name: str(one.getsockname()[1]) for name, one in taken.items()}


class Demo:
    """A demo that runs, with a temporary folder and a log of its own."""

    def __init__(self, process: "subprocess.Popen[bytes]", temporary: Path, log: Path) -> None:
        self.process, self.temporary, self.log = process, temporary, log
        self.seen: set[tuple[int, str]] = set()

    def until(self, words: str) -> None:
        """Wait until the demo has said `words`, then take down every process of it."""

        def said() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return words in self.log.read_text()

        wait_for(f"the demo to say {words!r}", said, 120)
        self.seen = {(pid, started(pid)) for pid in family(self.process.pid)}

    def names(self) -> str:
        """The command lines of its processes."""
        return "\n".join(command(pid) for pid, _ in self.seen)

    def is_gone(self) -> bool:
        """Whether no process of it runs, and its temporary folder is empty."""
        lives = [pid for pid, began in self.seen if pid != self.process.pid and started(pid) == began]
        return not lives and not list(self.temporary.iterdir())


def stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; empty for a process that has ended."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return [] if fields[0] in "ZX" else fields
    return []


def started(pid: int) -> str:
    """When a process started; it tells two processes with one pid apart."""
    fields = stat(pid)
    return fields[19] if fields else ""


def pending(pid: int) -> set[int]:
    """The signals that wait for a process."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("ShdPnd:"))
    mask = int(line.split()[1], 16)
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


def command(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def family(pid: int) -> set[int]:
    """A process and all that descend from it."""
    parents = {int(path.name): stat(int(path.name)) for path in Path("/proc").iterdir() if path.name.isdecimal()}
    known = {pid}
    while more := {child for child, fields in parents.items() if fields and int(fields[1]) in known} - known:
        known |= more
    return known


@contextmanager
def running(folder: Path, arguments: list[str], terminal: int | None = None, **environment: str) -> Iterator[Demo]:
    """The demo as a process in a session of its own, as a shell starts it; ended by its keepers if a test fails."""
    temporary, log = folder / "tmp", folder / "demo.log"
    temporary.mkdir()

    def as_a_person_starts_it() -> None:
        # What a shell runs in the background ignores Ctrl-C, and these tests may be run so.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if terminal is not None:
            fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

    with log.open("wb") as output:
        process = subprocess.Popen(
            arguments, cwd=ROOT, stdin=terminal or subprocess.DEVNULL, stdout=output, stderr=output,
            env={**os.environ, **free_ports(), "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1", **environment},
            start_new_session=True, preexec_fn=as_a_person_starts_it,
        )  # fmt: skip
    demo = Demo(process, temporary, log)
    try:
        yield demo
    finally:
        for pid in family(process.pid) if process.poll() is None else ():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    """Starts a demo and waits until its programs run."""
    with ExitStack() as stack:

        def once_ready(arguments: list[str] = DEMO, terminal: int | None = None, **environment: str) -> Demo:
            demo = stack.enter_context(running(tmp_path, arguments, terminal, **environment))
            demo.until("ready: gateway")
            names = demo.names()
            assert all(name in names for name in ("tollkeeper up", "tollkeeper provider", "kube-apiserver", "etcd"))
            return demo

        yield once_ready


def test_nothing_is_left_of_a_killed_demo(start: Callable[..., Demo]) -> None:
    demo = start()
    demo.process.kill()
    wait_for("the demo to be gone", demo.is_gone, GONE_SECONDS)


def test_a_killed_make_takes_the_demo_with_it(start: Callable[..., Demo]) -> None:
    demo = start(arguments=AS_MAKE, MAKELEVEL="1")
    demo.process.kill()
    wait_for("the demo to be gone", demo.is_gone, GONE_SECONDS)


def test_a_demo_that_is_to_check_the_story_fails_when_it_is_terminated(start: Callable[..., Demo]) -> None:
    demo = start(ONCE="1")
    demo.process.terminate()
    assert demo.process.wait(GONE_SECONDS) == 1
    assert demo.log.read_text().endswith("demo: stopped before all was checked\n")
    assert "Traceback" not in demo.log.read_text()
    wait_for("the demo to be gone", demo.is_gone, GONE_SECONDS)


def test_ctrl_c_ends_it_in_order(start: Callable[..., Demo]) -> None:
    demo = start()
    os.killpg(demo.process.pid, signal.SIGINT)
    assert demo.process.wait(GONE_SECONDS) == 0, demo.log.read_text()
    wait_for("the demo to be gone", demo.is_gone, GONE_SECONDS)
    assert demo.log.read_text().endswith("demo: everything has ended\n")
    assert "Traceback" not in demo.log.read_text()


def test_a_second_ctrl_c_does_not_wait_for_a_program_that_hangs(start: Callable[..., Demo]) -> None:
    demo = start()
    (up,) = (pid for pid, _ in demo.seen if "tollkeeper up" in command(pid))
    os.kill(up, signal.SIGSTOP)
    wait_for("`tollkeeper up` to stand still", lambda: stat(up)[0] == "T")
    os.killpg(demo.process.pid, signal.SIGINT)
    wait_for("`tollkeeper up` to be asked to end", lambda: signal.SIGTERM in pending(up))
    os.killpg(demo.process.pid, signal.SIGINT)
    demo.process.wait(GONE_SECONDS)
    wait_for("the demo to be gone", demo.is_gone, GONE_SECONDS)
    assert "Traceback" not in demo.log.read_text()


def test_it_says_so_and_ends_when_a_program_of_it_has_ended(start: Callable[..., Demo]) -> None:
    demo = start()
    demo.until("Everything stays up")
    (up,) = (pid for pid, _ in demo.seen if "tollkeeper up" in command(pid))
    os.kill(up, signal.SIGKILL)
    assert demo.process.wait(GONE_SECONDS) == 1
    assert "demo: tollkeeper up ended" in demo.log.read_text()
    wait_for("the demo to be gone", demo.is_gone, GONE_SECONDS)


def test_a_closed_terminal_ends_it(start: Callable[..., Demo]) -> None:
    ours, theirs = pty.openpty()
    demo = start(terminal=theirs)
    os.close(theirs)
    os.close(ours)
    assert demo.process.wait(GONE_SECONDS) == 0
    wait_for("the demo to be gone", demo.is_gone, GONE_SECONDS)
