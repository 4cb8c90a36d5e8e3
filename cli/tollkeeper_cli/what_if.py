"""`tollkeeper what-if`: the past replayed under other policies or prices."""

from pathlib import Path

import click

from tollkeeper_cli import options
from tollkeeper_cli.failure import WrongUsage, told_in_one_line
from tollkeeper_cli.times import time_of

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
    from tollkeeper_cli import replayed  # policies, prices and a ledger, which its help need not wait for

    with told_in_one_line():
        start, end = time_of("--since", since), time_of("--until", until)
        if start and end and start >= end:
            raise WrongUsage(f"--until {until} is not after --since {since}: nothing lies between them")
        rules = replayed.rules_in(policies, prices)
        with replayed.past(ledger, config, data_dir) as lines:
            answer = replayed.answered(lines, rules, start, end)
    if output == "json":
        click.echo(replayed.as_json(answer))
    else:
        for line in replayed.table(answer):
            click.echo(line)
    for line in replayed.besides(answer):
        click.echo(line, err=True)
