"""Writing Events: a fault of one ends with that one, and what happens again is counted exactly once."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.operator.events_server import EventsServer, failing

from tollkeeper.notices import Notice, Reason
from tollkeeper_kube import ApiUnreachable, Forbidden, KubeError, NotFound
from tollkeeper_operator.event_log import ATTEMPTS, BURST, EventLog
from tollkeeper_operator.metrics import Metrics

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ABOUT = {
    "apiVersion": "tollkeeper.dev/v1alpha1",
    "kind": "TokenBudget",
    "metadata": {"name": "monthly", "namespace": "research", "uid": "u-1"},
}
UNANSWERED = ApiUnreachable("the API server did not answer in time")
GONE = NotFound("the Event is gone")
FORBIDDEN = Forbidden('User "tollkeeper" cannot patch events')


async def at_once(_seconds: float) -> None:
    """A pause that takes no time."""


def a_series(times: int, identity: str = "series") -> Notice:
    return Notice(Reason.THRESHOLD_CROSSED, "50% is used", identity, times, "windows")


async def tell(server: EventsServer, *notices: Notice, at: datetime = NOW) -> dict[str, float]:
    """Have notices written one after the other; how many came to which result."""
    metrics = Metrics()
    log = EventLog(server.kube, metrics, pause=at_once)
    for notice in notices:
        log.tell(notice, ABOUT, at)
    running = asyncio.create_task(log.run())

    def results() -> dict[str, float]:
        (family,) = metrics.events.collect()
        return {one.labels["result"]: one.value for one in family.samples if one.name.endswith("_total")}

    async with asyncio.timeout(5):
        while sum(results().values()) < len(notices) and not running.done():  # noqa: ASYNC110 - what is counted tells nobody
            await asyncio.sleep(0)
    if running.done():
        await running
    running.cancel()
    return results()


def always(verb: str, fault: KubeError) -> Callable[[str], None]:
    def fail(called: str) -> None:
        if called == verb:
            raise fault

    return fail


@pytest.mark.parametrize("fault", [UNANSWERED, GONE, FORBIDDEN], ids=["unanswered", "gone", "forbidden"])
async def test_an_event_that_cannot_be_counted_ends_with_itself_and_the_next_one_is_written(fault: KubeError) -> None:
    server = EventsServer()
    await tell(server, a_series(2))
    server.before = always("patch", fault)
    results = await tell(server, a_series(3), a_series(1, "another"), at=NOW + timedelta(minutes=5))
    lost = "refused" if fault is FORBIDDEN else "dropped"
    assert results == {lost: 1, "written": 1}
    assert server.calls.count("patch") == (1 if fault is FORBIDDEN else ATTEMPTS)


async def test_an_event_that_expired_after_it_was_found_is_created_again() -> None:
    server = EventsServer()
    await tell(server, a_series(2))

    def expire(verb: str) -> None:
        if verb == "patch" and server.calls.count("patch") == 1:
            server.kept.clear()

    server.before = expire
    assert await tell(server, a_series(3), at=NOW + timedelta(minutes=5)) == {"written": 1}
    assert server.counts() == [3]


@pytest.mark.parametrize("verb", ["create", "patch"])
async def test_what_was_written_and_not_answered_is_not_counted_twice(verb: str) -> None:
    server = EventsServer()
    if verb == "patch":
        await tell(server, a_series(2))
    server.after = failing(verb, UNANSWERED)
    await tell(server, a_series(3), at=NOW + timedelta(minutes=5))
    assert server.counts() == [3 if verb == "create" else 5]


@pytest.mark.parametrize("verb", ["create", "find", "patch"])
async def test_what_was_neither_written_nor_answered_is_counted_when_it_is_tried_again(verb: str) -> None:
    server = EventsServer()
    await tell(server, a_series(2))
    server.before = failing(verb, UNANSWERED)
    assert await tell(server, a_series(3), at=NOW + timedelta(minutes=5)) == {"counted": 1}
    assert server.counts() == [5]


async def test_the_last_try_that_was_not_answered_is_looked_at_once_more() -> None:
    server = EventsServer()
    await tell(server, a_series(2))
    server.before = failing("patch", *[UNANSWERED] * (ATTEMPTS - 1))
    server.after = failing("patch", UNANSWERED)
    assert await tell(server, a_series(3), at=NOW + timedelta(minutes=5)) == {"counted": 1}
    assert server.counts() == [5]


async def test_what_somebody_else_counted_meanwhile_is_added_to() -> None:
    server = EventsServer()
    await tell(server, a_series(2))

    def count_elsewhere(verb: str) -> None:
        if verb == "patch" and server.calls.count("patch") == 1:
            (name,) = server.kept
            server._keep(name, {**server.kept[name], "count": 12})

    server.before = count_elsewhere
    assert await tell(server, a_series(3), at=NOW + timedelta(minutes=5)) == {"counted": 1}
    assert server.counts() == [15]


async def test_what_is_told_once_is_known_when_it_is_told_again() -> None:
    server, once = EventsServer(), Notice(Reason.GRANT_BOOKED, "booked", "booked")
    assert await tell(server, once, once) == {"written": 1, "known": 1}
    assert server.calls == ["create", "create"]


def message_of(server: EventsServer) -> Any:
    (event,) = server.kept.values()
    return event["message"]


async def test_the_newest_message_counts_all_that_happened() -> None:
    server = EventsServer()
    await tell(server, a_series(2))
    await tell(server, a_series(3), at=NOW + timedelta(minutes=5))
    assert message_of(server) == "50% is used; 5 windows"


@pytest.mark.parametrize(
    ("fault", "told"),
    [(None, True), (UNANSWERED, False), (FORBIDDEN, False)],
    ids=["written", "unanswered", "forbidden"],
)
async def test_whoever_tells_hears_whether_it_was_written(fault: KubeError | None, told: bool) -> None:
    server, heard = EventsServer(), list[tuple[Notice, bool]]()
    if fault is not None:
        server.before = always("create", fault)
    log, one, ended = EventLog(server.kube, Metrics(), pause=at_once), a_series(1), asyncio.Event()

    def hear(notice: Notice, *, told: bool) -> None:
        heard.append((notice, told))
        ended.set()

    log.tell(one, ABOUT, NOW, hear)
    running = asyncio.create_task(log.run())
    async with asyncio.timeout(5):
        await ended.wait()
    running.cancel()
    assert heard == [(one, told)]


async def test_whoever_tells_too_much_at_once_hears_what_is_dropped() -> None:
    log, lost = EventLog(EventsServer().kube, Metrics()), list[str]()

    def hear(notice: Notice, *, told: bool) -> None:
        assert not told
        lost.append(notice.identity)

    for number in range(BURST + 5):
        log.tell(a_series(1, str(number)), ABOUT, NOW, hear)
    assert lost == [str(number) for number in range(BURST, BURST + 5)]
