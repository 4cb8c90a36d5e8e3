"""A record that the ledger cannot book: over the real authority it costs nobody else more than a moment."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.sidecar.builders import account_of, limit, policy, record
from tests.sidecar.conftest import SetUp, now
from tests.sidecar.reference import ReferenceAuthority
from tests.sidecar.test_failures import TOKENS, ask, until
from tests.sidecar.test_spool import content_of, names_in, spool
from tollkeeper.amounts import LARGEST
from tollkeeper.counters import SETTLED, Counters
from tollkeeper.errors import InvalidValue, Unavailable
from tollkeeper.leases import LeaseRequest, Want
from tollkeeper.limits import Enforcement
from tollkeeper.policy import CurrentPolicy
from tollkeeper.usage import Charge, UsageRecord
from tollkeeper_sidecar import reporter as reporting
from tollkeeper_sidecar.delivery import deliver
from tollkeeper_sidecar.recovery import recover
from tollkeeper_sidecar.reporter import Reporter
from tollkeeper_sidecar.spool_format import read_files
from tollkeeper_webhook.authority import LedgerAuthority

DEAR = limit("dear", 10**9, enforcement=Enforcement.SOFT)
OTHER = limit("other", 10**9)
HUGE = 2**62


class Picky(ReferenceAuthority):
    """An authority that cannot book some requests, whatever is tried."""

    def __init__(self, *odd: str) -> None:
        super().__init__([OTHER])
        self.odd = set(odd)
        self.reports = 0

    async def report(self, records: Sequence[UsageRecord], counters: Counters | None = None) -> None:
        self.reports += bool(records)
        if any(one.id in self.odd for one in records) and not self.away:
            raise InvalidValue("it fits no column")
        await super().report(records, counters)


@given(st.lists(st.booleans(), min_size=1, max_size=40))
async def test_delivery_tells_of_each_record_once_in_order(are_odd: list[bool]) -> None:
    records = [record(f"r{number}") for number in range(len(are_odd))]
    authority = Picky(*(one.id for one, odd in zip(records, are_odd, strict=True) if odd))
    told: list[tuple[str, bool]] = []
    await deliver(
        authority,
        records,
        lambda batch: told.extend((one.id, False) for one in batch),
        lambda one, _error: told.append((one.id, True)),
    )
    assert told == [(one.id, odd) for one, odd in zip(records, are_odd, strict=True)]
    assert list(authority.booked) == [one for one, odd in told if not odd]
    assert authority.reports < 2 * len(records)


async def test_one_record_that_the_ledger_cannot_store_stops_no_other_and_no_lease(tmp_path: Path) -> None:
    dear, other = (account_of(one, now=now()) for one in (DEAR, OTHER))
    booked: dict[str, float] = {}
    kept = spool(tmp_path)

    def is_booked(batch: Sequence[UsageRecord]) -> None:
        booked.update((one.id, time.monotonic()) for one in batch)

    async with LedgerAuthority(tmp_path / "ledger.db", CurrentPolicy(policy(DEAR, OTHER)), now) as authority:
        with capture_logs() as logs:
            async with Reporter(authority, kept, is_booked, every_seconds=0.05) as reporter:
                for number in range(20):
                    reporter.add(_used(f"huge-{number}", dear, HUGE))
                await until(lambda: reporter.set_aside == 19)
                for number in range(10):
                    added = time.monotonic()
                    reporter.add(_used(f"huge-{20 + number}", dear, HUGE))
                    reporter.add(_used(f"other-{number}", other, 5))
                    await until(_has(booked, f"other-{number}"))
                    assert booked[f"other-{number}"] - added < 1
                await until(lambda: reporter.set_aside == 29)
                reply = await authority.lease(LeaseRequest("holder-1", 1, (Want(other, 100, 100),)))
                assert [one.amount for one in reply.granted] == [100]
                assert (reporter.waiting, kept.unbooked) == (29, 29)
                assert not await reporter.finish(10)
        spent = {one: known.spent for one in (dear, other) if (known := authority.reader.account(one))}
        assert spent == {dear: HUGE, other: 50}
    assert [entry["log_level"] for entry in logs] == ["error"]
    assert logs[0]["request"] == "huge-1"
    assert "is too large" in logs[0]["error"]
    await kept.close(finished=False)


def _used(request: str, account: str, amount: int) -> UsageRecord:
    return record(request, "holder-1", Charge(account, amount, 0), cost=amount, admitted_at=now(), finished_at=now())


def _has(booked: dict[str, float], request: str) -> Callable[[], bool]:
    return lambda: request in booked


async def test_what_is_set_aside_is_tried_again_after_pauses_that_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "FIRST_RETRY_SECONDS", 0.02)
    monkeypatch.setattr(reporting, "LONGEST_RETRY_SECONDS", 0.08)
    authority, kept = Picky("odd"), spool(tmp_path)
    async with Reporter(authority, kept, lambda _: None, every_seconds=0.005) as reporter:
        reporter.add(record("odd"))
        started = time.monotonic()
        await until(lambda: authority.reports >= 5)
        assert time.monotonic() - started >= 0.02 + 0.04 + 0.08 + 0.08
        authority.odd.clear()
        await until(lambda: reporter.waiting == 0)
        assert set(authority.booked) == {"odd"}
    await kept.close(finished=True)


async def test_the_authority_knows_how_much_was_settled_also_of_what_it_cannot_book(tmp_path: Path) -> None:
    """I2: what waits at a gateway is known by the gateway's count."""
    authority, kept = Picky("odd"), spool(tmp_path)

    def told() -> list[int]:
        return [authority.counters.get(kept.holder, {}).get(series, 0) for series in SETTLED]

    async with Reporter(authority, kept, lambda _: None, every_seconds=0.005) as reporter:
        for number, name in enumerate(("one", "odd", "two"), start=1):
            reporter.add(record(name))
            expected = [number, number * 110, number * 225_000]
            await until(lambda expected=expected: told() == expected)  # type: ignore[misc]
        assert (set(authority.booked), reporter.waiting) == ({"one", "two"}, 1)
    await kept.close(finished=True)


