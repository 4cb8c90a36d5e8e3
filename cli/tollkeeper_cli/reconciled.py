"""What `tollkeeper reconcile` does: it compares both books, says where they differ, and books what joins them."""

from collections.abc import Iterator
from pathlib import Path

import click

from tollkeeper.amounts import format_money
from tollkeeper.errors import InvalidValue
from tollkeeper.providerfile import ProviderRow, read_rows
from tollkeeper.reconciliation import Differences, Fix, compare
from tollkeeper.restated import day_of
from tollkeeper_cli.booking import booked
from tollkeeper_cli.failure import Failed, Violation
from tollkeeper_cli.ledgers import exported, storage_of
from tollkeeper_cli.output import reader_may_leave
from tollkeeper_cli.settings import StorageSettings
from tollkeeper_cli.tables import columns
from tollkeeper_ledger.history import read_history

_ENDINGS = (".csv", ".tsv", ".txt", ".json")


def reconciled(file: Path, config: Path | None, data_dir: Path | None, *, book: bool) -> None:
    """Tell where a provider's file and the ledger differ, and with `book` correct it.

    Raises `Violation` for what still differs then, `Failed` for what could not be booked, `InvalidValue` for a file or ledger
    that is none.
    """
    rows, storage = _rows(file), storage_of(config, data_dir)
    with exported(storage.ledger) as lines:
        found = compare(read_history(lines), rows)
    with reader_may_leave("make room, or write somewhere else; nothing was booked"):
        for line in columns(list(_table(found))):
            click.echo(line)
    for line in _besides(found):
        click.echo(line, err=True)
    if found.fixes and not book:
        raise Violation("the books differ; --book books what can be corrected")
    if _book(found.fixes, storage):
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


def _book(fixes: list[Fix], storage: StorageSettings) -> bool:
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
            answer = booked(storage, asked)
        except InvalidValue as error:
            click.echo(f"{what}: not booked: {error}", err=True)
            failed = True
        else:
            click.echo(f"{what}: {format_money(fix.cost)} USD in transaction {answer['transaction']}", err=True)
    return failed
