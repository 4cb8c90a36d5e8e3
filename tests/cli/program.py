"""The program as its user runs it."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

Done = subprocess.CompletedProcess[str]


def tollkeeper(*arguments: str | Path, given: str | None = None, **environment: str) -> Done:
    """Run a command to its end. Of the settings in the environment it has those that are given here."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TOLLKEEPER_")}
    return subprocess.run(
        [sys.executable, "-m", "tollkeeper_cli", *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=60, input=given, env=inherited | environment,
    )  # fmt: skip


async def beside(*arguments: str | Path) -> Done:
    """Run a command while this process goes on."""
    return await asyncio.to_thread(tollkeeper, *arguments)


def failure(ended: Done, code: int) -> str:
    """What a command said that ended with `code`: one line."""
    assert ended.returncode == code, ended.stderr
    (line,) = ended.stderr.splitlines()
    return line
