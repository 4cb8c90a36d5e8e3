"""What `tollkeeper provider` does: it runs the simulated provider until it is stopped."""

import asyncio
from pathlib import Path

import click

from tollkeeper_cli.failure import Failed, WrongUsage
from tollkeeper_cli.stopping import stop_on_signals
from tollkeeper_provider import PricesError, ProviderError, ProviderSettings, RunningProvider, serve


def simulated(host: str, port: int, key: str, book: Path, prices: Path | None, milliseconds_per_token: int) -> None:
    """Run it. Raises `WrongUsage` for what it is given, `Failed` for what it meets."""
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
