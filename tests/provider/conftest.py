"""A simulated provider and the official client, for each test its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest

from tollkeeper_provider import RunningProvider, start_provider

KEY = "sk-simulated"


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[RunningProvider]:
    running = await start_provider("127.0.0.1", 0, KEY, tmp_path / "provider.jsonl")
    yield running
    await running.stop()


@pytest.fixture
async def client(provider: RunningProvider) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=provider.openai_base_url, api_key=KEY, max_retries=0) as opened:
        yield opened
