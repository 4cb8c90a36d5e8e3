"""kill -9 of `tollkeeper up` at random points of its traffic: what the provider served is charged or stands as held."""

import asyncio
import random
from pathlib import Path

import openai
import orjson
import pytest
from tests.e2e.conftest import apply_policy
from tests.e2e.programs import Up, wait_for

from tollkeeper_cluster import Kubectl
from tollkeeper_demo.traffic import endless, send
from tollkeeper_ledger.export import verify
from tollkeeper_provider import read_book, totals

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

ROUNDS = 4
SEED = 20261121


@pytest.fixture
def rng() -> random.Random:
    return random.Random(SEED)  # noqa: S311 - where to kill, not a secret


async def test_what_the_provider_served_is_charged_or_stands_as_unreconciled_after_each_kill(
    up: Up, own_kubectl: Kubectl, provider: tuple[str, Path], rng: random.Random
) -> None:
    up.start()
    apply_policy(own_kubectl, "killed", "50.00")
    key = up.new_key("killed")
    for _ in range(ROUNDS):
        await _traffic_until_killed(up, key, rng.uniform(0.3, 4.0))
        up.start()
        _wait_until_charged(up, totals(read_book(provider[1])).cost_nanodollars)
        overshoot = own_kubectl(
            "get", "tokenbudget", "monthly", "-o", "jsonpath={.status.overshoot}", namespace="killed"
        )
        assert overshoot.stdout == "0.00"
    assert up.stop() == 0
    _compare(up, provider[1])


async def _traffic_until_killed(up: Up, key: str, seconds: float) -> None:
    stop = asyncio.Event()
    url = f"{up.addresses['gateway']}/openai/v1"
    traffic = asyncio.create_task(send(endless(SEED), url, key, callers=16, stop=stop, timeout_seconds=10))
    await asyncio.sleep(seconds)
    up.kill()
    stop.set()
    summary = await traffic
    assert {name for name, _ in summary.refused} <= {"APIConnectionError", "APIError", "APITimeoutError"}


def _wait_until_charged(up: Up, served: int) -> None:
    """Wait until what is spent or unreconciled covers what was served (nano-dollars)."""
    wait_for("all that was served to be charged", lambda: _charged(up) >= served, 20)


def _charged(up: Up) -> int:
    entries = (entry for line in up.exported() for entry in line["entries"])
    return sum(e["amount"] for e in entries if e["account"].endswith(("#spent", "#unreconciled")))


def _compare(up: Up, book: Path) -> None:
    """No answer is charged that was not served, none twice, and each for what it was; what is missing is unreconciled."""
    lines = up.exported()
    served = {entry.id: entry for entry in read_book(book)}
    usages = [row for line in lines if line["kind"] == "usage" for row in line["usage"]]
    exact = [u for u in usages if not u["estimated"]]
    assert len({u["upstream_id"] for u in exact}) == len(exact)
    for usage in exact:
        assert usage["cost"] == served[usage["upstream_id"]].cost_nanodollars
    assert verify(orjson.dumps(line) for line in lines).transactions == len(lines)


def test_a_killed_up_starts_again_and_answers(up: Up, own_kubectl: Kubectl) -> None:
    up.start()
    apply_policy(own_kubectl, "again", "1.00")
    key = up.new_key("again")
    up.kill()
    up.start()
    client = openai.OpenAI(base_url=f"{up.addresses['gateway']}/openai/v1", api_key=key, max_retries=0)
    with client:
        answer = client.chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": "hello"}])
    assert answer.choices
