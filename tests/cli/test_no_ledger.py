"""A file that is no ledger: every command names it and leaves it as it is."""

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.cli.books import LIMIT, booked
from tests.cli.program import failure, tollkeeper
from tests.ledger.builders import Desk
from tollkeeper_cli.__main__ import main
from tollkeeper_ledger.errors import LedgerUnavailable, NoLedger
from tollkeeper_ledger.sqlite import SqliteStore

READING = (
    ("export",),
    ("what-if", "--policies", "."),
    ("reconcile", "usage.csv"),
    ("adjust", "team/monthly", "--amount", "1", "--reason", "x"),
    ("refund", "r1", "--reason", "x"),
)


def notes(file: Path) -> None:
    """A database of somebody else, which is in WAL mode and has a version of its own."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.executescript("PRAGMA journal_mode = WAL; PRAGMA user_version = 7; CREATE TABLE transactions (body)")


@pytest.mark.parametrize("command", READING, ids=lambda command: command[0])
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (Path.touch, "it holds no ledger; name its folder with --data-dir"),
        (notes, "it holds no ledger; name its folder with --data-dir"),
        (
            lambda file: file.write_bytes(b"not a database" * 1000),
            "it is no ledger, nor any SQLite database; restore a",
        ),
        (
            lambda file: file.write_bytes(b"SQLite format 3\0" + b"\x10\0\1\1\0\x40\x20\x20" + b"\xff" * 10_000),
            "it is",
        ),
    ],
    ids=["empty", "of somebody else", "no database", "damaged"],
)
def test_a_file_that_is_no_ledger_is_named_and_stays_as_it_is(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: tuple[str, ...],
    make: Callable[[Path], None],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("usage.csv").write_text("id,model,cost\nid-0,gpt-5,1\n")
    Path("policies.yaml").write_text(
        "{apiVersion: tollkeeper.dev/v1alpha1, kind: Tenant, metadata: {name: t}, spec: {displayName: T, level: Team}}"
    )
    data = tmp_path / "data"
    data.mkdir()
    make(data / "ledger.db")
    before = (data / "ledger.db").read_bytes()
    assert main((*command, "--data-dir", str(data))) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"Error: ledger {data}/ledger.db: {says}")
    assert "can be written" not in said
    assert (data / "ledger.db").read_bytes() == before


def test_a_store_makes_a_ledger_in_an_empty_file_and_in_no_database_of_somebody_else(tmp_path: Path) -> None:
    Desk(booked(tmp_path, 1) / "ledger.db", LIMIT).store.close()
    empty, other = tmp_path / "empty.db", tmp_path / "other.db"
    empty.touch()
    SqliteStore(empty).close()
    notes(other)
    before = other.read_bytes()
    with pytest.raises(NoLedger, match="it holds no ledger, but tables of something else"):
        SqliteStore(other)
    assert other.read_bytes() == before


FOREIGN: dict[str, Callable[[Path], object]] = {
    "of somebody else": notes,
    "no database": lambda file: file.write_bytes(b"not a database" * 1000),
    "a few words": lambda file: file.write_text("not a database"),
    "damaged": lambda file: file.write_bytes(b"SQLite format 3\0" + b"\x10\0\1\1\0\x40\x20\x20" + b"\xff" * 10_000),
}


@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN)
def test_a_store_leaves_nothing_beside_a_file_that_it_refuses(tmp_path: Path, make: Callable[[Path], object]) -> None:
    file = tmp_path / "ledger.db"
    make(file)
    with pytest.raises(LedgerUnavailable):
        SqliteStore(file)
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.db"]


@pytest.mark.slow  # a process of its own
def test_up_names_a_file_that_is_no_ledger_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    notes(data / "ledger.db")
    config = tmp_path / "tollkeeper.yaml"
    ports = dict.fromkeys(("gateway", "gateway_metrics", "webhook", "webhook_health", "operator", "console"), 0)
    upstreams = {"openai": {"url": "http://127.0.0.1:9", "key": {"env": "PROVIDER_KEY"}}}
    config.write_text(yaml.safe_dump({"upstreams": upstreams, "ports": ports}))
    ended = tollkeeper("up", "--config", config, "--data-dir", data, PROVIDER_KEY="k")
    assert failure(ended, 1) == (
        f"Error: ledger {data}/ledger.db: it holds no ledger, but tables of something else; "
        "name another folder with --data-dir"
    )
    assert [path.name for path in data.iterdir()] == ["ledger.db"]
