"""The filter of usages as people use it: with the mouse and the keyboard, live, in the dark, narrow, and without scripts."""

import re
from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import parse_qsl, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect

from tests.console.bookings import BUDGET, DOLLAR, UNUSED, Bookings
from tests.console.conftest import ThreadedConsole
from tests.console.test_pages_in_a_browser import BUDGET_PAGE, Tab
from tollkeeper.usage import Caller, Outcome

pytestmark = pytest.mark.browser


def fill(books: Bookings) -> None:
    """60 usages of alice over 60 hours, 30 of bob with another model, five of which failed, and one of a tool."""
    alice = Caller("research", user="alice", assistant="summariser", feature="chat", api_key="key-alice")
    bob = Caller("research", user="bob", feature="search", api_key="key-bob")
    for hours in range(60, 0, -1):
        books.use(BUDGET, DOLLAR // 50, ago=timedelta(hours=hours), caller=alice)
    books.use(BUDGET, *[DOLLAR // 50] * 25, ago=timedelta(minutes=30), caller=bob, model="gpt-5")
    for status in (400, 429, 429, 500, 500):
        books.use(
            BUDGET,
            1,
            ago=timedelta(minutes=9),
            caller=bob,
            model="gpt-5",
            status=status,
            outcome=Outcome.PROVIDER_ERROR,
        )
    books.use(BUDGET, 5, ago=timedelta(minutes=5), caller=alice, tool="image-generate")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadedConsole]:
    books = Bookings(tmp_path_factory.mktemp("console") / "ledger.db", BUDGET, UNUSED)
    fill(books)
    running = ThreadedConsole(books)
    yield running
    running.stop()
    books.close()


@pytest.fixture
def tab(searched: ThreadedConsole, chromium: Browser) -> Iterator[Tab]:
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    opened = Tab(context.new_page(), searched)
    yield opened
    context.close()
    assert opened.complaints == []


def state(page: Page) -> dict[str, str]:
    """What stands in the page's address."""
    return dict(parse_qsl(urlsplit(page.url).query))


def count(page: Page) -> str:
    return page.locator("#usages-count").inner_text()


def open_filter(page: Page) -> None:
    page.locator("#usages-filter summary").click()
    expect(page.locator("#filter-form")).to_be_visible()


FILTERED = {
    "some match": f"{BUDGET_PAGE}?user=bob&status=4xx&from=2026-11-21T00:00",
    "none match": f"{BUDGET_PAGE}?user=nobody&to=2026-11-21T00:00:30.5Z",
}


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", FILTERED.values(), ids=FILTERED.keys())
def test_axe_finds_nothing_and_nothing_scrolls_sideways(tab: Tab, path: str, scheme: str, width: int) -> None:
    tab.page.set_viewport_size({"width": width, "height": 800})
    tab.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page = tab.open(path)
    open_filter(page)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_filter_that_cannot_be_says_so_at_its_field(
    searched: ThreadedConsole, chromium: Browser, scheme: str, width: int
) -> None:
    page = chromium.new_page(
        viewport={"width": width, "height": 800}, color_scheme="dark" if scheme == "dark" else "light"
    )
    answer = page.goto(f"{searched.url}{BUDGET_PAGE}?user=bob&from=2026-11-21T10:00&to=2026-11-20T10:00")
    assert answer is not None
    assert answer.status == 400
    field = page.get_by_label("Before")
    expect(field).to_be_visible()
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description(re.compile("is not after from"))
    expect(field).to_have_value("2026-11-20T10:00")
    expect(page.get_by_role("alert").filter(has_text="This filter cannot be")).to_be_visible()
    expect(page.locator("[id^=usage-]")).to_have_count(0)
    assert Axe().run(page).violations_count == 0
    page.close()


def test_a_filter_stands_in_the_address_and_the_back_button_returns(tab: Tab) -> None:
    page = tab.open(f"{BUDGET_PAGE}?usages=3&usages_order=oldest&range=day")
    page.evaluate("window.stillTheSamePage = true")
    open_filter(page)
    page.get_by_label("User").select_option("alice")
    page.get_by_role("button", name="Show usages").click()
    expect(page.locator("#usages-count")).to_have_text("61 of 91 usages match")
    # Empty fields are left out; order and chart stay, the page begins anew.
    assert state(page) == {"user": "alice", "usages_order": "oldest", "range": "day"}
    assert page.evaluate("window.stillTheSamePage") is True
    page.get_by_role("link", name="Next page of usages").click()
    page.wait_for_url("**usages=2**")
    page.get_by_label("Model").select_option("gpt-5")
    page.get_by_role("button", name="Show usages").click()
    expect(page.get_by_text("No usages match.")).to_be_visible()
    page.go_back()
    expect(page.get_by_text("Page 2 of 4")).to_be_visible()
    assert state(page) == {"user": "alice", "usages_order": "oldest", "usages": "2", "range": "day"}
    page.reload()
    expect(page.locator("#usages-count")).to_have_text("61 of 91 usages match")
    expect(page.get_by_role("link", name="Remove User: alice")).to_be_visible()


def test_a_filter_is_taken_away_one_by_one_or_whole(tab: Tab) -> None:
    page = tab.open(f"{BUDGET_PAGE}?user=bob&status=5xx&model=gpt-5&usages_order=oldest")
    expect(page.locator("#usages-count")).to_have_text("2 of 91 usages match")
    page.get_by_role("link", name="Remove Status: 5xx").press("Enter")
    expect(page.locator("#usages-count")).to_have_text("30 of 91 usages match")
    # What was pressed is gone; the keyboard goes on beside it, and a screen reader hears what came of it.
    expect(page.locator("#usages-filter summary")).to_be_focused()
    expect(page.locator("#live-status")).to_have_text("30 of 91 usages match")
    open_filter(page)
    expect(page.get_by_label("Status")).to_have_value("")
    page.get_by_label("Feature").select_option("search")
    page.get_by_role("link", name="Clear all filters").click()
    expect(page.locator("#usages-count")).to_have_text("Each settled request, with the balance after it")
    assert state(page) == {"usages_order": "oldest"}
    for label in ("User", "Model", "Feature"):
        expect(page.get_by_label(label)).to_have_value("")


def test_a_time_range_is_on_the_limits_clock(tab: Tab) -> None:
    page = tab.open(BUDGET_PAGE)
    open_filter(page)
    # Bob's usages were at 15:34:30 in Madrid, his failures 21 minutes later.
    page.get_by_label("From").fill("2026-11-21T15:34")
    page.get_by_label("Before").fill("2026-11-21T15:35")
    page.keyboard.press("Enter")
    expect(page.locator("#usages-count")).to_have_text("25 of 91 usages match")
    assert state(page) == {"from": "2026-11-21T15:34", "to": "2026-11-21T15:35"}


def test_an_exact_time_stays_exact_in_the_form(tab: Tab) -> None:
    page = tab.open(f"{BUDGET_PAGE}?from=2026-11-21T14:34:30Z&to=2026-11-21T14:34:31Z")
    expect(page.locator("#usages-count")).to_have_text("25 of 91 usages match")
    open_filter(page)
    expect(page.get_by_label("From")).to_have_value("2026-11-21T15:34:30")
    page.get_by_label("User").select_option("bob")
    page.get_by_role("button", name="Show usages").click()
    expect(page.get_by_role("link", name="Remove User: bob")).to_be_visible()
    expect(page.locator("#usages-count")).to_have_text("25 of 91 usages match")


def test_news_keep_the_filter_and_what_is_being_written_in_it(searched: ThreadedConsole, tab: Tab) -> None:
    page = tab.open(f"{BUDGET_PAGE}?tool=image-generate")
    open_filter(page)
    page.get_by_label("User").select_option("bob")
    page.get_by_label("From").fill("2026-11-21T15:00")
    balance = page.locator("#balance").inner_text()
    searched.books.use(BUDGET, DOLLAR // 3, ago=timedelta(days=19))
    expect(page.locator("#balance")).not_to_have_text(balance)
    assert count(page).startswith("1 of ")
    expect(page.locator("[id^=usage-]")).to_have_count(1)
    expect(page.get_by_label("User")).to_have_value("bob")
    expect(page.get_by_label("From")).to_have_value("2026-11-21T15:00")
    page.get_by_role("link", name="Clear all filters").click()
    expect(page.get_by_label("User")).to_have_value("")
    expect(page.get_by_label("From")).to_have_value("")


def test_news_that_come_while_a_filter_is_asked_for_do_not_take_its_place(
    searched: ThreadedConsole, chromium: Browser
) -> None:
    page = chromium.new_page()
    page.goto(searched.url + BUDGET_PAGE)
    expect(page.locator("#live")).to_have_attribute("data-state", "live")
    open_filter(page)
    held: list[Route] = []
    page.route("**tool=image-generate**", lambda route: held.append(route), times=1)
    page.get_by_label("Tool").select_option("image-generate")
    page.get_by_role("button", name="Show usages").click()
    balance = page.locator("#balance").inner_text()
    with page.expect_event("console", lambda said: said.text == "heard"):
        page.evaluate("""async () => {
            const source = new EventSource("/events");
            source.addEventListener("changed", () => console.log("heard"));
            await new Promise((done) => source.addEventListener("hello", done));
        }""")
        searched.books.use(BUDGET, DOLLAR // 3, ago=timedelta(days=19))
    assert page.locator("#balance").inner_text() == balance
    held[0].continue_()
    expect(page.locator("[id^=usage-]")).to_have_count(1)
    # The news are made up for, under the filter.
    expect(page.locator("#balance")).not_to_have_text(balance)
    expect(page.locator("[id^=usage-]")).to_have_count(1)
    page.close()


def test_a_filter_works_without_scripts(searched: ThreadedConsole, chromium: Browser) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{searched.url}{BUDGET_PAGE}?usages_order=oldest&usages=2")
    open_filter(page)
    page.get_by_label("Outcome").select_option("provider_error")
    page.get_by_label("Status").select_option("any 4xx")
    page.get_by_role("button", name="Show usages").click()
    expect(page.locator("[id^=usage-]")).to_have_count(3)
    assert state(page) == {"outcome": "provider_error", "status": "4xx", "usages_order": "oldest"}
    page.get_by_role("link", name="Clear all filters").first.click()
    assert state(page) == {"usages_order": "oldest"}
    context.close()


def test_none_yet_is_not_no_match(tab: Tab) -> None:
    page = tab.open("/budgets/research/spare")
    expect(page.get_by_text("No usage has been booked yet.")).to_be_visible()
    expect(page.locator("#usages-filter")).to_have_count(0)
    page = tab.open("/budgets/research/spare?user=alice")
    expect(page.get_by_text("No usage has been booked yet.")).to_be_visible()
    page = tab.open(f"{BUDGET_PAGE}?user=carol")
    expect(page.get_by_text("No usages match.")).to_be_visible()
    expect(page.get_by_role("link", name="Clear all filters")).to_have_count(2)


def test_where_there_are_too_many_values_any_can_be_written(
    books: Bookings, console: ThreadedConsole, chromium: Browser
) -> None:
    for number in range(101):
        books.use(BUDGET, 1, caller=Caller("research", user=f"user-{number:03}"))
    page = chromium.new_page()
    page.goto(console.url + BUDGET_PAGE)
    open_filter(page)
    assert page.locator("datalist option").count() == 100
    page.get_by_label("User").fill("user-100")
    page.keyboard.press("Enter")
    expect(page.locator("#usages-count")).to_have_text("1 of 101 usages match")
    page.close()


def test_the_detail_of_a_usage_leads_back_to_the_filtered_list(tab: Tab) -> None:
    page = tab.open(f"{BUDGET_PAGE}?tool=image-generate")
    page.get_by_role("link", name="Detail of image-generate").click()
    page.get_by_role("navigation", name="Breadcrumb").get_by_role("link", name="monthly").click()
    expect(page.locator("#usages-count")).to_have_text(re.compile("^1 of "))
