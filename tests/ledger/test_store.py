"""What survives: full disks, second owners, damaged exports, and answers that were given."""

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from tests.ledger.builders import NOW, Desk, account_of, budget, record
from tollkeeper.leases import LeaseRequest, Want
from tollkeeper.usage import Charge
from tollkeeper_ledger import bookkeeping
from tollkeeper_ledger.errors import ChainBroken, LedgerInUse, LedgerUnavailable
from tollkeeper_ledger.export import export, verify
from tollkeeper_ledger.reader import SqliteReader
from tollkeeper_ledger.sqlite import SqliteStore
from tollkeeper_ledger.work import Work
from tollkeeper_ledger.writer import LedgerWriter

LIMIT = budget(allocation=10**9)
ACCOUNT = account_of(LIMIT)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "ledger.db", LIMIT)
    yield desk
    desk.store.close()


def test_a_second_owner_is_refused_and_told_who_owns_the_ledger(desk: Desk) -> None:
    with pytest.raises(LedgerInUse, match=r"process \d+ writes it"):
        SqliteStore(desk.sqlite.path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(LedgerUnavailable, match="choose a folder that can be written"):
        SqliteStore(tmp_path / "file" / "ledger.db")


def test_a_file_that_is_no_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"something else" * 1000)
    with pytest.raises(LedgerUnavailable, match=r"ledger\.db: file is not a database"):
        SqliteStore(tmp_path / "ledger.db")


def test_a_ledger_of_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    with pytest.raises(LedgerUnavailable, match="schema version 999"):
        SqliteStore(tmp_path / "ledger.db")


def test_a_full_disk_books_nothing_and_space_that_comes_back_is_used(desk: Desk) -> None:
    desk.lease("g", Want(ACCOUNT, 10**6, 10**6))
    before = desk.known(ACCOUNT)
    pages = desk.sqlite._connection.execute("PRAGMA page_count").fetchone()[0]
    desk.sqlite._connection.execute(f"PRAGMA max_page_count = {pages}")
    usages = [record("g", Charge(ACCOUNT, 1, 1), request=f"r{n}") for n in range(500)]
    with pytest.raises(LedgerUnavailable, match="free some space"):
        desk.charge(*usages)
    assert desk.known(ACCOUNT) == before
    desk.sqlite._connection.execute("PRAGMA max_page_count = 1000000")
    desk.charge(*usages)
    after = desk.known(ACCOUNT)
    assert after is not None
    assert after[0].spent == 500


def test_a_step_that_fails_leaves_the_others_of_its_batch_alone(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "ledger.db", LIMIT)
    hold = threading.Event()
    writer = LedgerWriter(desk.store, lambda _accounts: None)
    writer.submit(lambda _work: hold.wait(10))

    def failing(work: Work) -> None:
        bookkeeping.lease(work, desk.policy, LeaseRequest("bad", 1, (Want(ACCOUNT, 5, 5),)), NOW, NOW)
        raise ValueError("no")

    refused = writer.submit(failing)
    good = writer.submit(
        lambda work: bookkeeping.lease(work, desk.policy, LeaseRequest("good", 1, (Want(ACCOUNT, 7, 7),)), NOW, NOW)
    )
    hold.set()
    assert isinstance(refused.exception(10), ValueError)
    assert good.result(10).granted[0].amount == 7
    known = desk.known(ACCOUNT)
    assert known is not None
    assert known[0].held == 7
    writer.close()


def test_a_step_that_is_taken_back_is_not_begun_and_stops_nobody_else(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "ledger.db", LIMIT)
    hold = threading.Event()
    writer = LedgerWriter(desk.store, lambda _accounts: None)
    begun: list[str] = []
    writer.submit(lambda _work: hold.wait(10))
    taken_back = writer.submit(lambda _work: begun.append("taken back"))
    assert taken_back.cancel()
    other = writer.submit(lambda _work: begun.append("other"))
    hold.set()
    other.result(10)
    assert begun == ["other"]
    writer.close()


def exported(desk: Desk) -> list[bytes]:
    reader = SqliteReader(desk.sqlite.path)
    lines = list(export(reader.chain()))
    reader.close()
    return lines


def test_an_export_verifies_without_the_database(desk: Desk) -> None:
    desk.lease("g", Want(ACCOUNT, 1000, 1000))
    desk.charge(*(record("g", Charge(ACCOUNT, 10, 10)) for _ in range(20)))
    lines = exported(desk)
    assert verify(lines).transactions == 21
    first = orjson.loads(lines[1])
    assert (first["usage"]["upstream_id"], first["kind"]) == ("chatcmpl-1", "usage")
    assert first["usage"]["request_id"]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (
            lambda lines: [*lines[:3], lines[3].replace(b'"amount":10', b'"amount":11'), *lines[4:]],
            "line 4: .* was changed",
        ),
        (lambda lines: [*lines[:3], *lines[4:]], "line 4: transaction 5 stands where 4 belongs"),
        (lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]], "line 4: transaction 5 stands where 4 belongs"),
        (lambda lines: [*lines[:3], b"not json\n", *lines[4:]], "line 4: it is not an exported transaction"),
    ],
    ids=["changed", "removed", "swapped", "torn"],
)
def test_verify_names_the_first_line_that_does_not_hold(desk: Desk, damage: object, says: str) -> None:
    desk.lease("g", Want(ACCOUNT, 1000, 1000))
    desk.charge(*(record("g", Charge(ACCOUNT, 10, 10)) for _ in range(8)))
    with pytest.raises(ChainBroken, match=says):
        verify(damage(exported(desk)))  # type: ignore[operator]


def test_pages_of_usages_run_in_the_order_of_booking_with_the_balance_after_each(desk: Desk) -> None:
    desk.lease("g", Want(ACCOUNT, 1000, 1000))
    desk.charge(*(record("g", Charge(ACCOUNT, 10, 10), request=f"r{n}") for n in range(45)))
    reader = SqliteReader(desk.sqlite.path)
    page = reader.usages(ACCOUNT, page=3, order="oldest")
    newest = reader.usages(ACCOUNT, page=1)
    totals = reader.totals(ACCOUNT)
    one = reader.usage(ACCOUNT, "r7")
    reader.close()
    assert ([row.id for row in page.rows], page.total) == ([f"r{n}" for n in range(40, 45)], 45)
    assert newest.rows[0].balance == 10**9 - 450
    assert (totals.usages, totals.tokens, totals.cost) == (45, 45 * 110, 450)
    assert one is not None
    assert one.balance == 10**9 - 80
