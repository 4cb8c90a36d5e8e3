"""The commands of `docs/corrections.md` exist, and take the options that they are shown with."""

import re
import shlex
from pathlib import Path

import click
import pytest

from tollkeeper_cli.__main__ import program

DOCUMENT = (Path(__file__).parents[2] / "docs" / "corrections.md").read_text(encoding="utf-8")
COMMANDS = sorted(
    set(re.findall(r"\btollkeeper ([a-z-]+ [^\n|`]*[^\n|` ])", "\n".join(re.findall(r"\$ .*", DOCUMENT))))
)


def test_the_tour_shows_every_command_of_the_books() -> None:
    shown = {line.split()[0] for line in COMMANDS}
    assert shown == {"export", "verify", "reconcile", "refund", "adjust", "what-if"}


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_tour_parses(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("november.jsonl", "provider.csv", "dearer.yaml"):
        Path(file).touch()
    Path("policies").mkdir()
    name, *arguments = shlex.split(line)
    command = program.get_command(click.Context(program), name)
    assert command is not None
    command.make_context(name, arguments)
