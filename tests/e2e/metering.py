"""Gateway, authority and simulated provider in this process, over a policy built here: the metering path without Kubernetes."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tollkeeper.keys import ApiKey, fingerprint, new_secret
from tollkeeper.limits import Limit
from tollkeeper.policy import CurrentPolicy, PolicySet, TenantNode
from tollkeeper.prices import PriceList
from tollkeeper_provider import RunningProvider, start_provider
from tollkeeper_sidecar import Gateway, GatewaySettings, Upstream
from tollkeeper_webhook.authority import LedgerAuthority

PROVIDER_KEY = "sk-simulated"
CHAIN = ("project", "team", "department", "org")
"""A tree of four levels, the caller's tenant first."""


@dataclass(frozen=True, slots=True)
class Metered:
    """What a test asks and compares."""

    url: str
    key: str
    authority: LedgerAuthority
    provider: RunningProvider


def policy_of(limits: Sequence[Limit], key: str) -> PolicySet:
    nodes = {
        name: TenantNode(name, "/".join(reversed(CHAIN[at:])), CHAIN[at:], "Team", frozenset(), {})
        for at, name in enumerate(CHAIN)
    }
    api_key = ApiKey("k1", fingerprint(key), CHAIN[0])
    return PolicySet(1, nodes, tuple(limits), PriceList.bundled(), {}, {api_key.fingerprint: api_key})


@asynccontextmanager
async def metered(folder: Path, *limits: Limit) -> AsyncIterator[Metered]:
    key, _ = new_secret()
    policy = CurrentPolicy(policy_of(limits, key))
    provider = await start_provider("127.0.0.1", 0, PROVIDER_KEY, folder / "book.jsonl")
    try:
        async with LedgerAuthority(folder / "ledger.db", policy, lambda: datetime.now(UTC)) as authority:
            settings = GatewaySettings(
                folder, (Upstream("openai", provider.url, PROVIDER_KEY),), port=0, metrics_port=0
            )
            gateway = Gateway(settings, policy, authority, lambda: datetime.now(UTC))
            running = await gateway.start()
            try:
                yield Metered(f"{running.url}/openai/v1", key, authority, provider)
            finally:
                await gateway.stop()
    finally:
        await provider.stop()
