"""Answers that were given, exports that were damaged and pages that are turned, on every storage."""

import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from datetime import timedelta
from typing import Any

import orjson
import pytest

from tests.ledger.builders import NOW, Desk, account_of, budget, grant, record
from tollkeeper.leases import LeaseRequest, Want
from tollkeeper.limits import AccountId
from tollkeeper.usage import Charge
from tollkeeper_ledger import bookkeeping
from tollkeeper_ledger.errors import ChainBroken
from tollkeeper_ledger.export import verify
from tollkeeper_ledger.storage import LedgerAt
from tollkeeper_ledger.work import Work
from tollkeeper_ledger.writer import LedgerWriter

LIMIT = budget(allocation=10**9)
ACCOUNT = account_of(LIMIT)


@pytest.fixture
def desk(ledger: LedgerAt) -> Iterator[Desk]:
    desk = Desk(ledger, LIMIT)
    yield desk
    desk.store.close()


def test_a_step_that_fails_leaves_the_others_of_its_batch_alone(desk: Desk) -> None:
    hold = threading.Event()
    writer = LedgerWriter(desk.store, lambda _accounts: None)
    writer.submit(lambda _work: hold.wait(10))

    def failing(work: Work) -> None:
        bookkeeping.lease(work, desk.policy, LeaseRequest("bad", 1, (Want(ACCOUNT, 5, 5),)), NOW, NOW)
        raise ValueError("no")

    refused = writer.submit(failing)
    good = writer.submit(
        lambda work: bookkeeping.lease(work, desk.policy, LeaseRequest("good", 1, (Want(ACCOUNT, 7, 7),)), NOW, NOW)
    )
    hold.set()
    assert isinstance(refused.exception(10), ValueError)
    assert good.result(10).granted[0].amount == 7
    known = desk.known(ACCOUNT)
    assert known is not None
    assert known[0].held == 7
    writer.close()


def test_a_step_that_is_taken_back_is_not_begun_and_stops_nobody_else(desk: Desk) -> None:
    hold = threading.Event()
    writer = LedgerWriter(desk.store, lambda _accounts: None)
    begun: list[str] = []
    writer.submit(lambda _work: hold.wait(10))
    taken_back = writer.submit(lambda _work: begun.append("taken back"))
    assert taken_back.cancel()
    other = writer.submit(lambda _work: begun.append("other"))
    hold.set()
    other.result(10)
    assert begun == ["other"]
    writer.close()


def test_all_answers_of_a_batch_are_delivered_at_once_and_errors_as_what_they_are(desk: Desk) -> None:
    hold = threading.Event()
    told: queue.SimpleQueue[Sequence[tuple[Any, Any, BaseException | None]]] = queue.SimpleQueue()
    writer = LedgerWriter(desk.store, lambda _accounts: None)

    def failing(_work: Work) -> None:
        raise ValueError("no")

    writer.submit(lambda _work: hold.wait(10))
    waiting: list[Future[int]] = [Future(), Future(), Future()]
    for number, (future, step) in enumerate(zip(waiting, (lambda _work: 5, failing, lambda _work: 7), strict=True)):
        writer.enqueue(step, future, told.put)
        assert number or future.cancel()
    hold.set()
    (first, _, error), second = told.get(timeout=10)
    assert (first, second) == (waiting[1], (waiting[2], 7, None))
    assert isinstance(error, ValueError)
    writer.close()


def test_an_export_verifies_without_the_database(desk: Desk) -> None:
    """R26, R28: on both storages."""
    desk.lease("g", Want(ACCOUNT, 1000, 1000))
    desk.charge(*(record("g", Charge(ACCOUNT, 10, 10)) for _ in range(20)))
    lines = desk.export()
    assert verify(lines).transactions == 2
    report = orjson.loads(lines[1])
    assert (report["kind"], len(report["usage"])) == ("usage", 20)
    assert {row["upstream_id"] for row in report["usage"]} == {"chatcmpl-1"}
    assert len({row["request_id"] for row in report["usage"]}) == 20


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (
            lambda lines: [*lines[:3], lines[3].replace(b'"amount":10', b'"amount":11'), *lines[4:]],
            "line 4: .* was changed",
        ),
        (lambda lines: [*lines[:3], *lines[4:]], "line 4: transaction 5 stands where 4 belongs"),
        (lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]], "line 4: transaction 5 stands where 4 belongs"),
        (lambda lines: [*lines[:3], b"not json\n", *lines[4:]], "line 4: it is not an exported transaction"),
    ],
    ids=["changed", "removed", "swapped", "torn"],
)
def test_verify_names_the_first_line_that_does_not_hold(desk: Desk, damage: object, says: str) -> None:
    """R26."""
    desk.lease("g", Want(ACCOUNT, 1000, 1000))
    for _ in range(8):
        desk.charge(record("g", Charge(ACCOUNT, 10, 10)))
    with pytest.raises(ChainBroken, match=says):
        verify(damage(desk.export()))  # type: ignore[operator]


def test_pages_of_usages_run_in_the_order_of_booking_with_the_balance_after_each(desk: Desk) -> None:
    """R29."""
    desk.lease("g", Want(ACCOUNT, 1000, 1000))
    desk.charge(*(record("g", Charge(ACCOUNT, 10, 10), request=f"r{n}") for n in range(45)))
    with desk.reader() as reader:
        page = reader.usages(ACCOUNT, page=3, order="oldest")
        newest = reader.usages(ACCOUNT, page=1)
        totals = reader.totals(ACCOUNT)
        one = reader.usage(ACCOUNT, "r7")
        spent = reader.spend(ACCOUNT, slice_seconds=60, since=NOW, until=NOW + timedelta(minutes=5))
        told = reader.metadata()
    assert ([row.id for row in page.rows], page.total) == ([f"r{n}" for n in range(40, 45)], 45)
    assert newest.rows[0].balance == 10**9 - 450
    assert (totals.usages, totals.tokens, totals.cost) == (45, 45 * 110, 450)
    assert one is not None
    assert one.balance == 10**9 - 80
    assert [(point.start, point.amount, point.requests, point.tokens) for point in spent] == [(NOW, 450, 45, 45 * 110)]
    assert (told["transactions"], told["last_time"]) == (2, NOW)


def test_pages_of_payments_and_the_accounts_of_a_limit_say_what_was_booked(desk: Desk) -> None:
    for number in range(3):
        desk.book_grant(grant(100 + number, f"top-up-{number}"), LIMIT)
    desk.open(LIMIT, NOW + timedelta(days=20))
    with desk.reader() as reader:
        page = reader.payments(ACCOUNT, page=1, size=2)
        windows = [account.window_start for account in reader.accounts_of(LIMIT)]
        one_window = reader.accounts_of(LIMIT, AccountId.parse(ACCOUNT).window)
        named = reader.accounts_named(LIMIT.ref, ())
        unknown = reader.account("TokenBudget/team/other//@forever@USD")
    assert ([(row.grant, row.amount, row.reason) for row in page.rows], page.total) == (
        [("top-up-2", 102, "TopUp"), ("top-up-1", 101, "TopUp")],
        3,
    )
    assert windows == sorted(window for window in windows if window)
    assert len(windows) == len(named) == 2
    assert [account.granted for account in one_window] == [303]
    assert unknown is None
