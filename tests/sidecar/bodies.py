"""A tenant that wants its bodies kept, who keeps them, and how it is asked."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import aiohttp

from tests.sidecar.builders import MODEL, SECRET, limit, policy
from tests.sidecar.conftest import Stage
from tollkeeper.amounts import Unit
from tollkeeper.captures import KeptBodies
from tollkeeper.policy import PolicySet
from tollkeeper.redactionrules import UNLESS_STATED, OwnPattern, Redaction

TOKENS = limit("tokens", 10**7, Unit.TOKENS)
KEPT = KeptBodies(timedelta(days=30), Redaction())
SPLIT = KeptBodies(timedelta(days=1), Redaction(UNLESS_STATED, (OwnPattern("split", "and for you"),)))
HOSTILE = KeptBodies(timedelta(days=1), Redaction((), (OwnPattern("own", "a.*b|a"),)))
OTHER_SECRET = "tk_ba9876543210_secret"
OTHER = {"Authorization": f"Bearer {OTHER_SECRET}"}
MAIL = "alice@example.com"
USAGE = {"Provider-Usage": "input=300,output=40"}
Headers = dict[str, str]


def asking(kept: KeptBodies | None = KEPT) -> PolicySet:
    return policy(TOKENS, capture=kept)


def question(**fields: Any) -> bytes:
    """A body with odd spaces, as a caller may send one."""
    return json.dumps({"messages": [{"role": "user", "content": "why?"}], "model": MODEL, **fields}, indent=1).encode()


@asynccontextmanager
async def answered(
    running: Stage, body: bytes, headers: Headers | None = None
) -> AsyncIterator[aiohttp.ClientResponse]:
    sent = {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json", **USAGE, **(headers or {})}
    url = f"{running.running.url}/openai/v1/chat/completions"
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=sent) as answer:
        yield answer


async def ask(running: Stage, body: bytes, headers: Headers | None = None) -> tuple[int, str, bytes]:
    async with answered(running, body, headers) as answer:
        return answer.status, answer.headers["Tollkeeper-Request-Id"], await answer.read()


async def counted(running: Stage, name: str) -> float:
    async with aiohttp.ClientSession() as session, session.get(f"{running.running.metrics_url}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


async def until_counted(running: Stage, name: str, count: float) -> None:
    async with asyncio.timeout(30):
        while await counted(running, name) != count:  # noqa: ASYNC110 - the condition is another thread's
            await asyncio.sleep(0.01)