async def test_while_the_authority_is_away_what_is_set_aside_stays(tmp_path: Path) -> None:
    authority, kept = Picky("odd"), spool(tmp_path)
    async with Reporter(authority, kept, lambda _: None, every_seconds=0.01) as reporter:
        reporter.add(record("odd"))
        await until(lambda: reporter.set_aside == 1)
        authority.away = True
        reporter.add(record("even"))
        assert not await reporter.finish(0.2)
        assert (reporter.waiting, reporter.set_aside) == (2, 1)
    await kept.close(finished=False)


async def test_a_record_that_stays_unbooked_keeps_no_files_of_booked_ones(tmp_path: Path) -> None:
    small = spool(tmp_path, segment=4096)
    odd = record("odd")
    small.settle(odd)
    for number in range(40):
        small.hold(f"r{number}", {account_of(OTHER): 1})
        small.settle(record(f"r{number}"))
    small.booked([f"r{number}" for number in range(40)])
    assert len(content_of(tmp_path)) > 3
    await small.move_on([odd])
    left = content_of(tmp_path)
    assert len(left) == 1
    assert "odd" in read_files(left.items()).records
    await small.move_on([odd])
    assert content_of(tmp_path) == left
    small.booked(["odd"])
    assert small.unbooked == 0
    await small.close(finished=True)


async def test_a_record_that_no_line_of_the_spool_can_hold_ends_as_others_do(tmp_path: Path) -> None:
    authority, kept = Picky("huge"), spool(tmp_path)
    async with Reporter(authority, kept, lambda _: None, every_seconds=0.01) as reporter:
        assert not reporter.add(record("huge", cost=2**64))
        assert reporter.add(record("even"))
        await until(lambda: "even" in authority.booked and reporter.set_aside == 1)
        assert reporter.not_on_disk == 1
    await kept.close(finished=True)


