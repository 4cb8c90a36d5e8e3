"""`tollkeeper export` and `tollkeeper verify`: the ledger's chain as lines, and its check without a database."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import click

from tollkeeper.errors import InvalidValue
from tollkeeper_cli import options
from tollkeeper_cli.failure import told_in_one_line
from tollkeeper_cli.ledgers import check_spared, check_there
from tollkeeper_cli.output import reader_may_leave, standard_output, whole_or_not_at_all
from tollkeeper_cli.settings import StorageSettings, load
from tollkeeper_ledger.errors import ChainBroken
from tollkeeper_ledger.export import export, verify
from tollkeeper_ledger.storage import LedgerAt, open_reader

LONGEST_LINE = 64 * 2**20
"""Bytes; no transaction is that long. What has no line ends is read up to here, and is no export."""


@click.command("export")
@options.config
@options.data_dir
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    show_envvar=True,
    help="File to write, which takes its name once it is whole; else standard output.",
)
def export_command(config: Path | None, data_dir: Path | None, output: Path | None) -> None:
    """Write every transaction as a line of JSON, in chain order. Works while `tollkeeper up` runs."""
    with told_in_one_line():
        ledger = (load(config).storage if data_dir is None else StorageSettings(directory=data_dir)).ledger
        if output is not None:
            check_spared(output, ledger)
        with contextlib.ExitStack() as stack:
            lines = stack.enter_context(_lines_of(ledger))
            if output is None:
                stack.enter_context(reader_may_leave())
            target = stack.enter_context(whole_or_not_at_all(output) if output else standard_output())
            target.writelines(lines)


@contextlib.contextmanager
def _lines_of(ledger: LedgerAt) -> Iterator[Iterator[bytes]]:
    """The chain of a ledger as lines. Raises `InvalidValue` where there is none, `LedgerUnavailable` where it cannot be read."""
    check_there(ledger)
    # The chain holds one of the reader's connections until it ends, or is closed.
    with contextlib.closing(open_reader(ledger)) as reader, contextlib.closing(reader.chain()) as chain:
        yield export(chain)


def _hash(_context: click.Context, _option: click.Parameter, text: str | None) -> str | None:
    """A hash as `verify` prints one; anything else would only look like a chain that was cut off."""
    if text is not None and re.fullmatch(r"[0-9a-fA-F]{64}", text) is None:
        raise click.BadParameter(
            f"{text!r} is no hash: write the 64 hexadecimal digits that an earlier verify ended in"
        )
    return text


@click.command("verify")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--through",
    metavar="HASH",
    callback=_hash,
    show_envvar=True,
    help="A hash that an earlier verify ended in: the chain must come to it.",
)
def verify_command(file: Path, through: str | None) -> None:
    """Check an export (`-`: standard input): every hash, every sum. Exit code 3 at the first line that does not hold.

    Lines that were cut off at the end can be missed by nobody but who knows a later hash: note the one that is printed,
    and name it with --through the next time.
    """
    name = "standard input" if str(file) == "-" else str(file)
    with told_in_one_line():
        try:
            with click.open_file(str(file), "rb") as opened:
                verified = verify(_lines(opened), through=through)
        except OSError as error:
            raise InvalidValue(
                f"{name}: it cannot be read ({error.strerror}); name a file that `tollkeeper export` wrote"
            ) from error
        except ChainBroken as error:
            raise ChainBroken(f"{name}: {error}") from error
    click.echo(f"{verified.transactions} transactions verified; the chain ends in {verified.head}")


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """The lines, each with its end. Raises `ChainBroken` after a last one that has none."""
    line, number = b"\n", 0
    for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), start=1):  # noqa: B007 - read behind it
        yield line
    if not line.endswith(b"\n"):
        raise ChainBroken(f"line {number}: its line end is missing; the export was cut off")
