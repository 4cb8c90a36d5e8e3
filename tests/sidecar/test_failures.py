"""What goes wrong around a request: the provider, the client, the disk, the authority."""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.sidecar.builders import MODEL, PROVIDER_KEY, limit, policy
from tests.sidecar.conftest import SetUp, Stage, now
from tests.sidecar.test_spool import largest_file
from tollkeeper.amounts import Unit
from tollkeeper.counters import Counters
from tollkeeper.errors import Unavailable
from tollkeeper.leases import LeaseReply, LeaseRequest
from tollkeeper.limits import WhenStale
from tollkeeper.policy import CurrentPolicy
from tollkeeper.usage import UsageRecord
from tollkeeper_provider import start_provider
from tollkeeper_sidecar import Gateway, GatewaySettings, Upstream
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

    async def report(self, records: Sequence[UsageRecord], counters: Counters | None = None) -> None:
        await self._reached().report(records, counters)

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
