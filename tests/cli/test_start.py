"""What a command loads: the rooms of `up` take longer to load than most commands take in all."""

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cli.books import LIMIT
from tests.ledger.builders import Desk
from tollkeeper_cli import control_server
from tollkeeper_cli.__main__ import main
from tollkeeper_cli.commands import COMMANDS

pytestmark = pytest.mark.slow  # each is a process of its own

SERVERS = frozenset({"aiohttp", "kopf", "kubernetes_asyncio", "jinja2", "tollkeeper_console", "tollkeeper_operator"})
MODELS = frozenset({"tollkeeper.resources"})
LOGS = frozenset({"structlog", "rich"})
LEDGER = frozenset({"sqlite3", "numpy", "tollkeeper_ledger.storage"})
SETTINGS = frozenset({"pydantic", "yaml"})
ALL = SERVERS | MODELS | LOGS | LEDGER | SETTINGS | {"asyncio", "importlib.metadata"}

RUN = """
import sys
from tollkeeper_cli.__main__ import main
code = main(sys.argv[2:])
open(sys.argv[1], "w").write("\\n".join(sys.modules))
sys.exit(code)
"""


def loaded(folder: Path, *arguments: str | Path, code: int = 0) -> set[str]:
    """The modules that a process of its own has loaded when its command is done."""
    names = folder / "modules"
    ended = subprocess.run(
        [sys.executable, "-c", RUN, names, *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=60, cwd=folder,
    )  # fmt: skip
    assert ended.returncode == code, ended.stderr
    return set(names.read_text().split())


@pytest.fixture
def export(data: Path) -> Path:
    """The export of its ledger."""
    desk = Desk(data / "ledger.db", LIMIT)
    file = data / "export.jsonl"
    file.write_bytes(b"".join(desk.export()))
    desk.store.close()
    return file


def test_the_programs_help_loads_no_command(tmp_path: Path) -> None:
    modules = loaded(tmp_path, "--help")
    assert modules & ALL == set()
    assert not modules & {command.place.partition(":")[0] for command in COMMANDS.values()}


@pytest.mark.parametrize("command", [*((name,) for name in COMMANDS if name != "up"), ("keys", "create")], ids=" ".join)
def test_the_help_of_a_command_loads_nothing_that_it_works_with(tmp_path: Path, command: tuple[str, ...]) -> None:
    assert loaded(tmp_path, *command, "--help") & ALL == set()


def test_the_help_of_up_loads_its_settings_whose_ports_it_shows_and_nothing_that_it_starts(tmp_path: Path) -> None:
    assert loaded(tmp_path, "up", "--help") & (SERVERS | MODELS | LOGS | {"sqlite3", "numpy"}) == set()


def test_an_export_is_checked_by_what_needs_no_ledger(tmp_path: Path, export: Path) -> None:
    assert loaded(tmp_path, "verify", export) & ALL == set()


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("export", "-o", "out.jsonl"), 0),
        (("verify",), 0),
        (("reconcile", "usage.csv"), 3),
        (("adjust", "a/monthly", "--amount", "1", "--reason", "x"), 1),
    ],
    ids=("export", "verify", "reconcile", "adjust"),
)
def test_what_works_with_books_alone_loads_no_resources_and_no_server(
    data: Path, command: tuple[str, ...], code: int
) -> None:
    (data / "usage.csv").write_text("id,model,cost\nid-0,gpt-5,1\n")
    assert loaded(data, *command, "--data-dir", data, code=code) & (SERVERS | MODELS) == set()


async def test_a_correction_that_another_process_books_loads_no_authority_of_its_own(tmp_path: Path) -> None:
    async def perform(_: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"transaction": "t1", "accounts": []}

    refund = ("refund", "r1", "--reason", "x", "--data-dir", tmp_path)
    async with control_server.serving(tmp_path, perform):
        modules = await asyncio.to_thread(loaded, tmp_path, *refund)
    assert modules & (SERVERS | MODELS | LOGS | {"asyncio", "numpy", "tollkeeper_webhook"}) == set()


def test_an_export_is_replayed_without_a_ledger(tmp_path: Path, export: Path) -> None:
    (tmp_path / "prices.yaml").write_text(
        "{apiVersion: tollkeeper.dev/v1alpha1, kind: PriceBook, metadata: {name: dear}, spec: {models: ["
        '{provider: openai, model: gpt-5, perMillion: {input: "5", output: "0"}}]}}'
    )
    modules = loaded(tmp_path, "what-if", "--ledger", export, "--prices", "prices.yaml")
    assert modules & (SERVERS | LOGS | {"numpy"}) == set()


def test_what_a_command_needs_is_seen_here(tmp_path: Path) -> None:
    assert MODELS | {"yaml", "pydantic"} <= loaded(tmp_path, "crds")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_has_a_whole_line_for_each(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert COMMANDS[name].load().name == name
    assert main(("--help",)) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.split()[:1] == [name])
    assert line.endswith(COMMANDS[name].line)
