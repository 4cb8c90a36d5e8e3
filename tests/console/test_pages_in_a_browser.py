"""The pages as people use them: in Chromium, by mouse and keyboard, in the dark, on a narrow screen, with a screen reader."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.console.bookings import BUDGET, DOLLAR, LOW, QUOTA, Bookings
from tests.console.conftest import ThreadedConsole

pytestmark = pytest.mark.browser

BUDGET_PAGE = "/budgets/research/monthly"
PAGES = {
    "overview": "/",
    "budget": BUDGET_PAGE,
    "low budget": "/budgets/support/monthly",
    "spent budget": "/budgets/growth/campaign",
    "quota": "/quotas/research/assistants/per-user-daily",
    "unused budget": "/budgets/research/spare",
    "no such budget": "/budgets/research/nothing",
}
QUIET = "Failed to load resource: the server responded with a status of 404 (Not Found)"


class Tab:
    """A page with everything that went wrong on it."""

    def __init__(self, page: Page, console: ThreadedConsole) -> None:
        self.page = page
        self.console = console
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on(
            "console", lambda said: self.complaints.append(said.text) if said.type in ("error", "warning") else None
        )

    def open(self, path: str) -> Page:
        self.page.goto(self.console.url + path)
        expect(self.page.locator("#live")).to_have_attribute("data-state", "live")
        if self.page.locator("#chart").count():
            expect(self.page.locator("#chart-state")).not_to_contain_text("Loading")
        return self.page


@pytest.fixture
def tab(busy: ThreadedConsole, chromium: Browser) -> Iterator[Tab]:
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    opened = Tab(context.new_page(), busy)
    yield opened
    context.close()
    # The browser says when the content security policy stopped something: nothing of ours may need what it forbids.
    assert [text for text in opened.complaints if text != QUIET] == []


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES.values(), ids=PAGES.keys())
def test_axe_finds_nothing_and_nothing_scrolls_sideways(tab: Tab, path: str, scheme: str, width: int) -> None:
    tab.page.set_viewport_size({"width": width, "height": 800})
    tab.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page = tab.open(path)
    for summary in page.locator("details summary").all():
        summary.click()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [1280, 360])
def test_axe_finds_nothing_on_the_detail_of_a_usage(tab: Tab, width: int) -> None:
    tab.page.set_viewport_size({"width": width, "height": 800})
    page = tab.open(BUDGET_PAGE)
    page.get_by_role("link", name="Detail of gpt-5-mini").first.click()
    expect(page.get_by_role("heading", name="gpt-5-mini")).to_be_visible()
    expect(page.get_by_text("client gone")).to_be_visible()
    expect(page.get_by_role("rowheader", name="Cache read")).to_be_visible()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_detail_of_a_usage_shows_what_each_kind_of_tokens_cost(tab: Tab) -> None:
    page = tab.open(BUDGET_PAGE)
    page.get_by_role("link", name="Detail of gpt-5-mini").first.click()
    expect(page.get_by_text("genai-prices/openai/gpt-5-mini, version 0.2.3")).to_be_visible()
    expect(page.get_by_role("row", name="Cache read")).to_have_text("Cache read800$0.025 per million$0.00002")
    expect(page.get_by_role("row", name="The request itself")).to_have_text(
        "The request itself$0.010880789 each$0.010880789"
    )
    expect(page.get_by_role("row", name="In all")).to_have_text("In all2,460$0.012120789")


def test_a_usage_changes_balance_chart_and_table_without_a_reload(tab: Tab) -> None:
    page = tab.open(BUDGET_PAGE)
    page.get_by_text("The same as a table").click()
    page.evaluate("window.stillTheSamePage = true")
    before = page.locator("#balance").inner_text()
    drawn = page.locator("#chart-canvas").get_attribute("data-drawn")
    tab.console.books.now += timedelta(seconds=1)
    tab.console.books.use(BUDGET, DOLLAR // 7)
    expect(page.locator("#balance")).not_to_have_text(before)
    expect(page.locator("#chart-canvas")).not_to_have_attribute("data-drawn", drawn or "")
    expect(page.locator("#chart-canvas canvas")).to_be_visible()
    assert page.evaluate("window.stillTheSamePage") is True
    assert page.locator("#twin").get_attribute("open") is not None


def test_usage_of_another_limit_leaves_a_page_alone(tab: Tab) -> None:
    page = tab.open(BUDGET_PAGE)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate("""async () => {
        const source = new EventSource("/events");
        window.heard = new Promise((done) => source.addEventListener("changed", done));
        await new Promise((done) => source.addEventListener("hello", done));
    }""")
    tab.console.books.use(QUOTA, 1000, user="dora")
    page.evaluate("window.heard.then(() => true)")
    before = page.locator("#balance").inner_text()
    tab.console.books.use(BUDGET, DOLLAR // 11)
    expect(page.locator("#balance")).not_to_have_text(before)
    assert len([url for url in asked if url.endswith(BUDGET_PAGE)]) == 1


def test_the_overview_is_live_too(tab: Tab) -> None:
    page = tab.open("/")
    row = page.get_by_role("row").filter(has_text="support/monthly")
    before = row.inner_text()
    tab.console.books.pay(LOW, DOLLAR)
    expect(row).not_to_have_text(before, use_inner_text=True)


def test_a_paused_page_waits_and_catches_up(tab: Tab) -> None:
    page = tab.open(BUDGET_PAGE)
    badge = page.locator("#live")
    badge.click()
    expect(badge).to_have_text("Paused")
    before = page.locator("#balance").inner_text()
    tab.console.books.use(BUDGET, DOLLAR // 9)
    expect(badge).to_have_text("Paused, news waiting")
    assert page.locator("#balance").inner_text() == before
    badge.click()
    expect(badge).to_have_text("Live")
    expect(page.locator("#balance")).not_to_have_text(before)


def test_pages_of_usages_stand_in_the_address_and_the_back_button_returns(tab: Tab) -> None:
    page = tab.open(BUDGET_PAGE)
    first = page.locator("[id^=usage-]").first.get_attribute("id")
    page.get_by_role("link", name="Next page of usages").click()
    page.wait_for_url("**?usages=2")
    expect(page.get_by_text("Page 2 of")).to_be_visible()
    second = page.locator("[id^=usage-]").first.get_attribute("id")
    assert second != first
    page.reload()
    expect(page.locator("[id^=usage-]").first).to_have_attribute("id", second or "")
    page.get_by_role("link", name="Oldest").first.click()
    page.wait_for_url("**?usages_order=oldest")
    page.go_back()
    expect(page.get_by_text("Page 2 of")).to_be_visible()
    expect(page.locator("#chart-canvas canvas")).to_be_visible()


def test_news_leave_one_on_the_page_of_usages_that_one_reads(tab: Tab) -> None:
    page = tab.open(f"{BUDGET_PAGE}?usages=2&usages_order=oldest")
    rows = page.locator("[id^=usage-]").evaluate_all("rows => rows.map((row) => row.id)")
    before = page.locator("#balance").inner_text()
    tab.console.books.use(BUDGET, DOLLAR // 13)
    expect(page.locator("#balance")).not_to_have_text(before)
    assert page.locator("[id^=usage-]").evaluate_all("rows => rows.map((row) => row.id)") == rows


def test_the_chart_shows_the_range_that_is_asked_for(tab: Tab) -> None:
    page = tab.open(BUDGET_PAGE)
    with page.expect_response(lambda answer: "/spend?range=day" in answer.url) as answered:
        page.get_by_role("link", name="24 hours").click()
    assert answered.value.json()["range"] == "day"
    expect(page.get_by_role("link", name="24 hours")).to_have_attribute("aria-current", "true")


def test_a_key_of_a_quota_can_be_chosen(tab: Tab) -> None:
    page = tab.open(PAGES["quota"])
    expect(page.get_by_text("User: carol")).to_be_visible()
    page.get_by_label("Account").select_option(label="alice (Sufficient, 40%)")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("User: alice")).to_be_visible()
    expect(page.locator("#balance")).to_have_text("1,200,000")


def test_the_keyboard_reaches_everything_sees_where_it_is_and_leaves_again(tab: Tab) -> None:
    page = tab.open(BUDGET_PAGE)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    wanted = page.evaluate(
        "[...document.querySelectorAll('a[href], button, summary, select, input')]"
        ".filter((one) => one.checkVisibility()).length"
    )
    seen: list[str] = []
    for _ in range(wanted + 5):
        name, outline = page.evaluate(
            "[document.activeElement.outerHTML, getComputedStyle(document.activeElement).outlineStyle]"
        )
        if name.startswith("<body"):
            break
        assert outline != "none", f"focus cannot be seen on {name}"
        seen.append(name)
        page.keyboard.press("Tab")
    assert len(seen) == wanted
    assert page.evaluate("document.activeElement === document.body")


def test_the_skip_link_leads_to_the_content(tab: Tab) -> None:
    page = tab.open(BUDGET_PAGE)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#content")).to_be_focused()


def test_the_theme_follows_the_system_until_it_is_chosen(tab: Tab) -> None:
    tab.page.emulate_media(color_scheme="dark")
    page = tab.open("/")
    root = page.locator("html")
    expect(root).to_have_attribute("data-bs-theme", "dark")
    page.get_by_role("button", name="Switch between light and dark").press("Enter")
    expect(root).to_have_attribute("data-bs-theme", "light")
    page.reload()
    expect(root).to_have_attribute("data-bs-theme", "light")


def test_less_motion_is_respected(tab: Tab) -> None:
    tab.page.emulate_media(reduced_motion="reduce")
    page = tab.open("/")
    assert page.locator(".live-dot").evaluate("dot => getComputedStyle(dot).animationIterationCount") == "1"


def test_an_unused_budget_says_so_in_every_part(tab: Tab) -> None:
    page = tab.open(PAGES["unused budget"])
    expect(page.get_by_text("Not enough history")).to_be_visible()
    expect(page.get_by_text("Nothing was spent in this range yet.")).to_be_visible()
    expect(page.get_by_text("No usage has been booked yet.")).to_be_visible()
    expect(page.get_by_text("Nothing has been paid in.")).to_be_visible()


def test_without_scripts_the_pages_still_page(busy: ThreadedConsole, chromium: Browser) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(busy.url)
    page.get_by_role("link", name="research/monthly").click()
    page.get_by_role("link", name="Next page of usages").click()
    expect(page.get_by_text("Page 2 of")).to_be_visible()
    context.close()


def test_a_chart_whose_data_does_not_arrive_says_so_and_tries_again(busy: ThreadedConsole, chromium: Browser) -> None:
    page = chromium.new_page()
    page.route("**/spend*", lambda route: route.abort())
    page.goto(busy.url + BUDGET_PAGE)
    expect(page.locator("#chart-state")).to_contain_text("The chart's data did not arrive")
    page.unroute("**/spend*")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#chart-canvas canvas")).to_be_visible()
    page.close()


def test_a_console_that_went_away_is_said_and_its_return_makes_up_for_it(books: Bookings, chromium: Browser) -> None:
    console = ThreadedConsole(books)
    page = chromium.new_page()
    page.goto(console.url + BUDGET_PAGE)
    badge = page.locator("#live")
    expect(badge).to_have_text("Live")
    console.stop()
    expect(badge).to_have_text("Reconnecting")
    books.use(BUDGET, DOLLAR)
    again = ThreadedConsole(books, int(console.url.rpartition(":")[2]))
    expect(badge).to_have_text("Live", timeout=15_000)
    expect(page.locator("#balance")).to_have_text("$249.00")
    page.close()
    again.stop()
