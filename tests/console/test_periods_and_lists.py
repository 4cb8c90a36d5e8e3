"""Periods that are over, and lists of limits that are longer than a page."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.console.bookings import BUDGET, DOLLAR, QUOTA, Bookings
from tests.console.test_api import ONE, QUOTA_PATH, ask, text_of
from tollkeeper.limits import LimitRef
from tollkeeper_console import Console, ConsoleSettings


async def test_the_periods_of_a_key_are_listed_the_newest_first_without_those_of_other_keys(
    books: Bookings, url: str
) -> None:
    alice = [books.use(QUOTA, 10, user="alice", ago=timedelta(days=days)) for days in (0, 2, 1)]
    books.use(QUOTA, 5, user="bob", ago=timedelta(days=3))
    listed = (await ask(url, f"{QUOTA_PATH}/periods?account={quote(alice[0])}"))["items"]
    assert [one["account"] for one in listed] == [alice[0], alice[2], alice[1]]
    assert (listed[1]["start"], listed[1]["end"]) == ("2026-11-19T23:00:00Z", "2026-11-20T23:00:00Z")


async def test_a_period_that_is_over_offers_the_keys_that_it_had(books: Bookings, url: str) -> None:
    past = books.use(QUOTA, 10, user="alice", ago=timedelta(days=1))
    books.use(QUOTA, 10, user="dora", ago=timedelta(days=1))
    books.use(QUOTA, 10, user="bob")
    books.use(QUOTA, 10, user="carol")
    _, text = await text_of(url, f"/quotas/research/assistants/per-user-daily?account={quote(past)}")
    assert "this period is over" in text
    offered = text.partition('id="account"')[2].partition("</select>")[0]
    assert [name in offered for name in ("alice", "dora", "bob", "carol")] == [True, True, False, False]


async def test_without_periods_to_choose_from_none_is_offered(books: Bookings, url: str) -> None:
    books.use(BUDGET, DOLLAR)
    _, text = await text_of(url, "/budgets/research/monthly")
    assert 'id="period"' not in text
    assert len((await ask(url, f"{ONE}/periods"))["items"]) == 1


@pytest.fixture
async def long_list(tmp_path: Path) -> AsyncIterator[str]:
    limits = [replace(BUDGET, ref=LimitRef("TokenBudget", "research", f"budget-{number:02}")) for number in range(45)]
    books = Bookings(tmp_path / "ledger.db", *limits)
    books.use(limits[44], 250 * DOLLAR)
    console = Console(ConsoleSettings(port=0), books.reader, books.policy, books.subscribe, books.clock)
    yield (await console.start()).url
    await console.stop()
    books.close()


async def test_the_overview_has_pages_and_its_worst_limits_stand_first(long_list: str) -> None:
    seen = []
    for page, rows in ((1, 20), (2, 20), (3, 5)):
        _, text = await text_of(long_list, f"/?page={page}")
        names = [part.partition('"')[0] for part in text.split('<a class="row-link" href="/budgets/research/')[1:]]
        assert len(names) == rows
        assert f"of {45}" in text
        seen += names
    assert seen[0] == "budget-44"
    assert len(set(seen)) == 45
    status, text = await text_of(long_list, "/?page=4")
    assert status == 200
    assert "There is no page 4." in text
    assert (await text_of(long_list, "/?page=0"))[0] == 400
