"""A whole gateway on loopback: the simulated provider behind it, a real ledger and authority beside it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.sidecar.builders import PROVIDER_KEY, SECRET, account_of
from tests.sidecar.remembering import Remembering
from tollkeeper.accounts import Account
from tollkeeper.captures import Keeper
from tollkeeper.limits import Limit
from tollkeeper.policy import CurrentPolicy, PolicySet
from tollkeeper_provider import BookEntry, RunningProvider, read_book, start_provider
from tollkeeper_sidecar import Gateway, GatewaySettings, RunningGateway, Upstream
from tollkeeper_webhook.authority import LedgerAuthority


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Stage:
    """A running gateway with its surroundings."""

    gateway: Gateway
    running: RunningGateway
    policy: CurrentPolicy
    authority: LedgerAuthority
    provider: RunningProvider
    clients: AsyncExitStack

    async def client(self, secret: str = SECRET, **options: Any) -> openai.AsyncOpenAI:
        """The official client, pointed at the gateway; it retries nothing unless told."""
        opened = openai.AsyncOpenAI(
            base_url=f"{self.running.url}/openai/v1", api_key=secret, **({"max_retries": 0} | options)
        )
        return await self.clients.enter_async_context(opened)

    def account(self, limit: Limit, *values: str) -> Account:
        """A limit's account as it stands in the ledger now."""
        account = self.authority.reader.account(account_of(limit, *values, now=now()))
        assert account is not None
        return account

    def served(self) -> list[BookEntry]:
        """The provider's own book."""
        return list(read_book(self.provider.book_path))

    async def finished(self) -> None:
        """Stop the gateway, so that everything is reported."""
        await self.gateway.stop()


SetUp = Callable[..., Awaitable[Stage]]


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[SetUp]:
    """Sets up a stage for a policy; settings may be changed by name."""
    async with AsyncExitStack() as all_of_it:

        async def set_up(policy: PolicySet, keeper: Keeper | None = None, **changes: Any) -> Stage:
            current = CurrentPolicy(policy)
            provider = await start_provider("127.0.0.1", 0, PROVIDER_KEY, tmp_path / "provider.jsonl")
            all_of_it.push_async_callback(provider.stop)
            authority = await all_of_it.enter_async_context(LedgerAuthority(tmp_path / "ledger.db", current, now))
            upstream = Upstream("openai", provider.url, PROVIDER_KEY)
            settings = GatewaySettings(tmp_path, (upstream,), port=0, metrics_port=0, drain_seconds=5)
            gateway = Gateway(replace(settings, **changes), current, authority, now, keeper)
            running = await gateway.start()
            all_of_it.push_async_callback(gateway.stop)
            clients = await all_of_it.enter_async_context(AsyncExitStack())
            return Stage(gateway, running, current, authority, provider, clients)

        yield set_up


@pytest.fixture
def keeper() -> Iterator[Remembering]:
    one = Remembering()
    yield one
    one.may_go_on.set()
