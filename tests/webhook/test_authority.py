"""Who is heard of holds, who is not lapses: the authority over a real ledger, with a clock of the test's own."""

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.ledger.builders import NOW, Desk, account_of, budget, policy, record
from tests.postgres_server import PostgresServer
from tollkeeper.accounts import Account
from tollkeeper.counters import Tally
from tollkeeper.leases import LEASE_TIME, LeaseRequest, Reason, Want
from tollkeeper.policy import CurrentPolicy, PolicySet
from tollkeeper.usage import Charge
from tollkeeper_ledger import bookkeeping
from tollkeeper_ledger.corrections import Change, adjust
from tollkeeper_ledger.counting import BOOKED_FOR, MISSED_FOR
from tollkeeper_ledger.errors import LedgerUnavailable
from tollkeeper_ledger.sqlite import SqliteStore
from tollkeeper_ledger.storage import LedgerAt, PostgresLedger
from tollkeeper_ledger.work import Work
from tollkeeper_webhook import authority as module
from tollkeeper_webhook.authority import LedgerAuthority
from tollkeeper_webhook.quiet import QUIET_SECONDS

LIMIT = budget()
ACCOUNT = account_of(LIMIT)
LONG = LEASE_TIME + timedelta(seconds=1)


class Running:
    """An authority, the time it goes by, and requests in sequence."""

    def __init__(self, ledger: LedgerAt) -> None:
        self.now = NOW
        self.asked = asyncio.Event()
        self.authority = LedgerAuthority(ledger, CurrentPolicy(policy(LIMIT)), self.time)
        self.sequence = 0

    def time(self) -> datetime:
        self.asked.set()
        return self.now

    async def lease(self, holder: str, amount: int = 100) -> None:
        self.sequence += 1
        await self.authority.lease(LeaseRequest(holder, self.sequence, (Want(ACCOUNT, amount, amount),)))

    @property
    def account(self) -> Account:
        known = self.authority.reader.account(ACCOUNT)
        assert known is not None
        return known


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    one = Running(tmp_path / "ledger.db")
    async with one.authority:
        yield one


async def test_a_holder_that_is_not_heard_of_for_a_lease_time_lapses(running: Running) -> None:
    await running.lease("g1")
    await running.authority.lapse_unheard()
    assert (running.account.held, running.account.unreconciled) == (100, 0)
    running.now += LONG
    await running.authority.lapse_unheard()
    assert (running.account.held, running.account.unreconciled) == (0, 100)


async def test_a_call_that_comes_again_late_does_not_keep_its_holder_from_lapsing(running: Running) -> None:
    await running.lease("g1")
    await running.lease("g1")
    await running.authority.lapse_unheard()
    running.now += LONG
    await running.authority.lease(LeaseRequest("g1", 1, (Want(ACCOUNT, 100, 100),)))
    await running.authority.lapse_unheard()
    assert (running.account.held, running.account.unreconciled) == (0, 200)


async def test_a_holder_heard_of_while_it_lapses_is_watched_again(running: Running) -> None:
    await running.lease("g1")
    running.now += LONG
    await asyncio.gather(running.authority.lapse_unheard(), running.lease("g1", 1))
    assert running.account.held == 101
    running.now += LONG
    await running.authority.lapse_unheard()
    assert (running.account.held, running.account.unreconciled) == (0, 101)


async def test_a_holder_that_ends_while_it_lapses_stops_nobody_from_lapsing(running: Running) -> None:
    await running.lease("g1")
    await running.lease("g2")
    running.now += LONG
    await asyncio.gather(running.authority.lapse_unheard(), running.authority.close("g1", {}))
    await running.authority.lapse_unheard()
    assert (running.account.held, running.account.unreconciled) == (0, 100)


