"""`tollkeeper reconcile`: our books beside a provider's, and corrections that join them."""

from pathlib import Path

import click

from tollkeeper.providerfile import COLUMNS
from tollkeeper_cli import options
from tollkeeper_cli.failure import told_in_one_line

_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.command("reconcile", epilog=f"Columns: {', '.join(COLUMNS)}. Costs are dollars, as texts.")
@click.argument("file", type=_FILE)
@click.option("--book", is_flag=True, show_envvar=True, help="Book the corrections; without it, nothing is written.")
@options.config
@options.data_dir
def reconcile_command(file: Path, book: bool, config: Path | None, data_dir: Path | None) -> None:
    """Compare a provider's usage (.csv, .tsv and .txt: a table; .json: a list of objects) with the ledger, by day and model.

    Rows with an id are joined to the request whose answer had it, the others to the sum of their day (UTC) and model.
    What the file does not name is told, not compared.

    Exit code 3 when both differ. With --book the differences become corrections, and only what stays open makes it 3: rows
    that no request of ours stands for, or whose date or model is not that of their id's; the same file again books nothing.
    Works while `tollkeeper up` runs.
    """
    from tollkeeper_cli.reconciled import reconciled  # both books, which its help need not wait for

    with told_in_one_line():
        reconciled(file, config, data_dir, book=book)
