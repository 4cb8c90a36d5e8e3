"""`tollkeeper export`: the chain as lines."""

import contextlib
from pathlib import Path

import click

from tollkeeper_cli import options
from tollkeeper_cli.failure import told_in_one_line
from tollkeeper_cli.output import reader_may_leave, standard_output, whole_or_not_at_all


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
    from tollkeeper_cli.ledgers import check_spared, exported, storage_of  # a ledger, which its help need not wait for

    with told_in_one_line():
        storage = storage_of(config, data_dir)
        if output is not None:
            check_spared(output, storage)
        with contextlib.ExitStack() as stack:
            lines = stack.enter_context(exported(storage.ledger))
            if output is None:
                stack.enter_context(reader_may_leave())
            target = stack.enter_context(whole_or_not_at_all(output) if output else standard_output())
            target.writelines(lines)
