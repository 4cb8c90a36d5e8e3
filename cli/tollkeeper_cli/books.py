"""`tollkeeper export` and `tollkeeper verify`: the ledger's chain as lines, and its check without a database."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import click

from tollkeeper.errors import InvalidValue
from tollkeeper_cli import options
from tollkeeper_cli.failure import told_in_one_line
from tollkeeper_cli.settings import StorageSettings, load
from tollkeeper_ledger.export import export, verify
from tollkeeper_ledger.storage import open_reader


@click.command("export")
@options.config
@options.data_dir
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    show_envvar=True,
    help="File to write; else standard output.",
)
def export_command(config: Path | None, data_dir: Path | None, output: Path | None) -> None:
    """Write every transaction as a line of JSON, in chain order. Works while `tollkeeper up` runs."""
    with told_in_one_line(), _reader_may_leave(), contextlib.ExitStack() as stack:
        ledger = (load(config).storage if data_dir is None else StorageSettings(directory=data_dir)).ledger
        if isinstance(ledger, Path) and not ledger.is_file():
            raise InvalidValue(f"{ledger}: there is no ledger; name its folder with --data-dir")
        reader = open_reader(ledger)
        stack.callback(reader.close)
        target = stack.enter_context(output.open("wb")) if output else sys.stdout.buffer
        for line in export(reader.chain()):
            target.write(line)
        target.flush()


@contextlib.contextmanager
def _reader_may_leave() -> Iterator[None]:
    """No failure where whoever reads standard output has had enough of it (`tollkeeper export | head`)."""
    try:
        yield
    except BrokenPipeError:
        # What is buffered goes nowhere, or Python would fail on it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.command("verify")
@click.argument("file", type=click.File("rb"))
def verify_command(file: BinaryIO) -> None:
    """Check an export (`-`: standard input): every hash, every sum. Exit code 3 at the first line that does not hold."""
    with told_in_one_line():
        verified = verify(iter(file))
    click.echo(f"{verified.transactions} transactions verified; the chain ends in {verified.head}")
