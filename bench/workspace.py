"""What measurements share: a folder, how much to do, a PostgreSQL server, and medians."""

import gc
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.postgres_server import PostgresServer, programs, running

from tollkeeper.identity import new_id
from tollkeeper_cluster.cache import cache_root, exclusive, published
from tollkeeper_ledger.storage import LedgerAt, PostgresLedger, open_store
from tollkeeper_ledger.writer import LedgerWriter


class CannotMeasure(Exception):
    """Something that a measurement needs is not here; the message says what, and how to get it."""


@dataclass(frozen=True, slots=True)
class Populated:
    """A ledger, and how much memory the authority that made it had in use."""

    path: Path
    resident_bytes: int


class Workspace:
    """For one run. `quick` does everything once, and little of it: for a look, not for figures."""

    def __init__(self, folder: Path, stack: ExitStack, *, quick: bool) -> None:
        self.folder = folder
        self.quick = quick
        self.runs = 1 if quick else 3
        self.lease_calls: dict[str, float] = {}
        """Lease calls a second by storage, once they are measured."""
        self._populated: dict[tuple[int, int], Populated] = {}
        self._stack = stack
        self._postgres: PostgresServer | None = None

    def size(self, whole: int, quick: int) -> int:
        """How much of something to do."""
        return quick if self.quick else whole

    def storages(self) -> dict[str, Callable[[], LedgerAt]]:
        """What makes an empty ledger on each storage, by the storage's name."""
        made: dict[str, Callable[[], LedgerAt]] = {"SQLite": lambda: self.folder / f"{new_id()}.db"}
        try:
            programs()
        except FileNotFoundError:
            return made
        return made | {"PostgreSQL": lambda: PostgresLedger(self._server().new_database())}

    def _server(self) -> PostgresServer:
        if self._postgres is None:
            # As who runs it finds it: what is answered is on the disk, and the server cleans up after itself.
            self._postgres = self._stack.enter_context(running(settings=()))
        return self._postgres

    def populated(self, accounts: int, holders: int) -> "Populated":
        """A ledger on SQLite with so many accounts; made once in a run."""
        if (accounts, holders) not in self._populated:
            path = self.folder / f"{accounts}-{holders}.db"
            command = [sys.executable, "-m", "bench.populate", str(path), str(accounts), str(holders)]
            told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            self._populated[accounts, holders] = Populated(path, int(told))
        return self._populated[accounts, holders]

    def medians(self, *measures: Callable[[], float]) -> list[float]:
        """The medians of several runs of each, after one that does not count.

        They take turns, so that whatever else goes on on the machine meets all of them alike.
        """
        if not self.quick:
            for measure in measures:
                measure()
        rounds = [[measure() for measure in measures] for _ in range(self.runs)]
        return [statistics.median(found) for found in zip(*rounds, strict=True)]

    def median(self, measure: Callable[[], float]) -> float:
        """The median of one."""
        return self.medians(measure)[0]


@contextmanager
def workspace(*, quick: bool) -> Iterator[Workspace]:
    """A folder and, when asked for, a server; nothing of them is left."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tk-bench-"))
        yield Workspace(Path(folder), stack, quick=quick)


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """A folder that is made once and kept between runs, whole or not at all. `name` is `what@version`: older ones go."""
    root = cache_root() / "bench"
    folder = root / name
    with exclusive(root / "lock"):
        if folder.exists():
            return folder
        for older in root.glob(f"{name.partition('@')[0]}@*"):
            shutil.rmtree(older)
        with published(folder) as made:
            make(made)
    return folder


@contextmanager
def writing(ledger: LedgerAt) -> Iterator[LedgerWriter]:
    """The writer of a ledger, for the time of the block."""
    writer = LedgerWriter(open_store(ledger), lambda _: None)
    try:
        yield writer
    finally:
        writer.close()


@contextmanager
def settled() -> Iterator[None]:
    """The collector does not look through what was made before, again and again: in life it would not wait there."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def percentile(values: list[float], share: float) -> float:
    """The smallest value that so many of all are not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def syncs_per_second(folder: Path) -> float:
    """How often this folder's disk makes 4 KiB durable."""
    with (folder / "sync").open("wb", buffering=0) as file:
        begun, count = time.perf_counter(), 0
        while time.perf_counter() - begun < 0.3:
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            count += 1
    return count / 0.3
