"""`tollkeeper provider`: the simulated provider, for demonstrations and tests."""

import asyncio
from pathlib import Path

import click

from tollkeeper_cli.failure import Failed, WrongUsage, told_in_one_line
from tollkeeper_cli.stopping import stop_on_signals
from tollkeeper_provider import PricesError, ProviderError, ProviderSettings, RunningProvider, serve


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
    with told_in_one_line():
        try:
            settings = ProviderSettings(key, book, host, port, prices, milliseconds_per_token)
        except ProviderError as error:
            raise WrongUsage(str(error)) from error
        try:
            asyncio.run(_serve(settings))
        except PricesError as error:
            raise WrongUsage(str(error)) from error
        except ProviderError as error:
            raise Failed(str(error)) from error


async def _serve(settings: ProviderSettings) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    await serve(settings, stop, _announce)


def _announce(running: RunningProvider) -> None:
    click.echo(f"simulated provider listens on {running.url}", err=True)
