"""The JSON API and what guards it, over HTTP against a real ledger."""

import contextlib
import re
import sqlite3
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from tests.console.bookings import BUDGET, DOLLAR, LOW, QUOTA, UNIT_PRICES, Bookings
from tollkeeper.amounts import format_money
from tollkeeper.counters import Tally
from tollkeeper_console import Console, ConsoleError, ConsoleSettings
from tollkeeper_console.api import OPERATIONS
from tollkeeper_console.queries import MISSED_AFTER
from tollkeeper_ledger.work import Work

ONE = "/api/v1/budgets/research/monthly"
QUOTA_PATH = "/api/v1/quotas/research/assistants/per-user-daily"


async def ask(url: str, path: str, status: int = 200, **headers: str) -> Any:
    async with aiohttp.ClientSession() as session, session.get(url + path, headers=headers) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json(content_type=None)


async def text_of(url: str, path: str, **headers: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url + path, headers=headers) as answer:
        return answer.status, await answer.text()


async def test_a_budget_answers_with_its_sums_as_decimal_strings(books: Bookings, url: str) -> None:
    books.use(BUDGET, 1_000_000_001, ago=timedelta(hours=20))
    books.use(BUDGET, 2_500_000_000)
    books.pay(BUDGET, 5 * DOLLAR)
    detail = await ask(url, ONE)
    expected = {
        "phase": "Sufficient",
        "balance": "251.499999999",
        "remaining": "251.619999999",
        "minimum": "-0.12",
        "spent": "3.500000001",
        "granted": "5.00",
        "cap": "255.12",
        "utilization": 1,
        "usages": 2,
        "cost": "3.500000001",
        "today": "2.50",
        "last_hour": "2.50",
        "tenants": ["acme/research"],
        "unpriced": 0,
    }
    assert {name: detail[name] for name in expected} == expected
    assert detail["window"] == {
        "start": "2026-10-31T23:00:00Z",
        "end": "2026-11-30T23:00:00Z",
        "time_zone": "Europe/Madrid",
    }


async def test_today_begins_at_the_limits_own_midnight(books: Bookings, url: str) -> None:
    midnight_in_madrid = timedelta(hours=16, minutes=4, seconds=30)  # before the time of `bookings.NOW`
    books.use(BUDGET, 7, ago=midnight_in_madrid)
    books.use(BUDGET, 100, ago=midnight_in_madrid + timedelta(seconds=61))
    assert (await ask(url, ONE))["today"] == "0.000000007"


@pytest.mark.parametrize("order", ["newest", "oldest"])
async def test_pages_of_usages_hold_each_once_and_balances_run(books: Bookings, url: str, order: str) -> None:
    books.use(BUDGET, *range(1, 46))
    seen = []
    for page in (1, 2, 3):
        answer = await ask(url, f"{ONE}/usages?page={page}&order={order}")
        assert (answer["page"], answer["size"], answer["total"]) == (page, 20, 45)
        seen += answer["items"]
    assert len({item["id"] for item in seen}) == 45
    ordered = seen if order == "oldest" else seen[::-1]
    left = Decimal(250)
    for number, item in enumerate(ordered, start=1):
        left -= Decimal(number) / DOLLAR
        assert item["amount"] == format_money(number)
        assert Decimal(item["balance"]) == left
    assert (await ask(url, f"{ONE}/usages?page=4"))["items"] == []


async def test_a_usage_tells_what_its_cost_was_made_of(books: Bookings, url: str) -> None:
    books.use(BUDGET, 12_120_789, unit_prices=UNIT_PRICES)
    (listed,) = (await ask(url, f"{ONE}/usages"))["items"]
    usage = await ask(url, f"{ONE}/usages/{listed['id']}")
    assert usage == listed
    assert (usage["cost"], usage["price"]) == ("0.012120789", "genai-prices/openai/gpt-5-mini@0.2.3")
    assert [(part["name"], part["count"], part["unit_price"], part["cost"]) for part in usage["cost_parts"]] == [
        ("input", 1200, "0.25", "0.0003"),
        ("cache_read", 800, "0.025", "0.00002"),
        ("output", 340, "2.00", "0.00068"),
        ("reasoning", 120, "2.00", "0.00024"),
        ("request", 1, "0.010880789", "0.010880789"),
    ]
    assert sum(Decimal(part["cost"]) for part in usage["cost_parts"]) == Decimal(usage["cost"])


async def test_a_usage_without_unit_prices_says_so(books: Bookings, url: str) -> None:
    books.use(BUDGET, DOLLAR)
    usage = (await ask(url, f"{ONE}/usages"))["items"][0]
    assert usage["cost_parts"] == []
    assert "No unit prices are kept" in (await text_of(url, f"/budgets/research/monthly/usages/{usage['id']}"))[1]


