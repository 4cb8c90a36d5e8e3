"""The authority, on a real ledger: what its watch over holders does."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.ledger.builders import NOW, account_of, budget, policy
from tollkeeper.leases import LEASE_TIME, LeaseRequest, Want
from tollkeeper.policy import CurrentPolicy, PolicySet
from tollkeeper_ledger import bookkeeping
from tollkeeper_ledger.work import Work
from tollkeeper_webhook import authority as module
from tollkeeper_webhook.authority import LedgerAuthority

LIMIT = budget()
ACCOUNT = account_of(LIMIT)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - another thread makes it true
            await asyncio.sleep(0.01)


async def test_holders_lapse_once_a_ledger_that_could_not_be_written_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_FOR_LAPSED_SECONDS", 0.01)
    time = [NOW]
    async with LedgerAuthority(tmp_path / "ledger.db", CurrentPolicy(policy(LIMIT)), lambda: time[0]) as authority:
        await authority.lease(LeaseRequest("gone", 1, (Want(ACCOUNT, 300, 300),)))
        connection = authority._store._connection
        connection.execute("PRAGMA query_only = ON")
        time[0] = NOW + LEASE_TIME + timedelta(seconds=1)
        with capture_logs() as said:
            await until(lambda: sum("cannot lapse yet" in one["event"] for one in said) > 1)
        connection.execute("PRAGMA query_only = OFF")
        await until(lambda: (account := authority.reader.account(ACCOUNT)) is not None and account.unreconciled == 300)
        after = authority.reader.account(ACCOUNT)
        assert after is not None
        assert after.held == 0


async def test_holders_lapse_beside_one_whose_leases_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_FOR_LAPSED_SECONDS", 0.01)
    lapse, tries = bookkeeping.lapse, 0

    def defective(work: Work, policy: PolicySet, holder: str, now: datetime) -> None:
        nonlocal tries
        if holder == "odd":
            tries += 1
            raise KeyError("a defect")
        lapse(work, policy, holder, now)

    monkeypatch.setattr(bookkeeping, "lapse", defective)
    time = [NOW]
    async with LedgerAuthority(tmp_path / "ledger.db", CurrentPolicy(policy(LIMIT)), lambda: time[0]) as authority:
        await authority.lease(LeaseRequest("odd", 1, (Want(ACCOUNT, 200, 200),)))
        await authority.lease(LeaseRequest("gone", 1, (Want(ACCOUNT, 300, 300),)))
        time[0] = NOW + LEASE_TIME + timedelta(seconds=1)
        with capture_logs() as said:
            await until(lambda: tries > 2)
        after = authority.reader.account(ACCOUNT)
    assert after is not None
    assert (after.held, after.unreconciled) == (200, 300)
    assert [(one["holder"], one["log_level"]) for one in said] == [("odd", "error")]
