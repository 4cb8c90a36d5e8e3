"""The program's commands as processes: what they print, where, and how they end."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.e2e.programs import PROGRAM
from tests.ledger.builders import Desk, account_of, budget, record
from tollkeeper.leases import Want
from tollkeeper.usage import Charge

LIMIT = budget()
ACCOUNT = account_of(LIMIT)


def tollkeeper(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROGRAM, *arguments], input=stdin, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder whose ledger holds a few usages."""
    desk = Desk(tmp_path / "ledger.db", LIMIT)
    desk.lease("g", Want(ACCOUNT, 1000, 1000))
    desk.charge(*(record("g", Charge(ACCOUNT, 10, 10)) for _ in range(3)))
    desk.store.close()
    return tmp_path


def test_an_export_verifies(data: Path) -> None:
    exported = tollkeeper("export", "--data-dir", str(data))
    assert exported.returncode == 0
    verified = tollkeeper("verify", "-", stdin=exported.stdout)
    assert (verified.returncode, verified.stdout.split(" ")[:3]) == (0, ["4", "transactions", "verified;"])


def test_a_changed_export_is_a_violation_with_exit_code_3(data: Path) -> None:
    exported = tollkeeper("export", "--data-dir", str(data)).stdout
    changed = tollkeeper("verify", "-", stdin=exported.replace('"amount":10,', '"amount":9,', 1))
    assert changed.returncode == 3
    assert "transaction 2 was changed; its hash does not fit its content" in changed.stderr
    assert len(changed.stderr.splitlines()) == 1


def test_an_export_ends_quietly_when_its_reader_has_had_enough(data: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        ended = subprocess.run(
            [PROGRAM, "export", "--data-dir", data], stdout=pipe, stderr=subprocess.PIPE, check=False, timeout=60
        )
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_an_export_of_nothing_names_the_ledger_that_is_missing(tmp_path: Path) -> None:
    ended = tollkeeper("export", "--data-dir", str(tmp_path))
    assert ended.returncode == 1
    assert "there is no ledger; name its folder with --data-dir" in ended.stderr


def test_crds_are_all_six_kinds() -> None:
    documents = list(yaml.safe_load_all(tollkeeper("crds").stdout))
    assert sorted(document["spec"]["names"]["kind"] for document in documents) == [
        "PriceBook", "Tenant", "TokenBudget", "TokenGrant", "TokenQuota", "WorkloadGate",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [
        ("fly",),
        ("up", "--colour"),
        ("verify",),
        ("keys", "create"),
        ("keys", "create", "--tenant", "t", "--user", "u", "--delegate"),
    ],
)
def test_wrong_usage_ends_with_exit_code_2(arguments: tuple[str, ...]) -> None:
    ended = tollkeeper(*arguments)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "command", [(), ("up",), ("keys",), ("keys", "create"), ("export",), ("verify",), ("provider",), ("crds",)]
)
def test_every_command_explains_itself(command: tuple[str, ...]) -> None:
    explained = tollkeeper(*command, "--help")
    assert explained.returncode == 0
    assert "Usage: tollkeeper" in explained.stdout