async def _left(directory: Path, holder: str, *requests: str) -> None:
    """A spool as a kill leaves it: these requests settled, each held for 10 and used 7, and another one open at 30."""
    abandoned = spool(directory, holder)
    abandoned.hold(f"open-{holder}", {account_of(OTHER): 30})
    for request in requests:
        abandoned.hold(request, {account_of(OTHER): 10})
        abandoned.settle(record(request, holder, Charge(account_of(OTHER), 7, 10)))
    await abandoned.close(finished=False)


async def test_recovery_goes_round_a_record_that_cannot_be_booked(tmp_path: Path) -> None:
    authority = Picky("odd")
    for holder in ("holder-1", "holder-2"):
        await authority.lease(LeaseRequest(holder, 1, (Want(account_of(OTHER), 100, 100),)))
    await _left(tmp_path, "holder-1", "a", "odd", "b")
    await _left(tmp_path, "holder-2", "c")
    done = await recover(tmp_path, authority, "boot-1")
    assert isinstance(done.fault, InvalidValue)
    assert done.holders == 1
    assert set(authority.booked) == {"a", "b", "c"}
    assert authority.closed == {"holder-1": {account_of(OTHER): 40}, "holder-2": {account_of(OTHER): 30}}
    assert names_in(tmp_path) == ["holder-1"]
    authority.odd.clear()
    done = await recover(tmp_path, authority, "boot-1")
    assert (done.fault, done.holders) == (None, 1)
    assert "odd" in authority.booked
    assert names_in(tmp_path) == []


async def test_recovery_over_the_real_ledger_books_what_was_left_once_it_can(tmp_path: Path) -> None:
    account, spools = account_of(OTHER, now=now()), tmp_path / "spools"
    spools.mkdir()
    left = spool(spools)
    for request, used in (("a", 7), ("odd", 8), ("b", 9)):
        left.hold(request, {account: 10})
        left.settle(_used(request, account, used) if request != "odd" else _odd(account))
    await left.close(finished=False)
    async with LedgerAuthority(tmp_path / "ledger.db", CurrentPolicy(policy(OTHER)), now) as authority:
        await authority.lease(LeaseRequest("holder-1", 1, (Want(account, 100, 100),)))
        for _ in range(2):
            done = await recover(spools, authority, "boot-1")
            assert isinstance(done.fault, InvalidValue)
            known = authority.reader.account(account)
            assert known is not None
            assert (known.spent, known.held, known.unreconciled) == (16, 0, 10)
        assert names_in(spools) == ["holder-1"]


def _odd(account: str) -> UsageRecord:
    return record("odd", "holder-1", Charge(account, 8, 10), cost=LARGEST + 1, admitted_at=now(), finished_at=now())


async def test_recovery_gives_up_on_a_spool_of_which_nothing_is_taken(tmp_path: Path) -> None:
    requests = [f"r{number}" for number in range(1200)]
    authority = Picky(*requests)
    await _left(tmp_path, "holder-1", *requests)
    done = await recover(tmp_path, authority, "boot-1")
    assert isinstance(done.fault, InvalidValue)
    assert authority.reports < 2 * 500
    assert authority.closed == {"holder-1": {account_of(OTHER): 12_030}}
    authority.away = True
    with pytest.raises(Unavailable):
        await recover(tmp_path, authority, "boot-1")


async def test_a_gateway_with_a_record_set_aside_is_ready_and_says_so(stage: SetUp) -> None:
    running = await stage(policy(DEAR), report_seconds=0.02)
    account = account_of(DEAR, now=now())
    await running.authority.report([_used("before", account, LARGEST)])
    await ask(running, "slow=0")
    running.policy.publish(policy(TOKENS))
    await until(lambda: running.gateway._reporter.set_aside == 1)
    await ask(running, "slow=0")
    await until(lambda: running.gateway._reporter.waiting == 1)
    async with aiohttp.ClientSession(running.running.metrics_url) as session:
        async with session.get("/readyz") as answer:
            assert answer.status == 200
        async with session.get("/metrics") as answer:
            text = await answer.text()
    assert "tollkeeper_gateway_set_aside_requests 1.0" in text
    assert "tollkeeper_gateway_unreported_requests 1.0" in text
    assert running.account(TOKENS).spent == 340
