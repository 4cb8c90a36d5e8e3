"""Filters of usages as addresses carry them: what the API finds, what it refuses, and how a clock's reading is taken."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.console.bookings import BUDGET, DOLLAR, Bookings
from tests.console.test_api import ONE, ask, text_of
from tollkeeper.usage import Caller, Outcome
from tollkeeper.views import UsageFilter
from tollkeeper_console.filters import BadFilter, filter_of

MADRID = "Europe/Madrid"
PAGE = "/budgets/research/monthly"


async def found(url: str, **query: str) -> Any:
    return await ask(url, f"{ONE}/usages?{urlencode(query)}")


@pytest.mark.parametrize(
    "query",
    [
        {"model": "gpt-5"},
        {"tool": "search"},
        {"assistant": "writer"},
        {"api_key": "key-1"},
        {"user": "bob & söhne"},
        {"feature": "chat"},
        {"status": "429"},
        {"status": "4xx"},
        {"outcome": "provider_error"},
        {"from": "2026-11-21T14:04:30Z", "to": "2026-11-21T16:00:00+01:00"},
        {"user": "bob & söhne", "model": "gpt-5", "status": "4xx", "from": "2026-11-21T14:04:30Z"},
    ],
    ids=lambda query: " ".join(query),
)
async def test_each_filter_finds_the_one_usage_that_has_it(books: Bookings, url: str, query: Mapping[str, str]) -> None:
    books.use(BUDGET, DOLLAR, DOLLAR, ago=timedelta(hours=9))
    books.use(
        BUDGET,
        7,
        ago=timedelta(hours=1),
        caller=Caller("research", user="bob & söhne", assistant="writer", feature="chat", api_key="key-1"),
        model="gpt-5",
        tool="search",
        status=429,
        outcome=Outcome.PROVIDER_ERROR,
    )
    answer = await found(url, **query)
    assert [item["amount"] for item in answer["items"]] == ["0.000000007"]
    assert answer["total"] == 1


async def test_pages_and_orders_are_of_what_the_filter_lets_through(books: Bookings, url: str) -> None:
    for number in range(1, 31):
        books.use(BUDGET, number, user=("alice", "bob")[number % 2])
    bob = [await found(url, user="bob", page=str(page), size="10", order="oldest") for page in (1, 2, 3)]
    assert [answer["total"] for answer in bob] == [15, 15, 15]
    amounts = [float(item["amount"]) for answer in bob for item in answer["items"]]
    assert amounts == [number / 10**9 for number in range(1, 31, 2)]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("from=yesterday", "from='yesterday' is not a time: write it as 2026-11-21T14:00:00Z"),
        ("from=2026-11-21T14:00", "is not a time: write it as 2026-11-21T14:00:00Z"),
        ("to=2026-02-30T14:00:00Z", "to='2026-02-30T14:00:00Z' is not a time"),
        ("from=0001-01-01T00:00:00%2B10:00", "is not a time"),
        ("to=9999-12-31T23:59:59-10:00", "is not a time"),
        ("from=2026-11-21T14:00:00Z&to=2026-11-21T15:00:00%2B01:00", "nothing lies between them"),
        ("status=teapot", "status='teapot' is not an HTTP status: write one such as 429, or a class such as 4xx"),
        ("status=600", "is not an HTTP status"),
        ("status=4x", "is not an HTTP status"),
        ("outcome=refused", "outcome='refused' is not an outcome: write one of ok, provider_error, client_gone"),
        ("user=", "user is empty: name a value, or leave user out to see all"),
        ("status=", "status='' is not an HTTP status"),
        ("model=" + "x" * 513, "model is not a name: write at most 512 printable characters"),
        ("user=a%00b", "user is not a name"),
        ("modle=gpt-5", "'modle' is not a parameter here: use account, page, size, order, model, tool"),
        ("user=alice&user=bob", "'user' is given 2 times: give it once"),
    ],
)
async def test_a_filter_that_cannot_be_is_refused_by_its_name(books: Bookings, url: str, query: str, says: str) -> None:
    books.use(BUDGET, DOLLAR)
    problem = await ask(url, f"{ONE}/usages?{query}", 400)
    assert says in problem["detail"]


async def test_a_page_with_a_filter_that_cannot_be_shows_no_usages_and_says_why(books: Bookings, url: str) -> None:
    books.use(BUDGET, DOLLAR, user="alice")
    status, text = await text_of(url, f"{PAGE}?status=teapot")
    assert status == 400
    assert "is not an HTTP status" in text
    assert 'id="usage-1' not in text
    assert '<option value="teapot" selected>' in text


async def test_empty_fields_of_a_form_leave_the_address(url: str) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{url}{PAGE}?user=&status=4xx&from=&usages_order=oldest", allow_redirects=False) as answer,
    ):
        assert (answer.status, answer.headers["Location"]) == (303, f"{PAGE}?status=4xx&usages_order=oldest")


async def test_what_others_wrote_is_offered_and_found_as_text(books: Bookings, url: str) -> None:
    hostile = '"><script>alert(1)</script>'
    books.use(BUDGET, 5, caller=Caller("research", user=hostile, feature="' OR 1=1 --"))
    _, text = await text_of(url, f"{PAGE}?{urlencode({'user': hostile})}")
    assert "1 of 1 usages match" in text
    assert "<script>alert" not in text
    assert (await found(url, feature="' OR 1=1 --"))["total"] == 1
    assert (await found(url, user="' OR 1=1 --"))["total"] == 0


async def test_a_narrow_choice_is_offered_with_what_the_account_has(books: Bookings, url: str) -> None:
    for status in (200, 400, 429, 500):
        books.use(BUDGET, 1, status=status)
    _, text = await text_of(url, PAGE)
    for value in ("200", "4xx", "400", "429", "500"):
        assert f'<option value="{value}">' in text
    assert '<option value="5xx">' not in text
    assert 'name="tool"' not in text


@pytest.mark.parametrize(
    ("reading", "start", "end"),
    [
        ("2026-11-21T14:00", "2026-11-21T13:00:00", "2026-11-21T13:00:00"),
        ("2026-07-01T14:00:30", "2026-07-01T12:00:30", "2026-07-01T12:00:30"),
        # Clocks go back at 3:00 on 25 October, and forward at 2:00 on 29 March.
        ("2026-10-25T02:30", "2026-10-25T00:30:00", "2026-10-25T01:30:00"),
        ("2026-03-29T02:30", "2026-03-29T00:30:00", "2026-03-29T01:30:00"),
    ],
    ids=["winter", "summer", "twice", "never"],
)
def test_a_clocks_reading_that_comes_twice_or_never_makes_the_wider_range(reading: str, start: str, end: str) -> None:
    since, until = filter_of({"from": reading}, MADRID).since, filter_of({"to": reading}, MADRID).until
    assert since == datetime.fromisoformat(start).replace(tzinfo=UTC)
    assert until == datetime.fromisoformat(end).replace(tzinfo=UTC)


@given(st.dictionaries(st.sampled_from(["user", "status", "outcome", "from", "to", "model"]), st.text(max_size=30)))
def test_whatever_an_address_says_is_a_filter_or_refused_by_name(query: dict[str, str]) -> None:
    for zone in (None, MADRID):
        try:
            name = None
            filter_of(query, zone)
        except BadFilter as bad:
            name = bad.name
        assert name is None or name in query


@given(st.datetimes(datetime(1970, 1, 3), datetime(9998, 12, 29)))  # noqa: DTZ001 - a clock's readings
def test_a_range_from_and_to_one_reading_is_empty_or_of_a_clock_that_was_changed(reading: datetime) -> None:
    text = reading.replace(microsecond=0).isoformat()
    since, until = filter_of({"from": text}, MADRID).since, filter_of({"to": text}, MADRID).until
    assert since is not None
    assert until is not None
    assert until - since in (timedelta(0), timedelta(hours=1))
    assert abs(since.replace(tzinfo=None) - reading) <= timedelta(hours=3)


def test_a_filter_of_nothing_leaves_all_open() -> None:
    assert filter_of({"account": "x", "page": "3"}) == UsageFilter()
