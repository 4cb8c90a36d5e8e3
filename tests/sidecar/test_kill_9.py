"""A gateway that is killed at any point, again and again."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import openai
import pytest

from tests.sidecar.builders import MODEL, PROVIDER_KEY, SECRET, policy
from tests.sidecar.conftest import Stage, now
from tests.sidecar.test_failures import TOKENS, WORDS, until
from tollkeeper.policy import CurrentPolicy
from tollkeeper_provider import start_provider
from tollkeeper_webhook.authority import LedgerAuthority

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