async def test_a_clock_that_is_set_back_lets_nobody_lapse_that_has_called_since(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_FOR_LAPSED_SECONDS", 0.01)
    lapse_unheard, looked = running.authority.lapse_unheard, asyncio.Event()

    async def look() -> None:
        await lapse_unheard()
        looked.set()

    monkeypatch.setattr(running.authority, "lapse_unheard", look)
    watch = asyncio.create_task(running.authority._look_for_lapsed())
    await looked.wait()
    running.now -= timedelta(hours=1)
    await running.lease("g1")
    for _ in range(2):
        looked.clear()
        await looked.wait()
    watch.cancel()
    assert (running.account.held, running.account.unreconciled) == (100, 0)


async def test_time_in_which_the_authority_stood_still_lets_nobody_lapse(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a machine that slept does, or a clock that is set: all at once it is later."""
    lapse_unheard, looked = running.authority.lapse_unheard, asyncio.Event()

    async def look() -> None:
        await lapse_unheard()
        looked.set()

    monkeypatch.setattr(running.authority, "lapse_unheard", look)
    monkeypatch.setattr(module, "LOOK_FOR_LAPSED_SECONDS", 0.01)
    await running.lease("g1")
    watch = asyncio.create_task(running.authority._look_for_lapsed())
    for jump in (LONG, timedelta(hours=1), -timedelta(hours=1)):
        for at_once in (timedelta(0), jump):
            running.now += at_once
            looked.clear()
            await looked.wait()
        assert (running.account.held, running.account.unreconciled) == (100, 0)
    watch.cancel()
    running.now += LEASE_TIME - timedelta(seconds=1)
    await lapse_unheard()
    assert (running.account.held, running.account.unreconciled) == (100, 0)
    running.now += timedelta(seconds=2)
    await lapse_unheard()
    assert (running.account.held, running.account.unreconciled) == (0, 100)


async def test_a_look_that_takes_long_keeps_nobody_from_lapsing_that_could_be_heard_meanwhile(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, done, lapsed = asyncio.Event(), asyncio.Event(), asyncio.Event()
    looks = 0

    async def lapse_unheard() -> None:
        nonlocal looks
        looks += 1
        await LedgerAuthority.lapse_unheard(running.authority)
        if looks == 2:
            lapsed.set()

    async def take_long() -> None:
        begun.set()
        await done.wait()

    await running.lease("g1")
    monkeypatch.setattr(module, "LOOK_FOR_LAPSED_SECONDS", 0.01)
    monkeypatch.setattr(running.authority, "lapse_unheard", lapse_unheard)
    monkeypatch.setattr(running.authority, "settle_owed", take_long)
    watch = asyncio.create_task(running.authority._look_for_lapsed())
    async with asyncio.timeout(10):
        await begun.wait()
        for _ in range(31):
            running.now += timedelta(seconds=2)
            running.asked.clear()
            await running.asked.wait()
        done.set()
        await lapsed.wait()
    watch.cancel()
    assert (running.account.held, running.account.unreconciled) == (0, 100)


async def test_a_look_that_fails_is_followed_by_the_next_one(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, twice = 0, asyncio.Event()

    async def defective() -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            twice.set()
        raise KeyError("a defect")

    monkeypatch.setattr(module, "LOOK_FOR_LAPSED_SECONDS", 0.01)
    monkeypatch.setattr(running.authority, "lapse_unheard", defective)
    watch = asyncio.create_task(running.authority._look_for_lapsed())
    with capture_logs() as said:
        async with asyncio.timeout(10):
            await twice.wait()
    watch.cancel()
    assert said[0]["log_level"] == "error"


async def test_a_holder_whose_call_waits_here_for_longer_than_a_lease_time_lives(running: Running) -> None:
    await running.lease("g1")
    hold, held = threading.Event(), threading.Event()

    def slow(work: Work) -> None:
        held.set()
        hold.wait(10)

    waiting = [asyncio.create_task(running.authority._submit(slow))]
    await asyncio.to_thread(held.wait, 10)
    waiting.append(asyncio.create_task(running.lease("g1", 50)))
    await asyncio.sleep(0)
    running.now += LONG
    waiting.append(asyncio.create_task(running.authority.lapse_unheard()))
    hold.set()
    await asyncio.gather(*waiting)
    assert await running.authority._holders_of({ACCOUNT}) == {ACCOUNT: ["g1"]}


async def test_a_ledger_that_takes_long_to_answer_lets_no_holder_of_another_authority_lapse(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = PostgresLedger(postgres.new_database())
    one, two = Running(ledger), Running(ledger)
    async with one.authority:
        await one.lease("g1")
        async with two.authority:
            await one.lease("g1")
            live_holders = two.authority.reader.live_holders

            def slow() -> Mapping[str, int]:
                two.now += LONG
                return live_holders()

            with monkeypatch.context() as slowly:
                slowly.setattr(two.authority.reader, "live_holders", slow)
                await two.authority.lapse_unheard()
            await two.authority.lapse_unheard()
            assert (two.account.held, two.account.unreconciled) == (200, 0)


async def test_time_in_which_the_ledger_was_away_lets_no_holder_of_another_authority_lapse(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = PostgresLedger(postgres.new_database())
    one, two = Running(ledger), Running(ledger)
    async with one.authority, two.authority:
        await one.lease("g1")
        await two.authority.lapse_unheard()

        def away() -> dict[str, int]:
            raise LedgerUnavailable("away")

        with monkeypatch.context() as outage:
            outage.setattr(two.authority.reader, "live_holders", away)
            await two.authority.lapse_unheard()
            two.now += LONG
            await two.authority.lapse_unheard()
        await two.authority.lapse_unheard()
        assert (two.account.held, two.account.unreconciled) == (100, 0)
        two.now += LONG
        await two.authority.lapse_unheard()
        assert (two.account.held, two.account.unreconciled) == (0, 100)


async def test_a_lapse_that_cannot_be_booked_is_tried_again(running: Running) -> None:
    await running.lease("g1")
    running.now += LONG
    store = running.authority._store
    assert isinstance(store, SqliteStore)
    connection = store._connection
    connection.execute("PRAGMA query_only = 1")
    await running.authority.lapse_unheard()
    with pytest.raises(LedgerUnavailable):
        await running.authority.close("g1", {})
    connection.execute("PRAGMA query_only = 0")
    await running.authority.lapse_unheard()
    assert (running.account.held, running.account.unreconciled) == (0, 100)


async def test_holders_lapse_beside_one_whose_leases_cannot(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    lapse = bookkeeping.lapse

    def defective(work: Work, policy: PolicySet, holder: str, now: datetime) -> None:
        if holder == "odd":
            raise KeyError("a defect")
        lapse(work, policy, holder, now)

    monkeypatch.setattr(bookkeeping, "lapse", defective)
    await running.lease("odd", 200)
    await running.lease("gone", 300)
    running.now += LONG
    with capture_logs() as said:
        for _ in range(3):
            await running.authority.lapse_unheard()
    assert (running.account.held, running.account.unreconciled) == (200, 300)
    assert [(one["holder"], one["log_level"]) for one in said] == [("odd", "error")]


async def test_a_holder_that_another_authority_hears_of_does_not_lapse(postgres: PostgresServer) -> None:
    ledger = PostgresLedger(postgres.new_database())
    one, two = Running(ledger), Running(ledger)
    async with one.authority:
        await one.lease("g1")
        async with two.authority:
            one.now += LONG
            two.now += LONG
            await one.lease("g1", 50)
            await two.authority.lapse_unheard()
            assert (two.account.held, two.account.unreconciled) == (150, 0)
            two.now += LONG
            await two.authority.lapse_unheard()
            assert (two.account.held, two.account.unreconciled) == (0, 150)


async def test_what_was_corrected_while_no_limit_was_known_is_handed_on_when_it_is(tmp_path: Path) -> None:
    rolling = budget(rollover=1000)
    desk = Desk(tmp_path / "ledger.db", rolling)
    desk.open(rolling)
    desk.charge(record("g", Charge(ACCOUNT, 700, 0)))
    later = NOW + timedelta(days=20)
    desk.open(rolling, later)
    desk.policy = policy()
    give_back = Change(ACCOUNT, 100)
    desk.do(lambda work: adjust(work, desk.policy, give_back, reason="late", reference=None, now=later))
    desk.store.close()
    current = CurrentPolicy(policy())
    async with LedgerAuthority(tmp_path / "ledger.db", current, lambda: later) as authority:
        for limits, rolled in (((), 300), ((rolling,), 400), ((rolling,), 400)):
            current.publish(policy(*limits))
            await authority.settle_owed()
            known = authority.reader.account(account_of(rolling, later))
            assert known is not None
            assert known.rolled_over == rolled


async def test_a_holder_without_leases_is_forgotten_when_it_was_quiet_for_an_hour_and_no_sooner(
    running: Running,
) -> None:
    async def known() -> list[str]:
        return [one.holder for one in await running.authority.ask(lambda reader: reader.holders_without_leases(10))]

    await running.lease("ended")
    await running.authority.close("ended", {})
    await running.lease("vanished")
    await running.authority.close("vanished", {ACCOUNT: 50})
    await running.lease("quiet", 0)
    await running.authority.forget_quiet(0.0)
    await running.authority.forget_quiet(QUIET_SECONDS - 1)
    assert await known() == ["ended", "quiet"]
    await running.lease("quiet", 0)
    await running.authority.forget_quiet(QUIET_SECONDS)
    assert await known() == ["quiet"]
    await running.authority.forget_quiet(2 * QUIET_SECONDS)
    assert await known() == []
    assert running.account.unreconciled == 50


async def test_counters_go_once_they_say_nothing_any_more(running: Running) -> None:
    await running.authority.report((), Tally(2).settled_by("lost"))
    await running.authority.report((), Tally(0).settled_by("booked"))
    moment = timedelta(microseconds=1)
    for kept, over, unbooked in ((BOOKED_FOR, ["booked"], ["lost"]), (MISSED_FOR, ["lost"], [])):
        running.now = NOW + kept + moment
        assert await running.authority.ask(lambda reader: reader.counters_over(running.now, 10)) == over
        await running.authority.forget_quiet(0.0)
        assert await running.authority.ask(lambda reader: reader.counters_over(running.now, 10)) == []
        assert [one.instance for one in running.authority.reader.unbooked()] == unbooked


async def test_a_want_that_raises_is_refused_by_itself_and_told_once_in_the_log(running: Running) -> None:
    with capture_logs() as logs:
        for sequence in (1, 2):
            wants = (Want("nonsense", 1, 1), Want(ACCOUNT, 7, 7))
            reply = await running.authority.lease(LeaseRequest("g", sequence, wants))
            assert [(one.account, one.amount) for one in reply.granted] == [(ACCOUNT, 7)]
            assert [(one.account, one.reason) for one in reply.refused] == [("nonsense", Reason.FAULT)]
    assert running.account.held == 14
    (told,) = [entry for entry in logs if entry["log_level"] == "error"]
    assert "'nonsense' is not an account" in told["error"]


async def test_a_ledger_that_cannot_be_written_fails_the_whole_call_as_ever(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[bool] = []

    def fails(*_: object, apart: bool = False, **__: object) -> None:
        ran.append(apart)
        raise LedgerUnavailable("ledger: the disk is full")

    monkeypatch.setattr(bookkeeping, "lease", fails)
    with pytest.raises(LedgerUnavailable, match="the disk is full"):
        await running.lease("g")
    assert True not in ran
