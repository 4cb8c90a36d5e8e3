"""`tollkeeper adjust` and `tollkeeper refund`: corrections by hand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from tollkeeper.amounts import Unit
from tollkeeper_cli import options
from tollkeeper_cli.failure import told_in_one_line
from tollkeeper_cli.output import reader_may_leave
from tollkeeper_cli.times import time_of

_reason = click.option("--reason", required=True, show_envvar=True, help="Why; it stands in the ledger for good.")


@click.command("adjust")
@click.argument("target", metavar="NAMESPACE/NAME")
@click.option("--limit", default="", show_envvar=True, help="The limit of a TokenQuota; without it, a TokenBudget.")
@click.option(
    "--key", multiple=True, show_envvar=True, help="Value of each `per:` in its order; a selected tenant first."
)
@click.option(
    "--amount", required=True, show_envvar=True, help="In the account's unit: 5.00 gives back, -5.00 charges."
)
@click.option("--at", show_envvar=True, help="A time (RFC 3339) in the window that is meant; without it, now.")
@click.option(
    "--unit", type=click.Choice([unit.value for unit in Unit]), show_envvar=True, help="Where it had several."
)
@click.option(
    "--unreconciled",
    is_flag=True,
    show_envvar=True,
    help="Give back what vanished gateways had in hand and did not use, instead of what was spent.",
)
@_reason
@click.option("--reference", show_envvar=True, help="A name that an account takes once, such as the ticket's number.")
@options.config
@options.data_dir
def adjust_command(
    target: str,
    limit: str,
    key: tuple[str, ...],
    amount: str,
    at: str | None,
    unit: str | None,
    unreconciled: bool,
    reason: str,
    reference: str | None,
    config: Path | None,
    data_dir: Path | None,
) -> None:
    """Correct what was spent of a budget or quota, with a reason. Works while `tollkeeper up` runs.

    Nothing that is booked is changed: a new transaction puts it right, in this one account: budgets above it are not
    touched (refund corrects all levels). At most what was spent is given back; to put more into a budget, create a
    TokenGrant; to let a quota count to more, raise its amount.
    """
    namespace, _, name = target.partition("/")
    if not (namespace and name) or "/" in name:
        raise click.UsageError(
            f"{target!r}: write the namespace and the name of the budget or quota, as in team/monthly"
        )
    with told_in_one_line():
        where = {
            "namespace": namespace,
            "name": name,
            "limit": limit,
            "key": key,
            "at": time_of("--at", at),
            "unit": unit,
        }
        if unreconciled and reference:
            raise click.UsageError("--reference goes with no --unreconciled: leave one of them out")
        what = {"amount": amount, "reason": reason, "reference": reference, "unreconciled": unreconciled}
        _carry_out(config, data_dir, {"do": "adjust", **where, **what})


@click.command("refund")
@click.argument("request", metavar="REQUEST-ID")
@click.option("--amount", show_envvar=True, help="Part of the request's cost in dollars; without it, all of it.")
@_reason
@options.config
@options.data_dir
def refund_command(request: str, amount: str | None, reason: str, config: Path | None, data_dir: Path | None) -> None:
    """Give a booked request back to every account that it was charged to, once. Works while `tollkeeper up` runs."""
    with told_in_one_line():
        _carry_out(config, data_dir, {"do": "refund", "request": request, "amount": amount, "reason": reason})


def _carry_out(config: Path | None, data_dir: Path | None, asked: Mapping[str, Any]) -> None:
    from tollkeeper_cli.booking import booked  # settings and a ledger, which help need not wait for
    from tollkeeper_cli.ledgers import storage_of

    _tell(booked(storage_of(config, data_dir), asked))


def _tell(answer: Mapping[str, Any]) -> None:
    """What was booked, a line for each account. Raises `Failed` that says so where standard output takes no more."""
    transaction = f"transaction {answer['transaction']}"
    with reader_may_leave(f"{transaction} is booked all the same: do not repeat the command"):
        for line in answer["accounts"]:
            what = "{account}: {amount} {unit}; spent {spent}, balance {balance}".format(**line)
            click.echo(f"{what}; this account is new" if line.get("new") else what)
    click.echo(transaction, err=True)
