"""`tollkeeper captures`: the bodies that are kept, who they are of, what they say, and their deletion (R27)."""

from pathlib import Path

import click

from tollkeeper_cli import options
from tollkeeper_cli.failure import Failed, WrongUsage, told_in_one_line
from tollkeeper_cli.output import reader_may_leave

_output = click.option(
    "--output",
    "-o",
    type=click.Choice(["table", "json"]),
    default="table",
    show_envvar=True,
    help="For people, or JSON as it is.",
)


def _text(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Words as they can be asked for: an argument's bytes that are no UTF-8 are nobody's name."""
    if value is not None and not value.isprintable():
        raise WrongUsage(
            f"{parameter.get_error_hint(context)}: {value!a} has characters that no name has; copy it from `captures list`"
        )
    return value


@click.group("captures")
def captures_group() -> None:
    """List, show and delete the bodies of requests and answers that tenants want kept."""


@captures_group.command("list")
@click.option("--tenant", callback=_text, show_envvar=True, help="Those of one tenant; else of all.")
@click.option(
    "--most", type=click.IntRange(1, 100_000), default=100, show_envvar=True, help="So many, the latest first."
)
@_output
@options.config
@options.data_dir
def list_command(tenant: str | None, most: int, output: str, config: Path | None, data_dir: Path | None) -> None:
    """List what is kept: request, tenant, when, until when, status and size. Needs no key. Works while `tollkeeper up` runs."""
    from tollkeeper_cli import captured  # a store, which its help need not wait for

    with told_in_one_line():
        kept = captured.listed(config, data_dir, tenant, most)
        with reader_may_leave():
            captured.tell_list(kept, output)


@captures_group.command("show")
@click.argument("request", callback=_text, metavar="REQUEST-ID")
@_output
@options.config
@options.data_dir
def show_command(request: str, output: str, config: Path | None, data_dir: Path | None) -> None:
    """Show both bodies of a request, decrypted with the keys that capture.keys of the settings names.

    Exit code 3 where what is stored is not what was kept of this request. Works while `tollkeeper up` runs.
    """
    from tollkeeper_cli import captured

    with told_in_one_line():
        found = captured.read(config, data_dir, request)
        with reader_may_leave():
            captured.tell(found, output)


@captures_group.command("delete")
@click.argument("request", callback=_text, metavar="[REQUEST-ID]", required=False)
@click.option(
    "--tenant", callback=_text, show_envvar=True, help="All that is kept of this tenant, instead of one request."
)
@options.config
@options.data_dir
def delete_command(request: str | None, tenant: str | None, config: Path | None, data_dir: Path | None) -> None:
    """Delete what is kept of a request, or of a tenant, for good, and say how much that was. Needs no key.

    The ledger is not touched: that the request was made, and what it cost, stays. Works while `tollkeeper up` runs, which
    keeps what is captured from then on. Exit code 1 where somebody who reads the file keeps deleted bytes in it for now.
    """
    if (request is None) == (tenant is None):
        raise click.UsageError("name one request, or a tenant with --tenant")
    from tollkeeper_cli import captured

    with told_in_one_line():
        erased = captured.delete(config, data_dir, request, tenant)
        with reader_may_leave("what was to be deleted is: do not repeat the command"):
            click.echo(f"{erased.captures} {'capture' if erased.captures == 1 else 'captures'} deleted")
        if erased.is_held:
            raise Failed(
                "a reader keeps the log of bodies.db from being emptied: the bytes of what was deleted still stand in it, "
                "encrypted. Repeat the command when no other `tollkeeper captures` nor backup works on the file; "
                "`tollkeeper up` tries every five minutes, too"
            )
