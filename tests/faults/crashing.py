"""Processes that kill themselves (SIGKILL) at one of the points that their work passes, each point in its turn.

`Crashing` is a process with everything loaded; it forks one that does the work for each point.
"""

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.faults import gateways
from tests.faults.points import Points, disk_counted, lines_in, statements_counted
from tests.faults.story import CALLS, Caller
from tollkeeper_ledger.postgres import store as _loaded_before_any_fork  # noqa: F401 - `open_store` loads it when asked
from tollkeeper_ledger.storage import LedgerAt, PostgresLedger, open_store


@dataclass(frozen=True, slots=True)
class Crash:
    """A process that ended at a point: what it had been about to do, and how many calls it had answered."""

    point: str
    answers: list[str]


class Crashing:
    """Runs a job up to a point of it. Use as a context manager."""

    def __enter__(self) -> "Crashing":
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.crashing"],
            cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=60)

    def run(self, job: str, folder: Path, ledger: LedgerAt, point: int) -> Crash | None:
        """Do a job in a folder; nothing is answered when it came to its end unharmed."""
        dsn = ledger.dsn if isinstance(ledger, PostgresLedger) else None
        path = str(ledger) if isinstance(ledger, Path) else None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([job, str(folder), path, dsn, point]), file=self._process.stdin, flush=True)
        status = int(self._process.stdout.readline())
        assert status in (0, -signal.SIGKILL), f"{job} failed at point {point}: exit code {status}"
        if status == 0:
            return None
        return Crash(lines_in(folder, "point")[-1], lines_in(folder, "answers"))

    def all_points(
        self, job: str, new: Callable[[int], tuple[Path, LedgerAt]]
    ) -> Iterator[tuple[Path, LedgerAt, Crash]]:
        """Every point of a job, each on a ledger and in a folder of its own, as its end left them."""
        point = 1
        while True:
            folder, ledger = new(point)
            crash = self.run(job, folder, ledger, point)
            if crash is None:
                assert point > 1
                return
            yield folder, ledger, crash
            point += 1


# What runs in the processes that end.


def make(points: Points, folder: Path, ledger: LedgerAt) -> None:
    """A new ledger is made, and its first account."""
    store = open_store(ledger)
    caller = Caller(store, lambda: points.passed("committed"))
    caller.make(CALLS[0])
    points.write("answers", CALLS[0].name)
    caller.close()


def story(points: Points, folder: Path, ledger: LedgerAt) -> None:
    """The whole story on a ledger that is there."""
    caller = Caller(open_store(ledger), lambda: points.passed("committed"))
    for call in CALLS:
        caller.make(call)
        points.write("answers", call.name)
    caller.close()


def one_call(points: Points, ledger: LedgerAt, number: int) -> None:
    """One call of the story, by a process that starts for it: its start counts for the first call, its end for the last."""
    with points.counted_if(number == 0):
        store = open_store(ledger)
    caller = Caller(store, lambda: points.passed("committed"))
    caller.make(CALLS[number])
    with points.counted_if(number == len(CALLS) - 1):
        caller.close()


def _job(job: str, folder: Path, ledger: LedgerAt, points: Points) -> None:
    with statements_counted(points):
        if job == "make":
            make(points, folder, ledger)
        elif job == "story":
            story(points, folder, ledger)
        elif job.isdecimal():
            one_call(points, ledger, int(job))
        else:
            with disk_counted(points):
                life = gateways.live if job == "live" else gateways.recovered
                asyncio.run(life(points, folder, ledger))


def _in_a_process_of_its_own(job: str, folder: Path, ledger: LedgerAt, point: int) -> int:
    child = os.fork()
    if child == 0:
        try:
            points = Points(folder, point)
            _job(job, folder, ledger, points)
            points.end()
        except BaseException as error:  # noqa: BLE001 - this process must never run what its parent does
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    """Take jobs from standard input until it ends."""
    # What is loaded stays as it is: the collector of each fork would touch, and so copy, every page of it.
    gc.freeze()
    answers = os.fdopen(os.dup(1), "w")
    # What the work itself says is no answer.
    os.dup2(2, 1)
    for line in sys.stdin:
        job, folder, path, dsn, point = json.loads(line)
        ledger = PostgresLedger(dsn) if dsn else Path(path)
        print(_in_a_process_of_its_own(job, Path(folder), ledger, point), file=answers, flush=True)


if __name__ == "__main__":
    main()
