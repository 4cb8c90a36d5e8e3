"""What passes the gateway as it is, and what it says itself: refusals, a taken port, metrics and health."""

import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import openai
import orjson
import pytest
from aiohttp import web

from tests.sidecar.builders import MODEL, PROVIDER_KEY, SECRET, policy
from tests.sidecar.conftest import SetUp, Stage, now
from tests.sidecar.reference import ReferenceAuthority
from tests.sidecar.test_failures import TOKENS, WORDS, ask
from tollkeeper.policy import CurrentPolicy
from tollkeeper_sidecar import Gateway, GatewayError, GatewaySettings, Upstream


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
