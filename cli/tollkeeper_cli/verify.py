"""`tollkeeper verify`: the check of an export, which needs no ledger, and the check of a ledger."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import click
from click.core import ParameterSource

from tollkeeper.errors import InvalidValue
from tollkeeper_cli import options
from tollkeeper_cli.failure import told_in_one_line
from tollkeeper_ledger.errors import ChainBroken
from tollkeeper_ledger.export import verify

LONGEST_LINE = 64 * 2**20
"""Bytes; no transaction is that long. What has no line ends is read up to here, and is no export."""


def _hash(_context: click.Context, _option: click.Parameter, text: str | None) -> str | None:
    """A hash as `verify` prints one; anything else would only look like a chain that was cut off."""
    if text is not None and re.fullmatch(r"[0-9a-fA-F]{64}", text) is None:
        raise click.BadParameter(
            f"{text!r} is no hash: write the 64 hexadecimal digits that an earlier verify ended in"
        )
    return text


@click.command("verify")
@click.argument("file", required=False, type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--through",
    metavar="HASH",
    callback=_hash,
    show_envvar=True,
    help="A hash that an earlier verify ended in: the chain must come to it.",
)
@options.config
@options.data_dir
@click.pass_context
def verify_command(
    context: click.Context, file: Path | None, through: str | None, config: Path | None, data_dir: Path | None
) -> None:
    """Check an export (`-`: standard input): every hash, every sum. Exit code 3 at the first line that does not hold.

    Without FILE, check the ledger that --data-dir or the settings name: its chain in the same way, and that its accounts are
    what their entries and leases add up to. Exit code 3 at the first difference. Works while `tollkeeper up` runs.

    Lines that were cut off at the end can be missed by nobody but who knows a later hash: note the one that is printed,
    and name it with --through the next time.
    """
    on_command_line = {context.get_parameter_source(name) for name in ("config", "data_dir")}
    if file is not None and ParameterSource.COMMANDLINE in on_command_line:
        raise click.UsageError("FILE is checked by itself: leave it out to check a ledger, or leave out what names one")
    if file is None and config is None and data_dir is None:
        raise click.UsageError("name FILE, an export (`-`: standard input), or a ledger with --data-dir or --config")
    with told_in_one_line():
        if file is None:
            _check_ledger(config, data_dir, through)
        else:
            _check_export(file, through)


def _check_export(file: Path, through: str | None) -> None:
    name = "standard input" if str(file) == "-" else str(file)
    try:
        with click.open_file(str(file), "rb") as opened:
            verified = verify(_lines(opened), through=through)
    except OSError as error:
        raise InvalidValue(
            f"{name}: it cannot be read ({error.strerror}); name a file that `tollkeeper export` wrote"
        ) from error
    except ChainBroken as error:
        raise ChainBroken(f"{name}: {error}") from error
    _tell(verified.transactions, verified.head)


def _check_ledger(config: Path | None, data_dir: Path | None, through: str | None) -> None:
    # A ledger loads settings, SQLite and numpy, which the check of an export need not wait for.
    from tollkeeper_cli.audited import audited, missed
    from tollkeeper_cli.ledgers import storage_of

    found = audited(storage_of(config, data_dir).ledger, through)
    _tell(found.transactions, found.head)
    accounts = "1 account is what its" if found.accounts == 1 else f"{found.accounts} accounts are what their"
    click.echo(f"{accounts} entries and leases add up to")
    for line in missed(found.unbooked):
        click.echo(line)


def _tell(transactions: int, head: str) -> None:
    click.echo(f"{transactions} transactions verified; the chain ends in {head}")


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """The lines, each with its end. Raises `ChainBroken` after a last one that has none."""
    line, number = b"\n", 0
    for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), start=1):  # noqa: B007 - read behind it
        yield line
    if not line.endswith(b"\n"):
        raise ChainBroken(f"line {number}: its line end is missing; the export was cut off")
