"""What goes wrong around a request: the provider, the client, the disk, the authority, the gateway itself."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import aiohttp
import openai
import orjson
import pytest
from aiohttp import web
from openai.types.chat import ChatCompletionMessageParam
from structlog.testing import capture_logs

from tests.sidecar.builders import MODEL, PROVIDER_KEY, SECRET, limit, policy
from tests.sidecar.conftest import SetUp, Stage, now
from tests.sidecar.reference import ReferenceAuthority
from tests.sidecar.test_spool import largest_file
from tollkeeper.amounts import Unit
from tollkeeper.errors import Unavailable
from tollkeeper.leases import LeaseReply, LeaseRequest
from tollkeeper.limits import Enforcement, WhenStale
from tollkeeper.policy import CurrentPolicy
from tollkeeper.prices import Price, PriceEntry, PriceList
from tollkeeper.usage import UsageRecord
from tollkeeper_provider import start_provider
from tollkeeper_sidecar import Gateway, GatewayError, GatewaySettings, Upstream
from tollkeeper_webhook.authority import LedgerAuthority

WORDS: list[ChatCompletionMessageParam] = [{"role": "user", "content": "word " * 100}]
TOKENS = limit("tokens", 10**7, Unit.TOKENS)


async def until(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for a condition, for so long at most."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - the condition is another process's, which sets no event of ours
            await asyncio.sleep(0.01)


async def ask(running: Stage, behaviour: str, **options: object) -> object:
    client = await running.client()
    headers = {"Provider-Usage": "input=300,output=40", "Provider-Behaviour": behaviour}
    return await client.chat.completions.create(  # type: ignore[call-overload]
        model=MODEL, messages=WORDS, extra_headers=headers, **options
    )


async def test_a_provider_error_passes_as_it_is_and_charges_nothing(stage: SetUp) -> None:
    running = await stage(policy(TOKENS))
    with pytest.raises(openai.InternalServerError) as failed:
        await ask(running, "error-500")
    assert "Provider-Behaviour asked" in failed.value.message
    assert failed.value.response.headers["Tollkeeper-Request-Id"]
    await running.finished()
    account = running.account(TOKENS)
    assert (account.spent, account.held, account.requests) == (0, 0, 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_without_usage_is_estimated_on_the_safe_side(stage: SetUp, stream: bool) -> None:
    """M7."""
    running = await stage(policy(TOKENS))
    answer = await ask(running, "no-usage", stream=stream)
    if isinstance(answer, openai.AsyncStream):
        assert [chunk async for chunk in answer]
    await running.finished()
    account = running.account(TOKENS)
    assert account.spent >= 340
    row = running.authority.reader.usages(account.id, page=1).rows[0]
    assert (row.estimated, row.outcome) == (True, "ok")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_provider_that_dies_midway_is_charged_for_what_was_seen(stage: SetUp, stream: bool) -> None:
    """M7: the prompt and the output seen so far."""
    running = await stage(policy(TOKENS))

    async def read_it_all() -> None:
        answer = await ask(running, "die-midway", stream=stream)
        assert isinstance(answer, openai.AsyncStream)
        async for _ in answer:
            pass

    with pytest.raises(openai.APIError):
        await read_it_all()
    await running.finished()
    account = running.account(TOKENS)
    row = running.authority.reader.usages(account.id, page=1).rows[0]
    assert (row.estimated, row.outcome) == (True, "provider_gone")
    (entry,) = running.served()
    assert account.spent >= sum(entry.buckets.counted().values())
    assert account.held == 0


async def test_f3_a_stream_that_ends_early_ends_with_an_error_and_without_done(stage: SetUp) -> None:
    running = await stage(policy(TOKENS))
    asked = {"model": MODEL, "messages": WORDS, "stream": True}
    headers = {"Authorization": f"Bearer {SECRET}", "Provider-Usage": "input=300,output=40"}
    url = running.running.url + "/openai/v1/chat/completions"
    async with aiohttp.ClientSession() as session:
        dying = {**headers, "Provider-Behaviour": "die-midway"}
        async with session.post(url, json=asked, headers=dying) as answer:
            events = (await answer.text()).strip().split("\n\n")
    assert set(orjson.loads(events[-1].removeprefix("data: "))["error"]) == {"message", "type", "param", "code"}
    assert not any("[DONE]" in event for event in events)
    await running.finished()


async def test_a_client_that_leaves_a_stream_is_charged_what_the_provider_counted(stage: SetUp) -> None:
    running = await stage(policy(TOKENS))
    stream = await ask(running, "slow=5", stream=True)
    assert isinstance(stream, openai.AsyncStream)
    async for _ in stream:
        break
    await stream.close()
    await until(lambda: bool(running.served()))
    await running.finished()
    account = running.account(TOKENS)
    row = running.authority.reader.usages(account.id, page=1).rows[0]
    (entry,) = running.served()
    assert entry.completed
    assert account.spent == sum(entry.buckets.counted().values())
    assert (row.estimated, row.outcome) == (False, "client_gone")


async def test_a_provider_that_cannot_be_reached_is_a_502_and_charges_nothing(stage: SetUp) -> None:
    running = await stage(policy(TOKENS))
    await running.provider.stop()
    with pytest.raises(openai.InternalServerError) as failed:
        await ask(running, "")
    assert failed.value.status_code == 502
    assert failed.value.code == "provider_unreachable"
    await running.finished()
    assert running.account(TOKENS).spent == 0


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


async def test_a_full_disk_refuses_before_anything_is_passed_on(stage: SetUp) -> None:
    running = await stage(policy(TOKENS))
    await ask(running, "slow=0")
    with largest_file(1), pytest.raises(openai.InternalServerError) as refused:
        await ask(running, "slow=0")
    assert refused.value.status_code == 503
    assert refused.value.response.headers["Retry-After"] == "1"
    assert len(running.served()) == 1
    await ask(running, "slow=0")
    await running.finished()
    assert (running.account(TOKENS).spent, running.account(TOKENS).held) == (680, 0)


async def test_beyond_its_bounds_the_gateway_refuses_instead_of_queueing(stage: SetUp) -> None:
    running = await stage(policy(TOKENS), most_in_flight=2)
    ended = await asyncio.gather(*(ask(running, "slow=5") for _ in range(6)), return_exceptions=True)
    refused = [error for error in ended if isinstance(error, openai.InternalServerError)]
    assert len(refused) == 4
    assert {error.response.headers["Retry-After"] for error in refused} == {"1"}
    await running.finished()
    assert running.account(TOKENS).spent == 2 * 340


async def test_endpoints_of_unknown_usage_pass_for_tenants_that_allow_them(stage: SetUp) -> None:
    running = await stage(policy(unmetered="Allow"))
    bearer = {"Authorization": f"Bearer {SECRET}"}
    status, body, _ = await raw(running, "/openai/v1/batches", headers=bearer)
    assert status == 404
    assert "the simulated provider has no such endpoint" in str(body)
    running.policy.publish(policy())
    assert (await raw(running, "/openai/v1/batches", headers=bearer))[0] == 403
    assert (await raw(running, "/openai/v1/embeddings", headers=bearer))[0] == 403


async def test_a_body_that_is_too_large_is_refused_in_openais_shape(stage: SetUp) -> None:
    running = await stage(policy(), largest_body_bytes=4096)
    client = await running.client()
    with pytest.raises(openai.APIStatusError) as refused:
        await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x" * 5000}])
    assert refused.value.status_code == 413
    assert refused.value.code == "request_too_large"


async def raw(running: Stage, path: str, **options: object) -> tuple[int, dict[str, object], str]:
    """Status, parsed body and request id of a plain request."""
    async with (
        aiohttp.ClientSession() as session,
        session.request("POST", running.running.url + path, **options) as answer,  # type: ignore[arg-type]
    ):
        return answer.status, orjson.loads(await answer.read()), answer.headers["Tollkeeper-Request-Id"]


async def test_every_refusal_has_openais_shape_and_a_request_id(stage: SetUp) -> None:
    """F2."""
    running = await stage(policy())
    bearer = {"Authorization": f"Bearer {SECRET}"}
    for path, options, status in (
        ("/unknown/v1/chat/completions", {}, 404),
        ("/openai/v1/chat/completions", {}, 401),
        ("/openai/v1/chat/completions", {"headers": bearer, "data": b"{"}, 400),
        ("/openai/v1/responses", {"headers": bearer}, 403),
        ("/openai/v1/chat/completions", {"headers": {"X-Large": "x" * 40_000}}, 431),
    ):
        answered, body, request_id = await raw(running, path, **options)
        assert answered == status
        assert set(body["error"]) == {"message", "type", "param", "code"}  # type: ignore[call-overload]
        assert request_id


async def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = GatewaySettings(tmp_path, (Upstream("openai", "http://127.0.0.1:1"),), port=port, metrics_port=0)
        authority = ReferenceAuthority([])
        with pytest.raises(GatewayError, match=f"cannot listen on 127.0.0.1:{port}: the port is taken"):
            await Gateway(settings, CurrentPolicy(policy()), authority, now).start()
    assert len(authority.closed) == 1


class Echo:
    """A provider that keeps what it was sent."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.bodies.append(await request.read())
        self.headers.append(dict(request.headers))
        usage = {"prompt_tokens": 5, "completion_tokens": 2}
        return web.json_response({"id": "chatcmpl-9", "choices": [], "usage": usage}, headers={"Connection": "X-Hop"})


