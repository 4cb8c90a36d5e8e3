"""Server-sent events: every change is told, many changes at once are told once, and nothing is kept for the dead."""

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.console.bookings import BUDGET, QUOTA, Bookings
from tollkeeper_console import Console, ConsoleSettings
from tollkeeper_console.events import MOST_LISTENERS

MONTHLY = "TokenBudget/research/monthly/"


async def events(answer: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, dict[str, list[str]]]]:
    name = ""
    async for raw in answer.content:
        key, _, value = raw.decode().strip().partition(": ")
        if key == "event":
            name = value
        elif key == "data":
            yield name, json.loads(value)


async def test_a_booking_is_told_by_the_name_of_its_limit(books: Bookings, url: str) -> None:
    async with asyncio.timeout(10), aiohttp.ClientSession() as session, session.get(f"{url}/events") as answer:
        told = events(answer)
        assert await anext(told) == ("hello", {})
        books.use(BUDGET, 5)
        assert await anext(told) == ("changed", {"limits": [MONTHLY]})


async def test_many_bookings_come_together_and_not_often(books: Bookings) -> None:
    console = Console(ConsoleSettings(port=0, refresh_seconds=0.5), books.reader, books.policy, books.subscribe)
    url = (await console.start()).url
    async with asyncio.timeout(10), aiohttp.ClientSession() as session, session.get(f"{url}/events") as answer:
        told = events(answer)
        await anext(told)
        books.use(BUDGET, 1)
        await anext(told)
        began = asyncio.get_running_loop().time()
        for _ in range(20):
            books.use(BUDGET, 1)
            books.use(QUOTA, 1)
        assert await anext(told) == ("changed", {"limits": [MONTHLY, "TokenQuota/research/assistants/per-user-daily"]})
        assert asyncio.get_running_loop().time() - began > 0.3
    await console.stop()


async def test_a_new_policy_concerns_every_page(books: Bookings, url: str) -> None:
    async with asyncio.timeout(10), aiohttp.ClientSession() as session, session.get(f"{url}/events") as answer:
        told = events(answer)
        await anext(told)
        books.policy.publish(books.policy.value)
        assert await anext(told) == ("changed", {"limits": ["*"]})


async def test_one_page_too_many_is_told_so_and_a_closed_one_makes_room(books: Bookings, url: str) -> None:
    async with asyncio.timeout(30), aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        pages = [await session.get(f"{url}/events") for _ in range(MOST_LISTENERS)]
        async with session.get(f"{url}/events") as refused:
            assert refused.status == 503
            assert "pages are live already" in (await refused.json(content_type=None))["detail"]
        pages[0].close()
        while True:
            books.use(BUDGET, 1)  # writing to the closed page is how the console learns of it
            async with session.get(f"{url}/events") as again:
                if again.status == 200:
                    break
            await asyncio.sleep(0.02)
        for page in pages:
            page.close()


async def test_a_stopping_console_ends_its_live_pages_at_once(books: Bookings) -> None:
    console = Console(ConsoleSettings(port=0), books.reader, books.policy, books.subscribe)
    url = (await console.start()).url
    async with asyncio.timeout(5), aiohttp.ClientSession() as session, session.get(f"{url}/events") as answer:
        told = events(answer)
        await anext(told)
        await console.stop()
        with pytest.raises(StopAsyncIteration):
            await anext(told)
    assert books._told == []
    assert books.policy.changed == set()
