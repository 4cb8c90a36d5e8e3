"""Requests whose model has no price, no limit, or another price from now on."""

from decimal import Decimal

import openai
import orjson
import pytest
from structlog.testing import capture_logs

from tests.sidecar.builders import MODEL, limit, policy
from tests.sidecar.conftest import SetUp
from tests.sidecar.test_failures import TOKENS, ask
from tollkeeper.limits import Enforcement
from tollkeeper.prices import Price, PriceEntry, PriceList


async def test_a_model_without_price_is_refused_under_a_budget_in_money_and_counted_elsewhere(stage: SetUp) -> None:
    """M6: `Refuse`, wherever a Hard limit counts money."""
    budget = limit()
    running = await stage(policy(budget, TOKENS, prices=PriceList()))
    with pytest.raises(openai.PermissionDeniedError) as refused:
        await ask(running, "slow=0")
    assert refused.value.code == "model_not_priced"
    assert MODEL in refused.value.message
    running.policy.publish(policy(TOKENS, prices=PriceList()))
    await ask(running, "slow=0")
    await running.finished()
    row = running.authority.reader.usages(running.account(TOKENS).id, page=1).rows[0]
    assert (row.cost, row.amount) == (None, 340)


@pytest.mark.parametrize("enforcement", [Enforcement.SOFT, Enforcement.SHADOW])
async def test_a_model_without_price_costs_nothing_in_a_budget_that_does_not_block(
    stage: SetUp, enforcement: Enforcement
) -> None:
    budget = limit(enforcement=enforcement)
    running = await stage(policy(budget, prices=PriceList()))
    await ask(running, "slow=0")
    await running.finished()
    account = running.account(budget)
    assert (account.spent, account.requests) == (0, 1)
    totals = running.authority.reader.totals(account.id)
    assert (totals.unpriced, totals.tokens) == (1, 340)


async def test_a_model_without_price_is_told_of_once_where_no_limit_counts_it(stage: SetUp) -> None:
    running = await stage(policy(prices=PriceList()))
    with capture_logs() as logs:
        await ask(running, "slow=0")
        await ask(running, "slow=0")
        running.policy.publish(policy(TOKENS, prices=PriceList()))
        await ask(running, "slow=0")
    told = [entry for entry in logs if "without a price" in entry["event"]]
    assert [(entry["tenant"], entry["provider"], entry["model"]) for entry in told] == [("research", "openai", MODEL)]


async def test_a_fallback_prices_what_nobody_names_under_a_hard_budget_too(stage: SetUp) -> None:
    """M6: `Fallback`."""
    budget = limit()
    fallback = Price("", "", "PriceBook/default/fallback", "1", {"input": Decimal(1), "output": Decimal(10)})
    running = await stage(policy(budget, prices=PriceList().with_books([], fallback=fallback)))
    await ask(running, "slow=0")
    await running.finished()
    assert running.account(budget).spent == 300 * 1000 + 40 * 10_000


async def test_b9_a_request_under_no_limit_is_admitted_and_metered(stage: SetUp) -> None:
    running = await stage(policy())
    await ask(running, "slow=0")
    await running.finished()
    (transaction,) = [orjson.loads(body) for body, _ in running.authority.reader.chain()]
    (row,) = transaction["usage"]
    assert (row["buckets"], row["cost"], row["charges"]) == ({"input": 300, "output": 40}, 300 * 1250 + 40 * 10_000, [])


async def test_a_changed_price_counts_from_then_on_and_what_is_booked_is_never_priced_anew(stage: SetUp) -> None:
    """R10."""
    budget = limit()
    running = await stage(policy(budget))
    await ask(running, "slow=0")
    dearer = PriceEntry("openai", MODEL, {"input": Decimal(2), "output": Decimal(20)}, version="2026-12")
    running.policy.publish(policy(budget, prices=PriceList().with_books([dearer])))
    await ask(running, "slow=0")
    await running.finished()
    booked = [row for body, _ in running.authority.reader.chain() for row in orjson.loads(body)["usage"] or ()]
    assert [(row["cost"], row["price"].partition("@")[2], row["unit_prices"]) for row in booked] == [
        (300 * 1250 + 40 * 10_000, "2026-11", {"input": "1.25", "output": "10"}),
        (300 * 2000 + 40 * 20_000, "2026-12", {"input": "2", "output": "20"}),
    ]
