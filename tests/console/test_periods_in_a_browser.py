"""Periods that are over, chosen on the page."""

from datetime import timedelta

import pytest
from playwright.sync_api import Browser, expect

from tests.console.bookings import BUDGET, DOLLAR, Bookings
from tests.console.conftest import ThreadedConsole

pytestmark = pytest.mark.browser

OCTOBER = "1 Oct 2026, 00:00 \N{EN DASH} 1 Nov 2026, 00:00"
NOVEMBER = "1 Nov 2026, 00:00 \N{EN DASH} 1 Dec 2026, 00:00 (now)"


def test_a_past_period_is_chosen_and_left_again_though_nothing_is_booked_in_this_one(
    books: Bookings, console: ThreadedConsole, chromium: Browser
) -> None:
    books.use(BUDGET, DOLLAR, ago=timedelta(days=40))
    books.use(BUDGET, DOLLAR, 2 * DOLLAR, ago=timedelta(days=31), user="bob")
    page = chromium.new_page()
    page.goto(console.url + "/budgets/research/monthly?user=bob")
    period = page.get_by_label("Period")
    expect(period.locator("option:checked")).to_have_text(NOVEMBER)
    period.select_option(OCTOBER)
    page.get_by_role("button", name="Show period").click()
    expect(page.get_by_text("time · this period is over")).to_be_visible()
    expect(page.locator("#balance")).to_have_text("$246.00")
    expect(page.locator("#usages-count")).to_have_text("2 of 3 usages match")
    period.select_option(NOVEMBER)
    page.get_by_role("button", name="Show period").click()
    expect(page.locator("#balance")).to_have_text("$250.00")
    assert page.url.endswith("/budgets/research/monthly?user=bob")
    page.close()


def test_back_from_a_past_period_the_choice_is_that_of_the_page_and_not_what_was_chosen_last(
    books: Bookings, console: ThreadedConsole, chromium: Browser
) -> None:
    books.use(BUDGET, DOLLAR, ago=timedelta(days=31))
    page = chromium.new_page()
    page.goto(console.url + "/budgets/research/monthly")
    period = page.get_by_label("Period")
    period.select_option(OCTOBER)
    page.get_by_role("button", name="Show period").click()
    expect(page.get_by_text("time · this period is over")).to_be_visible()
    page.go_back()
    expect(page.get_by_text("time · resets in")).to_be_visible()
    expect(period.locator("option:checked")).to_have_text(NOVEMBER)
    page.close()
