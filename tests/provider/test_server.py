import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest

from tollkeeper_provider import (
    BookError,
    Buckets,
    PricesError,
    ProviderError,
    ProviderSettings,
    RunningProvider,
    read_book,
    serve,
    start_provider,
)

KEY = "sk-simulated"


def client_of(base_url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=base_url, api_key=KEY, max_retries=0)


async def ask(client: openai.AsyncOpenAI, usage: str, *, stream: bool, behaviour: str = "slow=0") -> str:
    """The id of an answer that was read to its end."""
    headers = {"Provider-Usage": usage, "Provider-Behaviour": behaviour}
    if not stream:
        answer = await client.chat.completions.create(
            model="house", messages=[{"role": "user", "content": "x"}], extra_headers=headers
        )
        return answer.id
    ended = ""
    async with await client.chat.completions.create(
        model="house", messages=[{"role": "user", "content": "x"}], extra_headers=headers, stream=True
    ) as chunks:
        async for chunk in chunks:
            ended = chunk.id if chunk.choices[0].finish_reason else ""
    assert ended, "the stream ended without a finish reason"
    return ended


async def test_a_taken_port_is_one_clear_line_and_leaves_the_book_free(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ProviderError) as raised:
            await start_provider("127.0.0.1", port, KEY, tmp_path / "book")

    assert str(raised.value) == (
        f"provider: cannot listen on 127.0.0.1:{port}: the port is taken; "
        "choose another port with --port, or 0 for a free one"
    )
    await (await start_provider("127.0.0.1", 0, KEY, tmp_path / "book")).stop()


async def test_a_book_in_use_or_a_bad_price_file_stops_the_start(tmp_path: Path) -> None:
    running = await start_provider("127.0.0.1", 0, KEY, tmp_path / "book")
    with pytest.raises(BookError, match="in use"):
        await start_provider("127.0.0.1", 0, KEY, tmp_path / "book")
    with pytest.raises(PricesError):
        await start_provider("127.0.0.1", 0, KEY, tmp_path / "other", prices=tmp_path / "missing")
    await running.stop()


def test_settings_that_cannot_work_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match="the key is empty"):
        ProviderSettings(key="", book=tmp_path)
    with pytest.raises(ProviderError, match="-1 ms a token"):
        ProviderSettings(key=KEY, book=tmp_path, milliseconds_per_token=-1)


def test_the_key_does_not_show_in_the_settings(tmp_path: Path) -> None:
    assert KEY not in repr(ProviderSettings(key=KEY, book=tmp_path))


async def test_it_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    stop = asyncio.Event()
    ready: asyncio.Future[RunningProvider] = asyncio.get_running_loop().create_future()
    prices = tmp_path / "prices.yaml"
    prices.write_text('models: [{model: house, perMillion: {input: "1", output: "2"}}]')
    settings = ProviderSettings(key=KEY, book=tmp_path / "book", port=0, prices=prices)
    serving = asyncio.create_task(serve(settings, stop, ready.set_result))
    running = await asyncio.wait_for(ready, 10)

    async with client_of(running.openai_base_url) as client:
        await ask(client, "input=3,output=2", stream=False)
    stop.set()
    await asyncio.wait_for(serving, 10)

    assert [entry.cost_nanodollars for entry in read_book(settings.book)] == [3 * 1000 + 2 * 2000]
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", running.port)


@pytest.mark.parametrize("stream", [True, False])
async def test_what_is_being_generated_when_it_stops_is_booked_as_far_as_it_got(tmp_path: Path, stream: bool) -> None:
    running = await start_provider("127.0.0.1", 0, KEY, tmp_path / "book")
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(_raw_request(stream=stream))
    await writer.drain()
    if stream:
        await asyncio.wait_for(reader.readuntil(b'"content":"the "'), 10)
    else:
        await _answered_after(running)
    await running.stop()
    rest = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    await writer.wait_closed()

    assert b"[DONE]" not in rest
    assert b'finish_reason":"' not in rest
    (booked,) = read_book(tmp_path / "book")
    assert not booked.completed
    assert booked.buckets.input == 3
    assert booked.buckets.output < 100_000


