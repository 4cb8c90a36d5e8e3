"""`tollkeeper reconcile`: our books beside a provider's, and corrections that join them."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import click

from tollkeeper.amounts import format_money
from tollkeeper.errors import InvalidValue
from tollkeeper.providerfile import COLUMNS, ProviderRow, read_rows
from tollkeeper.reconciliation import Differences, Fix, compare
from tollkeeper.restated import day_of
from tollkeeper_cli import options
from tollkeeper_cli.failure import Failed, Violation, told_in_one_line
from tollkeeper_cli.operations import carried_out
from tollkeeper_cli.output import reader_may_leave
from tollkeeper_cli.settings import StorageSettings, load
from tollkeeper_cli.what_if import columns, lines_of
from tollkeeper_ledger.history import read_history

_ENDINGS = (".csv", ".tsv", ".txt", ".json")
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
    with told_in_one_line():
        rows = _rows(file)
        with lines_of(None, config, data_dir, by_export=False) as lines:
            found = compare(read_history(lines), rows)
        with reader_may_leave("make room, or write somewhere else; nothing was booked"):
            for line in columns(list(_table(found))):
                click.echo(line)
        for line in _besides(found):
            click.echo(line, err=True)
        storage = load(config).storage if data_dir is None else StorageSettings(directory=data_dir)
        if found.fixes and not book:
            raise Violation("the books differ; --book books what can be corrected")
        if asyncio.run(_book(found.fixes, storage)):
            raise Failed("some corrections were not booked; the lines above say why")
        if found.stays_open:
            raise Violation("the books differ by what stays open, see the lines above: no correction can join that")


def _besides(found: Differences) -> Iterator[str]:
    """What no line of the table says: rows without a usage of ours, and usages of ours without a row."""
    for row in found.unknown:
        what = f"id {row.id}" if row.id else f"{row.day} {row.model}"
        yield f"{row.place}: {what} is in no booked usage; {format_money(row.cost)} USD stay open"
    for row, usage in found.contradicted:
        says = f"{row.day} {row.model}" if row.day else row.model
        yield (
            f"{row.place}: id {row.id} is our request of {day_of(usage)} {usage.record.model}, and the row says {says}; "
            f"its {format_money(row.cost)} USD stay open"
        )
    for (day, model), line in sorted(found.unnamed.items()):
        requests, cost = f"{line.our_requests} requests of ours", f"cost {format_money(line.our_cost)} USD"
        partly = (day, model) in found.lines
        yield f"{day} {model}: the file does not name {f'{requests}; they' if partly else f'it; {requests}'} {cost}"


def _rows(file: Path) -> tuple[ProviderRow, ...]:
    if file.suffix not in _ENDINGS:
        raise InvalidValue(f"{file}: name a file that ends in {', '.join(_ENDINGS)}")
    try:
        return read_rows(file.read_bytes(), as_json=file.suffix == ".json")
    except InvalidValue as error:
        raise InvalidValue(f"{file}: {error}") from error


def _table(found: Differences) -> Iterator[tuple[str, ...]]:
    yield ("DAY", "MODEL", "OUR REQUESTS", "OUR USD", "THEIR ROWS", "THEIR USD", "DIFFERENCE")
    for (day, model), line in sorted(found.lines.items()):
        ours, theirs = (
            (str(line.our_requests), format_money(line.our_cost)),
            (str(line.their_rows), format_money(line.their_cost)),
        )
        yield (str(day), model, *ours, *theirs, format_money(line.difference))


async def _book(fixes: list[Fix], storage: StorageSettings) -> bool:
    """Book each fix on its own; whether one could not be."""
    failed = False
    for fix in fixes:
        what = fix.upstream or f"{fix.day} {fix.model} {fix.tenant}"
        asked = {
            "do": "correct",
            "mark": fix.mark,
            "changes": tuple(fix.changes.items()),
            "reason": f"the provider's usage says {format_money(fix.cost)} USD more" if fix.cost > 0
            else f"the provider's usage says {format_money(-fix.cost)} USD less",
            "details": fix.details,
        }  # fmt: skip
        try:
            answer = await carried_out(storage.directory, asked, storage.ledger)
        except InvalidValue as error:
            click.echo(f"{what}: not booked: {error}", err=True)
            failed = True
        else:
            click.echo(f"{what}: {format_money(fix.cost)} USD in transaction {answer['transaction']}", err=True)
    return failed