async def test_payments_tell_amount_reference_and_balance(books: Bookings, url: str) -> None:
    books.pay(BUDGET, 25 * DOLLAR)
    books.pay(BUDGET, 10 * DOLLAR, None, "Credit")
    items = (await ask(url, f"{ONE}/payments"))["items"]
    assert [(one["amount"], one["reason"], one["reference"], one["balance"]) for one in items] == [
        ("10.00", "Credit", None, "285.00"),
        ("25.00", "TopUp", "INV-2026-1123", "275.00"),
    ]


async def test_a_series_ends_with_what_is_spent(books: Bookings, url: str) -> None:
    for minutes in (90, 45, 3):
        books.use(BUDGET, DOLLAR, ago=timedelta(minutes=minutes))
    series = await ask(url, f"{ONE}/spend?range=hour")
    assert (series["before"], series["spent"], len(series["points"])) == ("1.00", "3.00", 2)
    assert [point["cumulative"] for point in series["points"]] == ["2.00", "3.00"]
    assert series["points"][-1]["wall"] == "2026-11-21T16:01:00"


@pytest.mark.parametrize("wanted", ["period", "day", "hour"])
async def test_each_range_adds_up(books: Bookings, url: str, wanted: str) -> None:
    for hours in range(0, 200, 7):
        books.use(BUDGET, DOLLAR // (hours + 1), ago=timedelta(hours=hours, minutes=11))
    series = await ask(url, f"{ONE}/spend?range={wanted}")
    parts = sum(Decimal(point["amount"]) for point in series["points"])
    assert Decimal(series["before"]) + parts == Decimal(series["spent"])


async def test_a_forecast_is_known_or_says_why_not(books: Bookings, url: str) -> None:
    assert (await ask(url, f"{ONE}/forecast"))["reason"] == "Nothing has been spent in this period yet."
    for hours in range(60):
        books.use(BUDGET, DOLLAR, ago=timedelta(hours=hours))
    seen = await ask(url, f"{ONE}/forecast")
    assert seen["status"] == "Known"
    assert Decimal("60.00") <= Decimal(seen["low"]) <= Decimal(seen["median"]) <= Decimal(seen["high"])
    assert 0 <= seen["probability_of_exceeding"] <= 1


async def test_the_list_begins_with_the_worst(books: Bookings, url: str) -> None:
    books.use(LOW, 40 * DOLLAR)
    books.use(BUDGET, 50 * DOLLAR)
    listed = await ask(url, "/api/v1/budgets?size=2")
    assert [(one["namespace"], one["name"], one["phase"]) for one in listed["items"]] == [
        ("support", "monthly", "Insufficient"),
        ("research", "monthly", "Sufficient"),
    ]
    assert listed["total"] == 4
    assert [one["limit"] for one in (await ask(url, "/api/v1/quotas"))["items"]] == ["per-user-daily"]


async def test_keys_of_a_quota_are_accounts_of_their_own(books: Bookings, url: str) -> None:
    alice = books.use(QUOTA, 300_000, user="alice")
    books.use(QUOTA, 900_000, user="bob")
    assert (await ask(url, QUOTA_PATH))["key"] == ["bob"]
    chosen = await ask(url, f"{QUOTA_PATH}?account={alice.replace('/', '%2F')}")
    assert (chosen["key"], chosen["spent"], chosen["unit"]) == (["alice"], "300000", "Tokens")


async def test_an_account_of_another_limit_is_not_shown(books: Bookings, url: str) -> None:
    alien = books.use(LOW, DOLLAR)
    answer = await ask(url, f"{ONE}?account={alien}", 404)
    assert "is not one of TokenBudget research/monthly" in answer["detail"]


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/api/v1/budgets/research/none", 404, "is not in force"),
        ("/api/v1/nothing", 404, "no such page"),
        (f"{ONE}/usages/none", 404, "is not booked"),
        (f"{ONE}?account=damaged", 404, "is not an account"),
        (f"{ONE}/usages?page=0", 400, "page='0' is not a number from 1"),
        (f"{ONE}/usages?size=101", 400, "size='101' is not a number from 1 to 100"),
        (f"{ONE}/usages?page=%C2%B2", 400, "is not a number"),
        (f"{ONE}/usages?order=up", 400, "write newest or oldest"),
        (f"{ONE}/spend?range=year", 400, "write period, day, hour"),
    ],
)
async def test_a_mistake_is_answered_as_a_problem_that_names_it(url: str, path: str, status: int, words: str) -> None:
    problem = await ask(url, path, status)
    assert (problem["status"], problem["type"], problem["instance"]) == (status, "about:blank", path.partition("?")[0])
    assert words in problem["detail"]


