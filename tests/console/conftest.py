"""A console over a real ledger, on a loop and thread of its own, and a real Chromium to look at it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.console import bookings
from tests.console.bookings import BUDGET, DOLLAR, LOW, NOW, QUOTA, SPENT, UNUSED, Bookings
from tests.console.browser import CHROMIUM_ARGUMENTS, INSTALL_LINE, chromium_path
from tollkeeper.usage import Outcome
from tollkeeper_console import Console, ConsoleSettings


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Bookings]:
    """An empty ledger with all limits of `bookings` in force."""
    opened = Bookings(tmp_path / "ledger.db", BUDGET, LOW, SPENT, QUOTA, UNUSED)
    yield opened
    opened.close()


@pytest.fixture
async def url(books: Bookings) -> AsyncIterator[str]:
    """The address of a console over `books`."""
    settings = ConsoleSettings(port=0, refresh_seconds=0.05)
    console = Console(settings, books.reader, books.policy, books.subscribe, books.clock)
    yield (await console.start()).url
    await console.stop()


class ThreadedConsole:
    """A console on an event loop in a thread, for tests whose own thread drives a browser."""

    def __init__(self, books: Bookings, port: int = 0) -> None:
        self.books = books
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="console-under-test")
        self._thread.start()
        settings = ConsoleSettings(port=port, refresh_seconds=0.2)
        self._console = Console(settings, books.reader, books.policy, books.subscribe, books.clock)
        self.url = asyncio.run_coroutine_threadsafe(self._console.start(), self._loop).result(10).url

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._console.stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture
def console(books: Bookings) -> Iterator[ThreadedConsole]:
    """A console over `books` for a browser; it ends with the test, however that ends."""
    running = ThreadedConsole(books)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadedConsole]:
    """A console over three weeks of work: one budget in good order, one low, one spent, a quota per user, one unused."""
    books = Bookings(tmp_path_factory.mktemp("console") / "ledger.db", BUDGET, LOW, SPENT, QUOTA, UNUSED)
    start = bookings.MONTHLY.window_at(NOW).start
    daily = [int(DOLLAR * (3.1 + 1.3 * ((day * 7) % 5) - (2.4 if day % 7 in (0, 6) else 0))) for day in range(21)]
    bookings.month_of_work(books, BUDGET, daily, start)
    bookings.month_of_work(books, LOW, [DOLLAR * 16 // 10] * 21, start)
    books.use(SPENT, DOLLAR * 3 - 40_000_000)
    books.pay(BUDGET, 25 * DOLLAR)
    books.pay(BUDGET, 50 * DOLLAR, None, "Credit")
    for number, user in enumerate(("alice", "bob", "carol")):
        books.use(QUOTA, *[400_000 * (number + 1)] * 2, user=user)
    books.use(BUDGET, 12_120_789, outcome=Outcome.CLIENT_GONE, status=499, unit_prices=bookings.UNIT_PRICES)
    running = ThreadedConsole(books)
    yield running
    running.stop()
    books.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The distribution's Chromium, driven by Playwright; skipped with the line to type where there is none."""
    path = chromium_path()
    if path is None:
        pytest.skip(f"Chromium is not installed: {INSTALL_LINE}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_ARGUMENTS))
        yield browser
        browser.close()