def _raw_request(*, stream: bool) -> bytes:
    """A slow request, written at once: a client library does not tell when it has sent one."""
    body = json.dumps({"model": "house", "stream": stream, "messages": [{"role": "user", "content": "x"}]})
    return (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: provider\r\n"
        f"Authorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n"
        "Provider-Usage: input=3,output=100000\r\nProvider-Behaviour: slow=1\r\n\r\n"
        f"{body}"
    ).encode()


async def _answered_after(running: RunningProvider) -> None:
    """Return when requests that were sent later are answered: the provider has then begun with those before."""
    async with client_of(running.openai_base_url) as other:
        for _ in range(3):
            await other.models.list()


SERVE = """
import asyncio, resource, sys
from pathlib import Path
from tollkeeper_provider import ProviderSettings, serve

def ready(running):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
    print(running.openai_base_url, flush=True)

settings = ProviderSettings(key="sk-simulated", book=Path(sys.argv[1]), port=0)
asyncio.run(serve(settings, asyncio.Event(), ready))
"""


@contextlib.asynccontextmanager
async def process_of_its_own(book: Path, largest_book: int = 2**30) -> AsyncIterator[tuple[int, str]]:
    """The provider's process id and base URL; its book can grow to `largest_book` bytes, then its disk is full."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVE, str(book), str(largest_book), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield process.pid, (await asyncio.wait_for(process.stdout.readline(), 30)).decode().strip()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_an_answer_that_cannot_be_booked_is_not_given(tmp_path: Path) -> None:
    async with process_of_its_own(tmp_path / "book", largest_book=1) as (_, base_url), client_of(base_url) as client:
        with pytest.raises(openai.InternalServerError, match="cannot be written: File too large; make room"):
            await ask(client, "input=3,output=2", stream=False)
        with pytest.raises(openai.APIConnectionError):
            await ask(client, "input=3,output=2", stream=True)

    assert read_book(tmp_path / "book") == []


@pytest.mark.parametrize("stream", [True, False])
async def test_no_answer_that_a_client_read_to_its_end_is_missing_after_kill_9(tmp_path: Path, stream: bool) -> None:
    path, answered = tmp_path / "book", list[str]()

    async with process_of_its_own(path) as (pid, base_url), client_of(base_url) as client:

        async def keep_asking() -> None:
            with contextlib.suppress(openai.APIConnectionError):
                while True:
                    answered.append(await ask(client, "input=3,output=2", stream=stream))
                    if len(answered) == 60:
                        os.kill(pid, signal.SIGKILL)

        await asyncio.wait_for(asyncio.gather(*(keep_asking() for _ in range(8))), 60)

    await (await start_provider("127.0.0.1", 0, KEY, path)).stop()
    booked = {entry.id: entry for entry in read_book(path)}
    assert len(answered) >= 60
    assert all(booked[one].buckets == Buckets(input=3, output=2) for one in answered)


async def _leave(running: RunningProvider, request: bytes, *, after: bytes) -> None:
    """Send a request, read up to `after`, and go away as a killed client does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(request)
    await writer.drain()
    if after:
        await asyncio.wait_for(reader.readuntil(after), 10)
    writer.transport.abort()


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("whole", [True, False])
async def test_a_client_that_leaves_in_the_middle_is_no_error_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, stream: bool, whole: bool
) -> None:
    running = await start_provider("127.0.0.1", 0, KEY, tmp_path / "book")
    request = _raw_request(stream=stream)
    if not whole:
        await _leave(running, request[:-10], after=b"")
    elif stream:
        await _leave(running, request, after=b'"content":"the "')
    else:
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(request)
        await writer.drain()
        await _answered_after(running)
        writer.transport.abort()
    async with client_of(running.openai_base_url) as client:
        await ask(client, "input=1,output=1", stream=False)
    await running.stop()

    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert len(read_book(tmp_path / "book")) == (2 if whole else 1)
