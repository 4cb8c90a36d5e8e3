"""`tollkeeper what-if`: the past replayed under other policies or prices."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import orjson

from tollkeeper.amounts import format_money
from tollkeeper.policy import PolicySet
from tollkeeper.prices import PriceList
from tollkeeper.whatif import Tally, WhatIf, breakdowns, what_if
from tollkeeper.windows import format_time
from tollkeeper_cli import options
from tollkeeper_cli.failure import WrongUsage, told_in_one_line
from tollkeeper_cli.ledgers import check_there
from tollkeeper_cli.policy_files import policies_in, prices_in
from tollkeeper_cli.settings import StorageSettings, load
from tollkeeper_cli.times import time_of
from tollkeeper_ledger.errors import ChainBroken
from tollkeeper_ledger.export import export
from tollkeeper_ledger.history import read_history
from tollkeeper_ledger.storage import open_reader

_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
_FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)


@click.command("what-if")
@click.option("--policies", type=_FOLDER, show_envvar=True, help="Folder of resources (YAML) to replay under.")
@click.option("--prices", type=_FILE, show_envvar=True, help="File with a PriceBook; without it, costs stay as booked.")
@click.option(
    "--ledger", type=_FILE, show_envvar=True, help="An export to replay; without it, the ledger of --data-dir."
)
@click.option("--since", show_envvar=True, help="Count requests admitted from this time on (RFC 3339).")
@click.option("--until", show_envvar=True, help="Count requests admitted before this time.")
@click.option(
    "--output",
    "-o",
    type=click.Choice(["table", "json"]),
    default="table",
    show_envvar=True,
    help="A table, or JSON that names the first refused requests as well.",
)
@options.config
@options.data_dir
def what_if_command(
    policies: Path | None,
    prices: Path | None,
    ledger: Path | None,
    since: str | None,
    until: str | None,
    output: str,
    config: Path | None,
    data_dir: Path | None,
) -> None:
    """Replay the past under other policies or prices: who would have been refused, when, and at what cost.

    What was booked is replayed, in the order of admission: a request is refused when the amount that it really used does
    not fit, or when a hard budget has less left than a request costs on average. Holds are larger than that, so near a cap
    more is let in than would have been; and who was refused in the past is in no ledger. Nothing is written.
    """
    if policies is None and prices is None:
        raise click.UsageError("name other policies (--policies), other prices (--prices), or both")
    with told_in_one_line(), contextlib.ExitStack() as stack:
        start, end = time_of("--since", since), time_of("--until", until)
        if start and end and start >= end:
            raise WrongUsage(f"--until {until} is not after --since {since}: nothing lies between them")
        policy = policies_in(policies).policy if policies else PolicySet(0, {}, (), PriceList())
        listed = prices_in(prices) if prices else None
        with _named(ledger):
            history = read_history(stack.enter_context(lines_of(ledger, config, data_dir)))
            answer = what_if(history, policy, listed, since=start, until=end)
    if output == "json":
        click.echo(orjson.dumps(_json(answer), option=orjson.OPT_INDENT_2))
    else:
        for line in table(answer):
            click.echo(line)
    for model, requests in sorted(answer.unpriced.items()):
        click.echo(f"no price is known for {model}: {requests} requests are counted without a cost", err=True)
    for tenant, requests in sorted(answer.strangers.items()):
        click.echo(f"no tenant {tenant} is among the policies: nothing limits its {requests} requests", err=True)


@contextlib.contextmanager
def _named(ledger: Path | None) -> Iterator[None]:
    """Put the name of the export in front of what is wrong with a line of it."""
    try:
        yield
    except ChainBroken as error:
        raise ChainBroken(f"{ledger}: {error}" if ledger else str(error)) from error


@contextlib.contextmanager
def lines_of(
    ledger: Path | None, config: Path | None, data_dir: Path | None, *, by_export: bool = True
) -> Iterator[Iterable[bytes]]:
    """The lines of an export, or of what the ledger would export now. Raises `InvalidValue` where there is none.

    `by_export`: whether the command takes an export instead, so that it can be told.
    """
    if ledger is not None:
        with ledger.open("rb") as file:
            yield file
        return
    booked = (load(config).storage if data_dir is None else StorageSettings(directory=data_dir)).ledger
    check_there(booked, ", or an export with --ledger" if by_export else "")
    reader = open_reader(booked)
    try:
        yield export(reader.chain())
    finally:
        reader.close()


def table(answer: WhatIf) -> Iterator[str]:
    """The answer for a person."""
    header = ("", "REQUESTS", "REFUSED", "FIRST REFUSED", "BOOKED USD", "COST USD", "REFUSED USD")
    rows = [header, _row("all", answer.total)]
    for group, tallies in breakdowns(answer):
        rows += [_row(f"{group} {name}", tally) for name, tally in sorted(tallies.items())]
    yield from columns(rows)


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows as lines: the first column left, the others right."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    for first, *rest in rows:
        cells = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
        yield "   ".join((first.ljust(widths[0]), *cells)).rstrip()


def _row(name: str, tally: Tally) -> tuple[str, ...]:
    first = tally.first_refused.strftime("%Y-%m-%d %H:%M:%S") if tally.first_refused else "-"
    money = (format_money(amount) for amount in (tally.booked, tally.cost, tally.refused_cost))
    return (name, str(tally.requests), str(tally.refused), first, *money)


def _json(answer: WhatIf) -> dict[str, Any]:
    refusals = [asdict(one) | {"at": format_time(one.at), "cost": format_money(one.cost)} for one in answer.refusals]
    groups = {
        f"by_{group}": {name: _tally(tally) for name, tally in sorted(tallies.items())}
        for group, tallies in breakdowns(answer)
    }
    told = {"unpriced": answer.unpriced, "unknown_tenants": answer.strangers}
    return {"total": _tally(answer.total), **groups, "first_refusals": refusals, **told}


def _tally(tally: Tally) -> dict[str, Any]:
    first: datetime | None = tally.first_refused
    return {
        "requests": tally.requests,
        "refused": tally.refused,
        "first_refused": format_time(first) if first else None,
        "unpriced": tally.unpriced,
        "booked_usd": format_money(tally.booked),
        "cost_usd": format_money(tally.cost),
        "refused_usd": format_money(tally.refused_cost),
    }
