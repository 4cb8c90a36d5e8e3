"""A ledger on PostgreSQL by its settings: exported and adjusted by the same commands."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from tests.cli.program import tollkeeper
from tests.ledger.builders import Desk, account_of, budget, record
from tests.postgres_server import PostgresServer, running
from tollkeeper.errors import Unavailable
from tollkeeper.leases import Want
from tollkeeper.usage import Charge
from tollkeeper_cli import control, control_server
from tollkeeper_cli.settings import load
from tollkeeper_ledger.export import verify
from tollkeeper_ledger.storage import PostgresLedger

pytestmark = pytest.mark.slow  # a server of its own


async def no_request(_: Mapping[str, Any]) -> Mapping[str, Any]:
    raise AssertionError("nothing was asked")


LIMIT = budget(allocation=10**9)
ACCOUNT = account_of(LIMIT)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with running() as server:
        yield server


@pytest.fixture
def desk(server: PostgresServer) -> Iterator[Desk]:
    desk = Desk(PostgresLedger(server.new_database()), LIMIT)
    yield desk
    desk.store.close()


@pytest.fixture
def config(desk: Desk, tmp_path: Path) -> Path:
    assert isinstance(desk.ledger, PostgresLedger)
    file = tmp_path / "tollkeeper.yaml"
    file.write_text(yaml.safe_dump({"storage": {"directory": str(tmp_path), "postgres": desk.ledger.dsn}}))
    return file


def test_a_ledger_on_postgresql_is_exported_and_refunded_by_its_settings(desk: Desk, config: Path) -> None:
    desk.lease("g1", Want(ACCOUNT, 10**9, 10**9))
    desk.charge(record("g1", Charge(ACCOUNT, 6 * 10**8, 10**9), request="r1"))
    refunded = tollkeeper("refund", "r1", "--reason", "answer was empty", "--config", config)
    assert refunded.returncode == 0, refunded.stderr
    assert desk.account(ACCOUNT).spent == 0
    file = config.with_name("export.jsonl")
    exported = tollkeeper("export", "--config", config, "--output", file)
    assert exported.returncode == 0, exported.stderr
    with file.open("rb") as lines:
        assert verify(lines).transactions == 3


def test_a_ledger_on_postgresql_is_checked_by_its_settings(desk: Desk, config: Path) -> None:
    desk.lease("g1", Want(ACCOUNT, 10**9, 10**9))
    desk.charge(record("g1", Charge(ACCOUNT, 6 * 10**8, 6 * 10**8), request="r1"))
    whole = tollkeeper("verify", "--config", config)
    assert (whole.returncode, whole.stdout.split()[0]) == (0, "2"), whole.stderr
    assert isinstance(desk.ledger, PostgresLedger)
    with psycopg.connect(desk.ledger.dsn, autocommit=True) as connection:
        connection.execute("DELETE FROM transactions WHERE seq = 2")
    cut = tollkeeper("verify", "--config", config)
    assert cut.returncode == 3
    assert "the chain should end at transaction 2 in " in cut.stderr
    assert "and it ends at 1 in " in cut.stderr


def test_a_database_that_is_away_ends_a_command_in_one_line_without_secrets(tmp_path: Path) -> None:
    file = tmp_path / "tollkeeper.yaml"
    file.write_text(yaml.safe_dump({"storage": {"postgres": f"postgresql://me:secret@/books?host={tmp_path}"}}))
    done = tollkeeper("export", "--config", file)
    assert done.returncode != 0
    assert "ledger postgresql://" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stderr


async def test_the_folder_of_the_spool_is_made_where_the_ledger_is_on_postgresql(tmp_path: Path) -> None:
    """SQLite makes its folder itself; beside a database the first start found none, and ended with `[Errno 2]`."""
    folder = tmp_path / "not" / "there"
    async with control_server.serving(folder, no_request):
        assert (folder / control.SOCKET).is_socket()
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match=r"file/folder: the folder cannot be made .*; name another with --data-dir"):
        async with control_server.serving(tmp_path / "file" / "folder", no_request):
            pass


def test_a_database_that_is_away_is_told_with_the_setting_that_names_it(tmp_path: Path) -> None:
    file = tmp_path / "tollkeeper.yaml"
    file.write_text(yaml.safe_dump({"storage": {"postgres": f"postgresql://me@/books?host={tmp_path}"}}))
    said = tollkeeper("export", "--config", file).stderr
    assert "storage.postgres of the settings names another" in said
    assert "--data-dir" not in said


@pytest.mark.parametrize(
    "command",
    [
        ("export",),
        ("verify",),
        ("reconcile", "usage.csv"),
        ("refund", "r1", "--reason", "x"),
        ("adjust", "team/monthly", "--amount", "1", "--reason", "x"),
    ],
    ids=lambda command: command[0],
)
def test_no_command_makes_a_ledger_in_a_database_that_has_none(
    server: PostgresServer, tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "usage.csv").write_text("id,model,cost\nid-0,gpt-5,1\n")
    dsn = server.new_database()
    file = tmp_path / "tollkeeper.yaml"
    file.write_text(yaml.safe_dump({"storage": {"directory": str(tmp_path), "postgres": dsn}}))
    done = tollkeeper(*(str(tmp_path / part) if part == "usage.csv" else part for part in command), "--config", file)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith(
        ": there is no ledger in this database; name its database in storage.postgres of the settings\n"
    )
    assert done.stderr.count("\n") == 1
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT to_regclass('transactions')").fetchone() == (None,)


def test_a_ledger_on_postgresql_without_transactions_is_an_empty_export(config: Path) -> None:
    done = tollkeeper("export", "--config", config)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_storage_is_a_folder_unless_a_database_is_named(config: Path, tmp_path: Path) -> None:
    assert isinstance(load(config).storage.ledger, PostgresLedger)
    config.write_text(yaml.safe_dump({"storage": {"directory": str(tmp_path)}}))
    assert load(config).storage.ledger == tmp_path / "ledger.db"
