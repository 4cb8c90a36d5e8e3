"""`tollkeeper provider`: the simulated provider, for demonstrations and tests."""

from pathlib import Path

import click

from tollkeeper_cli.failure import told_in_one_line


@click.command("provider")
@click.option("--host", default="127.0.0.1", show_envvar=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=4050,
    show_envvar=True,
    help="Port to listen on; 0 takes a free one.",
)
@click.option("--key", required=True, show_envvar=True, help="The key that callers must bring.")
@click.option(
    "--book",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    show_envvar=True,
    help="File for its own book.",
)
@click.option(
    "--prices",
    type=click.Path(path_type=Path, dir_okay=False),
    show_envvar=True,
    help="Price file over the public list.",
)
@click.option(
    "--milliseconds-per-token", type=click.IntRange(0), default=0, show_envvar=True, help="Pace of generation."
)
def provider_command(
    host: str, port: int, key: str, book: Path, prices: Path | None, milliseconds_per_token: int
) -> None:
    """Run a SIMULATED provider (OpenAI chat completions): no model, its own fsynced book of what it served."""
    from tollkeeper_cli.simulated import simulated  # a web server, which its help need not wait for

    with told_in_one_line():
        simulated(host, port, key, book, prices, milliseconds_per_token)
