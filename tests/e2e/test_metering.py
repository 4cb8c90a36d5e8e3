"""The metering path as a whole: what the provider served is what the ledger charged, and no hard limit is passed."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import openai
import orjson
import pytest
from tests.e2e.metering import CHAIN, Metered, metered

from tollkeeper.amounts import Unit
from tollkeeper.limits import Limit, LimitRef
from tollkeeper.views import UsageRow
from tollkeeper.windows import Calendar
from tollkeeper_demo.trace import TrafficRow, read_trace
from tollkeeper_demo.traffic import Summary, generate, send
from tollkeeper_ledger.export import export, verify
from tollkeeper_ledger.reader import SqliteReader
from tollkeeper_provider import read_book, totals

pytestmark = pytest.mark.slow

MODEL = "gpt-5-mini"
TRACE = Path(__file__).parents[3] / "shared" / "data" / "azure-llm-inference-2023-code.csv"


def limit(tenant: str, unit: Unit, allocation: int, name: str = "cap") -> Limit:
    """A prepaid hard limit of a tenant."""
    return Limit(LimitRef("TokenBudget", tenant, name), frozenset({tenant}), unit, Calendar.FOREVER, allocation)


def account_of(one: Limit) -> str:
    return one.account_at((), datetime.now(UTC))[0].text


def four_levels(dollars: int) -> list[Limit]:
    """Ample limits on every level; money on some, tokens on others."""
    units = (Unit.USD, Unit.TOKENS, Unit.USD, Unit.TOKENS)
    return [limit(tenant, unit, dollars * 10**9) for tenant, unit in zip(CHAIN, units, strict=True)]


async def traffic(system: Metered, rows: Sequence[TrafficRow], callers: int, retries: int = 0) -> Summary:
    return await send(rows, system.url, system.key, models=(MODEL,), callers=callers, max_retries=retries)


def check_books(folder: Path) -> None:
    """Both books, answer by answer; and the chain."""
    served = {entry.id: (entry.buckets.counted(), entry.cost_nanodollars) for entry in read_book(folder / "book.jsonl")}
    reader = SqliteReader(folder / "ledger.db")
    lines = list(export(reader.chain()))
    reader.close()
    verify(lines)
    usages = [row for line in map(orjson.loads, lines) if line["kind"] == "usage" for row in line["usage"]]
    assert {u["upstream_id"]: (u["buckets"], u["cost"]) for u in usages} == served
    assert len(usages) == len(served)


@pytest.mark.timeout(900)
@pytest.mark.skipif(not TRACE.is_file(), reason="the production trace is not beside the checkout (../shared/data)")
async def test_every_row_of_the_production_trace_is_in_the_ledger_exactly(tmp_path: Path) -> None:
    rows = read_trace(TRACE)
    limits = four_levels(10**6)
    async with metered(tmp_path, *limits) as system:
        summary = await traffic(system, rows, callers=32)
    assert (summary.ok, summary.refused) == (len(rows), {})
    reader = SqliteReader(tmp_path / "ledger.db")
    seen = Counter((usage.buckets.get("input", 0), usage.buckets["output"]) for usage in all_usages(reader, limits[0]))
    tokens = reader.account(account_of(limits[1]))
    reader.close()
    assert seen == Counter((row.context_tokens, row.generated_tokens) for row in rows)
    assert tokens is not None
    assert tokens.spent == sum(row.context_tokens + row.generated_tokens for row in rows)
    check_books(tmp_path)


def all_usages(reader: SqliteReader, one: Limit) -> list[UsageRow]:
    account = account_of(one)
    total = reader.usages(account, page=1, size=1).total
    return list(reader.usages(account, page=1, size=total, order="oldest").rows)


async def test_generated_traffic_is_booked_to_the_token_and_the_nanodollar(tmp_path: Path) -> None:
    rows = generate(300, seed=7)
    limits = four_levels(10**3)
    async with metered(tmp_path, *limits) as system:
        summary = await traffic(system, rows, callers=16)
    assert summary.ok == 300
    reader = SqliteReader(tmp_path / "ledger.db")
    accounts = [reader.account(account_of(one)) for one in limits]
    reader.close()
    book = totals(read_book(tmp_path / "book.jsonl"))
    for one, account in zip(limits, accounts, strict=True):
        assert account is not None
        assert account.spent == (book.cost_nanodollars if one.unit is Unit.USD else book.buckets.total)
        assert (account.held, account.unreconciled, account.overshoot) == (0, 0, 0)
    check_books(tmp_path)


@pytest.mark.parametrize("unit", [Unit.USD, Unit.TOKENS, Unit.REQUESTS])
async def test_64_callers_on_one_budget_with_room_for_a_third_never_pass_it(tmp_path: Path, unit: Unit) -> None:
    rows = generate(384, seed=11)
    third = {Unit.REQUESTS: 128, Unit.TOKENS: sum(r.context_tokens + r.generated_tokens for r in rows) // 3}
    cap = third.get(unit) or sum(250 * row.context_tokens + 2000 * row.generated_tokens for row in rows) // 3
    narrow = limit("department", unit, cap, name="narrow")
    async with metered(tmp_path, *four_levels(10**3), narrow) as system:
        # The client waits for room that others hold, as it does by default; what is used up it does not ask for again.
        summary = await traffic(system, rows, callers=64, retries=2)
        account = system.authority.reader.account(account_of(narrow))
    assert account is not None
    assert account.spent <= cap
    assert account.overshoot == 0
    assert 0 < summary.ok < len(rows)
    assert {error for error, _ in summary.refused} == {"RateLimitError"}
    assert account.spent > cap * 0.8, "most of the budget could be used"
    check_books(tmp_path)


async def test_the_official_client_raises_its_quota_exception_with_the_limit_and_the_remedy(tmp_path: Path) -> None:
    none_left = limit("org", Unit.REQUESTS, 0)
    async with (
        metered(tmp_path, none_left) as system,
        openai.AsyncOpenAI(base_url=system.url, api_key=system.key, max_retries=3) as client,
    ):
        with pytest.raises(openai.RateLimitError) as raised:
            await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hello"}])
    assert raised.value.code == "insufficient_quota"
    assert "cap" in str(raised.value)
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert read_book(tmp_path / "book.jsonl") == []
