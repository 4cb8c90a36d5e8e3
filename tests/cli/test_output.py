"""Standard output: its reader may leave, and it may take no more."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.program import failure
from tests.e2e.programs import PROGRAM

pytestmark = pytest.mark.slow  # each is a process of its own


@pytest.mark.parametrize("command", ["export", "crds"])
def test_a_command_ends_quietly_when_its_reader_has_had_enough(data: Path, command: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        ended = subprocess.run(
            [PROGRAM, command], stdout=pipe, stderr=subprocess.PIPE, check=False, timeout=60,
            env={**os.environ, "TOLLKEEPER_DATA_DIR": str(data)},
        )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
@pytest.mark.parametrize("command", [("export",), ("crds",), ("--help",), ("export", "--help")])
def test_an_output_that_takes_no_more_is_one_clear_line(data: Path, command: tuple[str, ...]) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [PROGRAM, *command], stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60,
            env={**os.environ, "TOLLKEEPER_DATA_DIR": str(data)},
        )  # fmt: skip
    assert failure(ended, 1) == "Error: standard output: No space left on device; make room, or write somewhere else"
