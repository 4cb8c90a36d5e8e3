"""A ledger's file is read as it lies: beside a writer, alone, and where nothing can be written."""

import os
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from tests.ledger.builders import Desk, account_of, budget, record
from tollkeeper.usage import Charge
from tollkeeper_ledger.errors import LedgerUnavailable
from tollkeeper_ledger.export import export, verify
from tollkeeper_ledger.reader import SqliteReader

LIMIT = budget()
ACCOUNT = account_of(LIMIT)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path / "ledger.db", LIMIT)
    desk.charge(record("g", Charge(ACCOUNT, 10, 0)))
    return desk


@pytest.fixture
def nothing_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK and allowed(path, mode))


def transactions(file: Path) -> int:
    with closing(SqliteReader(file)) as reader:
        return verify(export(reader.chain())).transactions


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_reading_leaves_no_file_that_was_not_there(desk: Desk, tmp_path: Path) -> None:
    desk.store.close()
    before = files(tmp_path)
    assert transactions(tmp_path / "ledger.db") == 2
    assert files(tmp_path) == before


def test_reading_beside_a_writer_leaves_it_its_files(desk: Desk, tmp_path: Path) -> None:
    assert transactions(tmp_path / "ledger.db") == 2
    assert {"ledger.db-wal", "ledger.db-shm"} <= files(tmp_path).keys()
    desk.charge(record("g", Charge(ACCOUNT, 10, 0)))
    assert transactions(tmp_path / "ledger.db") == 3
    desk.store.close()


def test_a_writer_that_begins_while_a_ledger_is_read_keeps_its_files(desk: Desk, tmp_path: Path) -> None:
    desk.store.close()
    with closing(SqliteReader(tmp_path / "ledger.db")) as reader:
        assert len(list(reader.chain())) == 2
        desk = Desk(tmp_path / "ledger.db", LIMIT)
        desk.charge(record("g", Charge(ACCOUNT, 10, 0)))
        assert len(list(reader.chain())) == 3
    desk.charge(record("g", Charge(ACCOUNT, 10, 0)))
    assert transactions(tmp_path / "ledger.db") == 4
    desk.store.close()
    assert "ledger.db-wal" not in files(tmp_path)


def test_a_copy_with_its_log_keeps_it(desk: Desk, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("ledger.db", "ledger.db-wal"):
        shutil.copy(tmp_path / name, copy / name)
    before = files(copy)
    assert transactions(copy / "ledger.db") == 2
    assert before.items() <= files(copy).items()
    desk.store.close()


@pytest.mark.usefixtures("nothing_can_be_written")
def test_where_nothing_can_be_written_the_one_file_is_read(desk: Desk, tmp_path: Path) -> None:
    desk.store.close()
    before = files(tmp_path)
    assert transactions(tmp_path / "ledger.db") == 2
    assert files(tmp_path) == before


@pytest.mark.usefixtures("nothing_can_be_written")
def test_where_nothing_can_be_written_a_log_with_what_was_booked_last_is_told(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    for name in ("ledger.db", "ledger.db-wal"):
        shutil.copy(tmp_path / name, tmp_path / "copy" / name)
    desk.store.close()
    with pytest.raises(LedgerUnavailable, match=r"copy ledger\.db and ledger\.db-wal into a folder of yours"):
        SqliteReader(tmp_path / "copy" / "ledger.db")


@pytest.mark.parametrize("name", ["odd?mode=rwc", "with#hash", "100%25"])
def test_a_folder_with_an_odd_name_is_read_as_it_is_named(tmp_path: Path, name: str) -> None:
    file = tmp_path / name / "ledger.db"
    Desk(file, LIMIT).store.close()
    assert list(SqliteReader(file).chain()) == []
