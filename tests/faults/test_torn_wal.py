"""A torn or rotten end of SQLite's write-ahead log: what was acknowledged before the damage stands, and nothing half of it."""

import shutil
import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from tests.faults.crashing import Crashing
from tests.faults.holding import everything_holds
from tests.faults.points import lines_in
from tests.faults.story import CALLS, Caller
from tollkeeper_ledger.sqlite import SqliteStore

HEADER, FRAME_HEADER = 32, 24
CALLS_IN_THE_LOG = 5


@dataclass(frozen=True, slots=True)
class Log:
    """A database and its log as a kill left them, and what stood after each commit by where that ended in the log."""

    database: Path
    content: bytes
    stood: dict[int, list[object]]

    @property
    def frame(self) -> int:
        """How long a frame is: its header and a page."""
        return FRAME_HEADER + int(struct.unpack(">I", self.content[8:12])[0])

    @property
    def frames(self) -> range:
        """Where each frame begins."""
        return range(HEADER, len(self.content), self.frame)

    def stands_before(self, place: int) -> list[object]:
        """What commits that ended in the log by a place add up to."""
        return self.stood[max(end for end in self.stood if end <= max(place, HEADER))]

    def opened_with(self, log: bytes, folder: Path) -> list[object]:
        """What the ledger says, and that it holds, when its log is this."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        path = Path(shutil.copy(self.database, folder / "ledger.db"))
        (folder / "ledger.db-wal").write_bytes(log)
        SqliteStore(path).close()
        return everything_holds(path).facts()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """The first calls of the story, not checkpointed: the log holds them, and the file nothing."""
    folder = tmp_path_factory.mktemp("torn")
    path = folder / "ledger.db"
    SqliteStore(path).close()
    wal = path.with_name("ledger.db-wal")
    caller = Caller(SqliteStore(path))
    stood = {HEADER: everything_holds(path).facts()}
    for call in CALLS[:CALLS_IN_THE_LOG]:
        caller.make(call)
        stood[wal.stat().st_size] = everything_holds(path).facts()
    copied = Path(shutil.copy(path, folder / "killed.db"))
    content = wal.read_bytes()
    caller.close()
    return Log(copied, content, stood)


def test_a_log_that_ends_at_or_within_any_page_keeps_the_commits_before_it(log: Log, tmp_path: Path) -> None:
    assert len(log.frames) > 4 * CALLS_IN_THE_LOG
    for start in log.frames:
        for torn in (start, start + FRAME_HEADER // 2, start + log.frame // 2, start + log.frame - 1):
            assert log.opened_with(log.content[:torn], tmp_path / "torn") == log.stands_before(torn)
    assert log.opened_with(log.content, tmp_path / "whole") == log.stands_before(len(log.content))


def test_any_page_that_came_back_changed_ends_the_log_before_it(log: Log, tmp_path: Path) -> None:
    for start in log.frames:
        for place in (start + 4, start + FRAME_HEADER + 7, start + log.frame - 1):
            changed = bytearray(log.content)
            changed[place] ^= 0x40
            assert log.opened_with(bytes(changed), tmp_path / "changed") == log.stands_before(start)


def test_a_last_page_that_the_disk_left_empty_or_old_is_not_taken_for_one(log: Log, tmp_path: Path) -> None:
    last = log.frames[-1]
    for page in (bytes(log.frame), log.content[last - log.frame : last], b"\xff" * log.frame):
        assert log.opened_with(log.content[:last] + page, tmp_path / "old") == log.stands_before(last)
        assert log.opened_with(log.content + page, tmp_path / "after") == log.stands_before(len(log.content))


def test_calls_whose_commits_were_torn_off_are_made_again_and_end_as_if_nothing_had_been(
    log: Log, tmp_path: Path
) -> None:
    ends = sorted(log.stood)
    for answered, (begins, ended) in enumerate(pairwise(ends)):
        path = tmp_path / "again" / "ledger.db"
        assert log.opened_with(log.content[: (begins + ended) // 2], path.parent) == log.stood[begins]
        caller = Caller(SqliteStore(path))
        for call in CALLS[answered:CALLS_IN_THE_LOG]:
            caller.make(call)
        caller.close()
        assert everything_holds(path).facts() == log.stood[ends[-1]]


def test_a_log_that_a_killed_process_left_is_read_and_its_last_page_may_be_torn(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    SqliteStore(path).close()
    with Crashing() as crashing:
        assert crashing.run("story", tmp_path, path, 120)
    answered = len(lines_in(tmp_path, "answers"))
    wal = path.with_name("ledger.db-wal")
    before = everything_holds(Path(shutil.copy(path, tmp_path / "copy.db"))).kinds
    assert not before
    with wal.open("r+b") as file:
        file.truncate(wal.stat().st_size - 1)
    caller = Caller(SqliteStore(path))
    for call in CALLS[max(0, answered - 1) :]:
        caller.make(call)
    caller.close()
    assert everything_holds(path).requests == {"r1", "r2", "r3", "r4", "r5"}
