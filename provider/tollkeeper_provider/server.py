"""Starting and stopping the simulated provider, for the program and for tests."""

import asyncio
import errno
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from aiohttp import web

from tollkeeper_provider.app import Provider
from tollkeeper_provider.book import Book
from tollkeeper_provider.errors import ProviderError
from tollkeeper_provider.prices import PriceTable, read_prices

DEFAULT_MODELS: Final = ("gpt-5", "gpt-5-mini", "gpt-5-nano")
DEFAULT_PORT: Final = 4050
_SHUTDOWN_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """How the simulated provider runs.

    `key` is what callers must bring as `Authorization: Bearer`; `port` 0 takes a free one; `prices` is a price file
    that goes before the public list; `milliseconds_per_token` is the pace of generation; `models` is what `/v1/models`
    lists (any model is served).
    """

    key: str = field(repr=False)
    book: Path
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    prices: Path | None = None
    milliseconds_per_token: int = 0
    models: tuple[str, ...] = DEFAULT_MODELS

    def __post_init__(self) -> None:
        if not self.key:
            raise ProviderError("provider: the key is empty; give one with --key")
        if self.milliseconds_per_token < 0:
            raise ProviderError(f"provider: {self.milliseconds_per_token} ms a token is not a pace; give 0 or more")


@dataclass(frozen=True, slots=True)
class RunningProvider:
    """A simulated provider that listens. `url` is its origin, without a path; `await stop()` when done."""

    url: str
    host: str
    port: int
    book_path: Path
    _stop: Callable[[], Awaitable[None]] = field(repr=False)

    @property
    def openai_base_url(self) -> str:
        """What an OpenAI client takes as its `base_url`."""
        return f"{self.url}/v1"

    async def stop(self) -> None:
        """Stop listening, end what is being answered within a few seconds (booked as far as it got), close the book."""
        await self._stop()


async def start_provider(
    host: str,
    port: int,
    key: str,
    book_path: Path,
    *,
    prices: Path | None = None,
    milliseconds_per_token: int = 0,
    models: tuple[str, ...] = DEFAULT_MODELS,
) -> RunningProvider:
    """Start a simulated provider. Raises `ProviderError` (a taken port), `BookError` or `PricesError`."""
    return await _start(ProviderSettings(key, book_path, host, port, prices, milliseconds_per_token, models))


async def serve(
    settings: ProviderSettings, stop: asyncio.Event, ready: Callable[[RunningProvider], None] | None = None
) -> None:
    """Run until `stop` is set; `ready` is told the address once it listens. Raises like `start_provider`."""
    running = await _start(settings)
    try:
        if ready is not None:
            ready(running)
        await stop.wait()
    finally:
        await running.stop()


async def _start(settings: ProviderSettings) -> RunningProvider:
    prices = PriceTable() if settings.prices is None else read_prices(settings.prices)
    book = Book(settings.book)
    provider = Provider(
        key=settings.key,
        book=book,
        prices=prices,
        seconds_per_token=settings.milliseconds_per_token / 1000,
        models=settings.models,
        now=lambda: datetime.now(UTC),
    )
    runner = web.AppRunner(provider.application(), access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()

    async def stop() -> None:
        await runner.cleanup()
        await book.close()

    try:
        await web.TCPSite(runner, settings.host, settings.port).start()
    except OSError as error:
        await stop()
        raise ProviderError(
            f"provider: cannot listen on {settings.host}:{settings.port}: {_reason(error)}; "
            "choose another port with --port, or 0 for a free one"
        ) from error
    port: int = runner.addresses[0][1]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return RunningProvider(f"http://{host}:{port}", settings.host, port, settings.book, stop)


def _reason(error: OSError) -> str:
    """The system's own words, without the address that asyncio wraps around them."""
    return "the port is taken" if error.errno == errno.EADDRINUSE else (error.strerror or str(error))
