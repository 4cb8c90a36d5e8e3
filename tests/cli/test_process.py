"""The process behind `tollkeeper up`: what it says of usage that is not booked."""

import contextlib
import json
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.sidecar.builders import PROVIDER_KEY, limit, policy
from tests.sidecar.conftest import Stage, now
from tests.sidecar.test_failures import Flaky, ask
from tollkeeper.amounts import Unit
from tollkeeper.limits import WhenStale
from tollkeeper.policy import CurrentPolicy
from tollkeeper_cli.process import _stop_gateway
from tollkeeper_provider import start_provider
from tollkeeper_sidecar import Gateway, GatewaySettings, Upstream
from tollkeeper_sidecar import gateway as gateways
from tollkeeper_webhook.authority import LedgerAuthority


async def test_usage_that_could_not_be_booked_has_an_age_and_is_told_at_the_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateways, "FINISH_SECONDS", 0.1)
    current = CurrentPolicy(policy(limit("open", 10**6, Unit.TOKENS, when_stale=WhenStale.FAIL_OPEN)))
    provider = await start_provider("127.0.0.1", 0, PROVIDER_KEY, tmp_path / "book")
    async with LedgerAuthority(tmp_path / "ledger.db", current, now) as ledger, contextlib.AsyncExitStack() as clients:
        authority, upstream = Flaky(ledger), Upstream("openai", provider.url, PROVIDER_KEY)
        settings = GatewaySettings(tmp_path, (upstream,), port=0, metrics_port=0)
        gateway = Gateway(settings, current, authority, now)
        stage = Stage(gateway, await gateway.start(), current, ledger, provider, clients)
        assert gateway.oldest_unreported is None
        authority.away = True
        await ask(stage, "slow=0")
        oldest = gateway.oldest_unreported
        assert oldest is not None
        assert timedelta(0) <= now() - oldest < timedelta(minutes=1)
        with capture_logs() as logs:
            await _stop_gateway(gateway)
        told = [one["event"] for one in logs if one["log_level"] == "warning" and "next start" in one["event"]]
        assert told == ["1 request waits in the spool for the next start, which books what is there"]
        authority.away = False
        again = Gateway(settings, current, authority, now)
        await again.start()
        with capture_logs() as logs:
            await _stop_gateway(again)
        assert not any("next start" in json.dumps(one, default=str) for one in logs)
    await provider.stop()
