"""Captures in a file of their own: who may read it, how it shrinks, and what is wrong with it."""

import shutil
import sqlite3
from collections import namedtuple
from contextlib import closing
from pathlib import Path

import pytest

from tests.ledger.captures.builders import NOON, sealed
from tollkeeper.errors import Unavailable
from tollkeeper_ledger.captures.errors import CapturesUnavailable
from tollkeeper_ledger.captures.sqlite import SqliteCaptures
from tollkeeper_ledger.captures.storage import CAPTURES_FILE, open_captures
from tollkeeper_ledger.captures.sweeping import Erased, erase, erase_one

Usage = namedtuple("Usage", ["total", "used", "free"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / CAPTURES_FILE


def test_it_lies_beside_the_ledger_and_is_its_owners_alone(tmp_path: Path) -> None:
    store = open_captures(tmp_path / "ledger.db", make=True)
    store.add([sealed()])
    assert {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {
        "bodies.db": 0o600,
        "bodies.db-wal": 0o600,
        "bodies.db-shm": 0o600,
    }
    store.close()


def test_what_is_deleted_is_overwritten_and_gives_its_room_back(path: Path) -> None:
    """R27."""
    store = SqliteCaptures(path)
    before = path.stat().st_size
    for number in range(40):
        store.add([sealed(f"r{number}", answer=b"swordfish" * 20_000)])
    assert erase(store, "research") == Erased(40, is_held=False)
    assert path.stat().st_size <= before + 64 * 1024
    assert not any(b"swordfish" in file.read_bytes() for file in path.parent.iterdir())
    store.close()


def test_a_reader_that_keeps_what_is_deleted_in_the_log_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R27."""
    monkeypatch.setattr("tollkeeper_ledger.captures.sqlite._WAIT_SECONDS", 0.05)
    store = SqliteCaptures(path)
    store.add([sealed("r1", answer=b"swordfish" * 20_000), sealed("r2")])
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM captures").fetchall()
    assert erase_one(store, "r1") == Erased(1, is_held=True)
    reader.execute("COMMIT")
    assert erase_one(store, "r1") == Erased(0, is_held=False)
    assert not any(b"swordfish" in file.read_bytes() for file in path.parent.iterdir())
    reader.close()
    store.close()


def test_the_last_of_the_disk_is_left_to_the_ledger(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqliteCaptures(path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 9 * 10**8, 10**8))
    with pytest.raises(
        CapturesUnavailable, match="less than 256 MiB of its disk are free, which are left to the ledger"
    ):
        store.add([sealed()])
    assert store.listed(None, NOON, 10) == []
    store.close()


def test_a_folder_that_went_is_named(tmp_path: Path) -> None:
    store = SqliteCaptures(made(tmp_path / "folder") / CAPTURES_FILE)
    shutil.rmtree(tmp_path / "folder")
    with pytest.raises(CapturesUnavailable, match=r"\(No such file or directory\); see that its folder is there"):
        store.add([sealed()])
    store.close()


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_a_file_of_a_newer_release_is_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 9")
    other.close()
    with pytest.raises(CapturesUnavailable, match="it has schema version 9 and this release knows 1"):
        SqliteCaptures(path)


def test_a_file_that_is_no_database_is_named(path: Path) -> None:
    path.write_bytes(b"hello " * 1000)
    with pytest.raises(Unavailable, match="it is damaged, or no SQLite database: move it away, and a new one is made"):
        SqliteCaptures(path)


def test_a_file_that_is_found_damaged_while_it_is_open_is_to_be_opened_anew(path: Path) -> None:
    store = SqliteCaptures(path)
    store.add([sealed(f"r{number}") for number in range(50)])
    assert not store.is_stale
    store.shrink()
    store._connection.execute("PRAGMA shrink_memory")  # what it remembers of the file
    with path.open("r+b") as damaged:
        damaged.write(b"no database" * 2000)
    with pytest.raises(CapturesUnavailable, match="move it away"):
        store.find("r1", NOON)
    assert store.is_stale
    store.close()


def test_a_file_that_another_holds_is_waited_for_and_then_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tollkeeper_ledger.captures.sqlite._WAIT_SECONDS", 0.05)
    store = SqliteCaptures(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(CapturesUnavailable, match="database is locked; nothing of this was done"):
        store.add([sealed()])
    other.execute("ROLLBACK")
    other.close()
    store.add([sealed()])
    store.close()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CapturesUnavailable, match=r"cannot be opened \(No such file or directory\)"):
        SqliteCaptures(tmp_path / "nowhere" / CAPTURES_FILE)


def test_keeping_bodies_makes_no_ledger(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.db"
    store = open_captures(ledger, make=True)
    store.close()
    assert not ledger.exists()


@pytest.mark.parametrize(
    "change", ["captured = 'abc'", "expires = 9223372036854775807", "status = x'00'", "request = -5"]
)
def test_no_row_can_be_changed_into_what_would_hide_all_others(tmp_path: Path, change: str) -> None:
    store = SqliteCaptures(tmp_path / "bodies.db")
    store.add([sealed("one")])
    with pytest.raises(sqlite3.IntegrityError), closing(sqlite3.connect(tmp_path / "bodies.db")) as file:
        file.execute(f"UPDATE captures SET {change}")  # noqa: S608 - words of this test
    store.close()
