"""A gateway that keeps bodies and is killed: what was being kept may be lost, usage is not."""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import openai
import pytest

from tests.ledger.captures.builders import keys
from tests.sidecar.builders import PROVIDER_KEY, policy
from tests.sidecar.conftest import Stage, now
from tests.sidecar.test_failures import TOKENS, until
from tests.sidecar.test_kill_9 import has, keep_asking
from tollkeeper.policy import CurrentPolicy
from tollkeeper_ledger.captures.sqlite import SqliteCaptures
from tollkeeper_ledger.captures.vault import Vault
from tollkeeper_provider import start_provider
from tollkeeper_webhook.authority import LedgerAuthority

PROGRAM = """
import asyncio, sys
from pathlib import Path
from tests.ledger.captures.builders import keys
from tests.sidecar.builders import PROVIDER_KEY, policy
from tests.sidecar.conftest import now
from tests.sidecar.bodies import KEPT
from tests.sidecar.test_failures import TOKENS
from tollkeeper.policy import CurrentPolicy
from tollkeeper_ledger.captures.sqlite import SqliteCaptures
from tollkeeper_ledger.captures.vault import Vault
from tollkeeper_sidecar import Gateway, GatewaySettings, Upstream
from tollkeeper_webhook.authority import LedgerAuthority

async def main():
    folder, upstream = Path(sys.argv[1]), Upstream("openai", sys.argv[2], PROVIDER_KEY)
    current = CurrentPolicy(policy(TOKENS, capture=KEPT))
    vault = Vault(SqliteCaptures(folder / "bodies.db"), keys())
    async with LedgerAuthority(folder / "ledger.db", current, now) as authority:
        settings = GatewaySettings(folder, (upstream,), port=0, metrics_port=0, report_seconds=0.05)
        running = await Gateway(settings, current, authority, now, vault).start()
        print("at", running.url, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def started(folder: Path, upstream: str) -> tuple[asyncio.subprocess.Process, str]:
    """A gateway in a process of its own, and its address."""
    root = str(Path(__file__).parents[2])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, str(folder), upstream),
        cwd=root,
        env={**os.environ, "PYTHONPATH": root},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async for line in process.stdout:
        if line.startswith(b"at "):
            return process, line.split()[1].decode()
    raise AssertionError("the gateway did not start")


@pytest.mark.slow
async def test_a_capture_that_is_lost_with_its_process_loses_no_usage_and_spoils_no_other(tmp_path: Path) -> None:
    """R17 and R27."""
    provider = await start_provider("127.0.0.1", 0, PROVIDER_KEY, tmp_path / "book", milliseconds_per_token=1)
    for answered_before_kill in (5, 17):
        process, url = await started(tmp_path, provider.url)
        answers: list[int] = []
        callers = [asyncio.create_task(keep_asking(url, answers)) for _ in range(8)]
        await until(has(answers, answered_before_kill))
        process.send_signal(signal.SIGKILL)
        await process.wait()
        ended = await asyncio.gather(*callers, return_exceptions=True)
        assert all(isinstance(one, openai.APIError | OSError) or one is None for one in ended)
    await provider.stop()
    process, _ = await started(tmp_path, provider.url)
    process.terminate()
    await process.wait()
    async with LedgerAuthority(tmp_path / "ledger.db", CurrentPolicy(policy(TOKENS)), now) as authority:
        surroundings = Stage(None, None, None, authority, provider, None)  # type: ignore[arg-type]
        account = surroundings.account(TOKENS)
        served = sum(sum(entry.buckets.counted().values()) for entry in surroundings.served())
        assert account.spent >= 340 * 22
        assert account.spent <= served <= account.spent + account.unreconciled
    with contextlib.closing(SqliteCaptures(tmp_path / "bodies.db")) as store:
        kept = [Vault(store, keys()).read(one.request_id, now()) for one in store.listed(None, now(), 1000)]
    assert 0 < len(kept) <= len(surroundings.served())
    assert all(one is not None and one.answer.content.endswith(b"[DONE]\n\n") for one in kept)