@contextlib.asynccontextmanager
async def echo_at() -> AsyncIterator[tuple[Echo, str]]:
    echo = Echo()
    runner = web.ServerRunner(web.Server(echo.answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield echo, f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    await runner.cleanup()


async def test_what_needs_no_change_reaches_the_provider_byte_for_byte(stage: SetUp) -> None:
    """F5."""
    body = b'{ "model":"gpt-5",  "max_tokens": 50, "messages":[{"role":"user","content":"h\\u00e9llo"}] , "x": 1.0}'
    async with echo_at() as (echo, url):
        running = await stage(policy(TOKENS), upstreams=(Upstream("openai", url, PROVIDER_KEY),))
        headers = {"Authorization": f"Bearer {SECRET}", "Tollkeeper-Feature": "search", "traceparent": "00-1-2-01"}
        status, _, _ = await raw(running, "/openai/v1/chat/completions", data=body, headers=headers)
        assert status == 200
        assert echo.bodies == [body]
        sent = echo.headers[0]
        assert sent["Authorization"] == f"Bearer {PROVIDER_KEY}"
        assert sent["traceparent"] == "00-1-2-01"
        assert not any(name.lower().startswith("tollkeeper-") for name in sent)
        await running.finished()
        assert running.account(TOKENS).spent == 7


class Flaky:
    """An authority that can be cut off, over a real one."""

    def __init__(self, inner: LedgerAuthority) -> None:
        self._inner = inner
        self.away = False

    def _reached(self) -> LedgerAuthority:
        if self.away:
            raise Unavailable("the authority is cut off")
        return self._inner

    async def lease(self, request: LeaseRequest) -> LeaseReply:
        return await self._reached().lease(request)

    async def recalled(self, holder: str) -> Collection[str]:
        return await self._reached().recalled(holder)

    async def report(self, records: Sequence[UsageRecord]) -> None:
        await self._reached().report(records)

    async def close(self, holder: str, kept: Mapping[str, int]) -> None:
        await self._reached().close(holder, kept)


async def test_while_the_authority_is_away_leases_are_used_then_refused_and_usage_arrives_later(
    tmp_path: Path,
) -> None:
    open_quota = limit("open", 10**6, Unit.TOKENS, when_stale=WhenStale.FAIL_OPEN)
    current = CurrentPolicy(policy(open_quota))
    provider = await start_provider("127.0.0.1", 0, PROVIDER_KEY, tmp_path / "book")
    async with LedgerAuthority(tmp_path / "ledger.db", current, now) as ledger:
        authority = Flaky(ledger)
        upstream = Upstream("openai", provider.url, PROVIDER_KEY)
        gateway = Gateway(GatewaySettings(tmp_path, (upstream,), port=0, metrics_port=0), current, authority, now)
        running = await gateway.start()
        surroundings = Stage(gateway, running, current, ledger, provider, contextlib.AsyncExitStack())
        authority.away = True
        await ask(surroundings, "slow=0")
        current.publish(policy(replace(open_quota, when_stale=WhenStale.FAIL_CLOSED)))
        with pytest.raises(openai.InternalServerError) as refused:
            await ask(surroundings, "slow=0")
        assert refused.value.code == "usage_stale"
        authority.away = False
        await gateway.stop()
        await surroundings.clients.aclose()
        account = surroundings.account(open_quota)
        assert (account.spent, account.held) == (340, 0)
    await provider.stop()


async def test_metrics_and_health_are_served(stage: SetUp) -> None:
    running = await stage(policy(TOKENS))
    await ask(running, "slow=0")
    async with aiohttp.ClientSession(running.running.metrics_url) as session:
        async with session.get("/metrics") as answer:
            text = await answer.text()
        who = f'model="{MODEL}",provider="openai",tenant="research"'
        assert f'tollkeeper_usage_tokens_total{{bucket="input",{who}}} 300.0' in text
        assert f"tollkeeper_usage_cost_nanodollars_total{{{who}}} 775000.0" in text
        assert 'tollkeeper_requests_total{outcome="ok",provider="openai",tenant="research"} 1.0' in text
        for path in ("/healthz", "/readyz"):
            async with session.get(path) as answer:
                assert answer.status == 200


PROGRAM = """
import asyncio, sys
from pathlib import Path
from tests.sidecar.builders import PROVIDER_KEY, policy
from tests.sidecar.conftest import now
from tests.sidecar.test_failures import TOKENS
from tollkeeper.policy import CurrentPolicy
from tollkeeper_sidecar import Gateway, GatewaySettings, Upstream
from tollkeeper_webhook.authority import LedgerAuthority

async def main():
    folder, upstream = Path(sys.argv[1]), Upstream("openai", sys.argv[2], PROVIDER_KEY)
    current = CurrentPolicy(policy(TOKENS))
    async with LedgerAuthority(folder / "ledger.db", current, now) as authority:
        settings = GatewaySettings(folder, (upstream,), port=0, metrics_port=0, report_seconds=0.05)
        running = await Gateway(settings, current, authority, now).start()
        print("at", running.url, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def started(folder: Path, upstream: str) -> tuple[asyncio.subprocess.Process, str]:
    """A gateway in a process of its own, and its address."""
    root = Path(__file__).parents[2]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        str(folder),
        upstream,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    async for line in process.stdout:
        if line.startswith(b"at "):
            return process, line.split()[1].decode()
    raise AssertionError("the gateway did not start")


async def keep_asking(url: str, answers: list[int]) -> None:
    """Stream after stream until the gateway is gone; counts whole ones."""
    async with openai.AsyncOpenAI(base_url=f"{url}/openai/v1", api_key=SECRET, max_retries=0) as client:
        while True:
            stream = await client.chat.completions.create(
                model=MODEL, messages=WORDS, stream=True, extra_headers={"Provider-Usage": "input=300,output=40"}
            )
            assert isinstance(stream, openai.AsyncStream)
            async for _ in stream:
                pass
            answers.append(1)


def has(answers: list[int], wanted: int) -> Callable[[], bool]:
    return lambda: len(answers) >= wanted


@pytest.mark.slow
async def test_after_kill_9_at_any_point_what_was_served_is_charged_or_stands_unreconciled(tmp_path: Path) -> None:
    """R17."""
    provider = await start_provider("127.0.0.1", 0, PROVIDER_KEY, tmp_path / "book", milliseconds_per_token=1)
    for answered_before_kill in (3, 11, 24):
        process, url = await started(tmp_path, provider.url)
        answers: list[int] = []
        callers = [asyncio.create_task(keep_asking(url, answers)) for _ in range(8)]
        await until(has(answers, answered_before_kill))
        process.send_signal(signal.SIGKILL)
        await process.wait()
        await asyncio.gather(*callers, return_exceptions=True)
    await provider.stop()
    process, _ = await started(tmp_path, provider.url)
    process.terminate()
    await process.wait()
    async with LedgerAuthority(tmp_path / "ledger.db", CurrentPolicy(policy(TOKENS)), now) as authority:
        surroundings = Stage(None, None, None, authority, provider, None)  # type: ignore[arg-type]
        account = surroundings.account(TOKENS)
        served = sum(sum(entry.buckets.counted().values()) for entry in surroundings.served())
        assert account.held == 0
        assert account.spent >= 340 * 38
        assert account.spent <= served <= account.spent + account.unreconciled
        assert account.overshoot == 0