async def test_a_ledger_that_cannot_be_read_is_a_503_and_a_page_in_words(books: Bookings, url: str) -> None:
    with contextlib.closing(sqlite3.connect(books.store.path)) as vandal:
        vandal.execute("DROP TABLE minutes")
    assert "no such table" in (await ask(url, ONE, 503))["detail"]
    status, text = await text_of(url, "/budgets/research/monthly")
    assert status == 503
    assert "no such table" in text
    assert "Try again" in text


async def test_what_others_wrote_is_shown_as_text(books: Bookings, url: str) -> None:
    books.use(BUDGET, 5, user="<script>alert(1)</script>", model="<img src=x>", tool='"><b>')
    _, text = await text_of(url, "/budgets/research/monthly")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert not re.search(r"<script>|<img src=x|<b>", text)


async def test_what_gateways_have_settled_and_is_not_booked_is_listed_and_told_on_the_overview(
    books: Bookings, url: str
) -> None:
    assert (await ask(url, "/api/v1/unbooked"))["items"] == []
    for gateway, seconds in (("on-its-way", 59), ("gone", 60)):
        work = Work(books.store)
        work.count(Tally(3, 700, 1_500_000_000).settled_by(gateway), books.now - timedelta(seconds=seconds))
        books.commit(work)
    listed = await ask(url, "/api/v1/unbooked?size=1")
    (first,) = listed["items"]
    assert (listed["total"], datetime.fromisoformat(first.pop("told"))) == (2, books.now - MISSED_AFTER)
    assert first == {"gateway": "gone", "requests": 3, "tokens": 700, "cost": "1.50"}
    _, text = await text_of(url, "/")
    assert "3 requests for $1.50 that gateways have settled are not booked" in text


async def test_the_document_describes_exactly_the_routes_and_answers(books: Bookings, url: str) -> None:
    books.use(BUDGET, DOLLAR)
    books.use(QUOTA, 10)
    document = await ask(url, "/api/openapi.json")
    assert document["paths"].keys() == {operation.path for operation in OPERATIONS}
    refs = set(re.findall(r"#/components/schemas/([^\"']+)", str(document)))
    assert refs <= document["components"]["schemas"].keys()
    for operation in OPERATIONS:
        path = _filled(operation.path, await _a_usage(url, operation.path))
        operation.shape.model_validate(await ask(url, path))
        assert (await ask(url, path)).keys() == operation.shape.model_fields.keys()


async def _a_usage(url: str, path: str) -> str:
    if "{usage}" not in path:
        return ""
    listed: str = (await ask(url, _filled(path.removesuffix("/{usage}"), "")))["items"][0]["id"]
    return listed


def _filled(path: str, usage: str) -> str:
    name = "monthly" if "budgets" in path else "assistants"
    return path.format(namespace="research", name=name, limit="per-user-daily", usage=usage)


@pytest.mark.parametrize(
    "path", ["/", "/budgets/research/monthly", "/api/v1/budgets", "/nothing", "/static/own/live.js"]
)
async def test_every_answer_forbids_what_pages_do_not_need(url: str, path: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(url + path) as answer:
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_no_page_carries_a_script_or_style_of_its_own(books: Bookings, url: str) -> None:
    books.use(BUDGET, DOLLAR)
    for path in ("/", "/budgets/research/monthly"):
        _, text = await text_of(url, path)
        assert not re.search(r"<script(?! src=)|<style|\sstyle=|\son[a-z]+=", text)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.", "", "[::2]"]
)
async def test_a_foreign_name_is_refused(url: str, host: str) -> None:
    status, text = await text_of(url, "/api/v1/budgets", Host=host)
    assert status == 421, text


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9999", "127.0.0.1", "[::1]:1234"])
async def test_this_machines_names_are_served_on_any_port(url: str, host: str) -> None:
    assert (await text_of(url, "/healthz", Host=host))[0] == 200


async def test_nothing_can_be_written(url: str) -> None:
    async with aiohttp.ClientSession() as session, session.post(url + "/api/v1/budgets") as answer:
        assert answer.status == 405
        assert (await answer.json(content_type=None))["detail"] == "The console only reads: use GET."


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.org"])  # noqa: S104 - refused
def test_other_machines_are_not_served(host: str) -> None:
    with pytest.raises(ConsoleError, match="serves this machine alone"):
        ConsoleSettings(host=host)


async def test_a_taken_port_is_one_line_that_says_what_to_do(books: Bookings, url: str) -> None:
    taken = int(url.rpartition(":")[2])
    second = Console(ConsoleSettings(port=taken), books.reader, books.policy, books.subscribe)
    with pytest.raises(ConsoleError, match=f"cannot listen on 127.0.0.1:{taken}: the port is taken") as raised:
        await second.start()
    assert "\n" not in str(raised.value)
