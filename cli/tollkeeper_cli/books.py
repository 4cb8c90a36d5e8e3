"""`tollkeeper export` and `tollkeeper verify`: the chain as lines, its check without a database, and the check of a ledger."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import click
from click.core import ParameterSource

from tollkeeper.amounts import Unit, format_amount
from tollkeeper.counters import Unbooked
from tollkeeper.errors import InvalidValue
from tollkeeper_cli import options
from tollkeeper_cli.failure import told_in_one_line
from tollkeeper_cli.ledgers import check_spared, check_there
from tollkeeper_cli.output import reader_may_leave, standard_output, whole_or_not_at_all
from tollkeeper_cli.settings import StorageSettings, load
from tollkeeper_ledger.errors import BooksDiffer, ChainBroken
from tollkeeper_ledger.export import export, verify
from tollkeeper_ledger.storage import LedgerAt, open_reader

MOST_GATEWAYS = 20
"""So many gateways are named, of those whose usage is missing."""

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
            _check_ledger(
                (load(config).storage if data_dir is None else StorageSettings(directory=data_dir)).ledger, through
            )
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


def _check_ledger(ledger: LedgerAt, through: str | None) -> None:
    from tollkeeper_ledger.audit import audit  # it loads numpy, which the check of an export need not wait for

    check_there(ledger)
    with contextlib.closing(open_reader(ledger)) as reader:
        name = str(ledger) if isinstance(ledger, Path) else "the ledger on PostgreSQL"
        try:
            audited = audit(reader, through=through)
        except ChainBroken as error:
            raise ChainBroken(f"{name}: as it would be exported, {error}") from error
        except BooksDiffer as error:
            raise BooksDiffer(f"{name}: {error}") from error
    _tell(audited.transactions, audited.head)
    accounts = "1 account is what its" if audited.accounts == 1 else f"{audited.accounts} accounts are what their"
    click.echo(f"{accounts} entries and leases add up to")
    _tell_unbooked(audited.unbooked)


def _tell_unbooked(unbooked: Sequence[Unbooked]) -> None:
    """No fault of the ledger: usage is on its way, or a gateway was lost with its disk."""
    for one in unbooked[:MOST_GATEWAYS]:
        requests = "1 request" if one.missing.requests == 1 else f"{one.missing.requests} requests"
        cost = format_amount(one.missing.cost, Unit.USD)
        click.echo(
            f"gateway {one.instance} had settled {requests} more by {one.told:%Y-%m-%d %H:%M:%S} UTC than are booked "
            f"({one.missing.tokens} tokens, ${cost}): they are in its spool, or lost with it"
        )
    if (more := len(unbooked) - MOST_GATEWAYS) > 0:
        click.echo(f"and so had {more} more")


def _tell(transactions: int, head: str) -> None:
    click.echo(f"{transactions} transactions verified; the chain ends in {head}")


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """The lines, each with its end. Raises `ChainBroken` after a last one that has none."""
    line, number = b"\n", 0
    for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), start=1):  # noqa: B007 - read behind it
        yield line
    if not line.endswith(b"\n"):
        raise ChainBroken(f"line {number}: its line end is missing; the export was cut off")
