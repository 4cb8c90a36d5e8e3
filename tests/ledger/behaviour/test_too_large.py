"""What fits no column: refused by the rules, and where they do not see it by the commit, for one caller alone."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.ledger.builders import NOW, Desk, account_of, budget, record
from tollkeeper.accounts import Account
from tollkeeper.amounts import LARGEST, Unit
from tollkeeper.errors import InvalidValue, Unavailable
from tollkeeper.leases import LeaseRequest, Want
from tollkeeper.limits import Limit
from tollkeeper.usage import Buckets, Charge
from tollkeeper_ledger import bookkeeping, corrections
from tollkeeper_ledger.corrections import Change
from tollkeeper_ledger.errors import LedgerUnavailable, Unstorable
from tollkeeper_ledger.storage import LedgerAt
from tollkeeper_ledger.work import Work
from tollkeeper_ledger.writer import LedgerWriter, Step

LIMIT = budget(allocation=10**9)
ACCOUNT = account_of(LIMIT)
TOKENS = budget("tokens", 10**9, unit=Unit.TOKENS)


@pytest.fixture
def desk(ledger: LedgerAt) -> Iterator[Desk]:
    desk = Desk(ledger, LIMIT, TOKENS)
    yield desk
    desk.store.close()


def spent(desk: Desk, limit: Limit = LIMIT) -> int:
    known = desk.known(account_of(limit))
    return known[0].spent if known else 0


@pytest.mark.parametrize(
    "odd",
    [
        record("g", Charge(ACCOUNT, 2**63, 0)),
        record("g", Charge(ACCOUNT, 1, 2**63)),
        record("g", Charge(ACCOUNT, 1, 0), cost=2**63),
        record("g", Charge(ACCOUNT, 1, 0), buckets=Buckets(input=2**62, output=2**62)),
    ],
    ids=["amount", "hold", "cost", "tokens"],
)
def test_a_request_of_more_than_a_column_holds_is_refused_and_changes_nothing(desk: Desk, odd: Any) -> None:
    with pytest.raises(InvalidValue, match=r"9223372036854775808 is too large: a request uses at most"):
        desk.charge(odd)
    assert not desk.do(lambda work: work.booked_among([odd.id]))
    assert spent(desk) == 0


@pytest.mark.parametrize(
    "odd",
    [
        record("g", Charge(ACCOUNT, -1, 0)),
        record("g", Charge(ACCOUNT, 1, -1)),
        record("g", Charge(ACCOUNT, 1, 0), cost=-1),
    ],
    ids=["amount", "hold", "cost"],
)
def test_a_request_that_would_give_something_back_is_refused_with_its_report(desk: Desk, odd: Any) -> None:
    with pytest.raises(InvalidValue, match=rf"request {odd.id}: -1 is below 0"):
        desk.charge(record("g", Charge(ACCOUNT, 1, 0)), odd)
    assert spent(desk) == 0


def test_usage_that_an_account_cannot_add_is_refused_and_what_fits_is_booked(desk: Desk) -> None:
    desk.charge(record("g", Charge(ACCOUNT, LARGEST - 7, 0)))
    with pytest.raises(InvalidValue, match=r"is too large: an account holds at most"):
        desk.charge(record("g", Charge(ACCOUNT, 8, 0)))
    desk.charge(record("g", Charge(ACCOUNT, 7, 0)))
    assert spent(desk) == LARGEST


def adjust(desk: Desk, amount: int) -> None:
    desk.do(
        lambda work: corrections.adjust(
            work, desk.policy, Change(ACCOUNT, amount), reason="a test", reference=None, now=NOW
        )
    )


def test_the_largest_adjustments_go_there_and_back_as_often_as_somebody_likes(desk: Desk) -> None:
    desk.open(LIMIT)
    for _ in range(4):
        adjust(desk, -(10**9) * 10**9)
        adjust(desk, 8 * -(10**9) * 10**9)
        with pytest.raises(InvalidValue, match="which no account can hold"):
            adjust(desk, -(10**9) * 10**9)
        adjust(desk, 9 * 10**9 * 10**9)
    assert desk.account(ACCOUNT) == replace(desk.account(ACCOUNT), spent=0, overshoot=0)


def test_a_report_is_booked_although_what_was_overshot_fits_no_column_any_more(desk: Desk) -> None:
    for number in range(3):
        late = NOW + timedelta(minutes=number)
        desk.charge(record("g", Charge(ACCOUNT, 2**62, 0), cost=1, finished_at=late))
        adjust(desk, 2**62)
    assert desk.account(ACCOUNT).overshoot == LARGEST
    assert spent(desk) == 0


NUMBERS = [one.name for one in fields(Account) if one.type in (int, "int")]


@pytest.mark.parametrize("beyond", [LARGEST + 1, -LARGEST - 2])
@pytest.mark.parametrize("column", NUMBERS)
def test_no_number_of_an_account_is_put_that_fits_no_column(desk: Desk, column: str, beyond: int) -> None:
    """Whatever rule let it through: one caller is told, and its batch is not held up by the storage."""
    desk.open(LIMIT)
    before = desk.account(ACCOUNT)
    odd: dict[str, Any] = {column: beyond}
    with pytest.raises(InvalidValue, match=r"is too large: an account holds at most"):
        desk.do(lambda work: work.put(replace(before, **odd), "USD"))
    assert desk.account(ACCOUNT) == before


def test_an_account_that_cannot_be_opened_is_refused_and_its_batch_is_granted(ledger: LedgerAt) -> None:
    odd = budget("odd", LARGEST + 1)
    desk = Desk(ledger, LIMIT, odd)
    reply = desk.lease("g", Want(account_of(odd), 5, 5), Want(ACCOUNT, 7, 7))
    assert [(one.account, one.amount) for one in reply.granted] == [(ACCOUNT, 7)]
    assert [one.account for one in reply.refused] == [account_of(odd)]
    desk.store.close()


def in_one_batch(writer: LedgerWriter, *steps: Step) -> list[Future[Any]]:
    """Submit steps while the writer is busy, so that it takes all of them at once."""
    busy, begun = threading.Event(), threading.Event()

    def wait(_work: Work) -> None:
        begun.set()
        busy.wait(10)

    writer.submit(wait)
    assert begun.wait(10)
    futures = [writer.submit(step) for step in steps]
    busy.set()
    return futures


def charging(desk: Desk, amount: int) -> Step:
    usage = record("g", Charge(ACCOUNT, amount, 0))
    return lambda work: bookkeeping.charge_all(work, desk.policy, [usage], NOW)


def test_a_commit_that_one_step_spoils_is_done_over_without_it(ledger: LedgerAt) -> None:
    desk = Desk(ledger, LIMIT)
    changed: list[frozenset[str]] = []
    writer = LedgerWriter(desk.store, changed.append)
    asked = LeaseRequest("h", 1, (Want(ACCOUNT, 10, 10),))

    def spoil(work: Work) -> None:
        """No rule lets this through; it stands for a defect in one."""
        work.crossings.add((ACCOUNT, 2**70))

    before, odd, lease, after = in_one_batch(
        writer,
        charging(desk, 1),
        spoil,
        lambda work: bookkeeping.lease(work, desk.policy, asked, NOW, NOW + timedelta(minutes=1)),
        charging(desk, 2),
    )
    error = odd.exception(10)
    assert isinstance(error, Unstorable)
    assert not isinstance(error, Unavailable)
    assert "nothing of this was booked" in str(error)
    assert (before.result(10), after.result(10)) == (None, None)
    assert lease.result(10).granted[0].amount == 10
    known = desk.known(ACCOUNT)
    assert known is not None
    assert (known[0].spent, known[0].held, known[0].requests) == (3, 10, 2)
    assert changed == [frozenset({ACCOUNT})] * 3
    writer.close()


def test_a_file_that_cannot_be_written_fails_its_whole_batch_once_and_for_now(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "ledger.db", LIMIT)
    runs: list[str] = []
    writer = LedgerWriter(desk.store, lambda _: None)
    desk.sqlite._connection.execute("PRAGMA query_only = ON")

    def counted(work: Work) -> None:
        runs.append("run")
        charging(desk, 1)(work)

    for future in in_one_batch(writer, counted, counted):
        assert isinstance(future.exception(10), LedgerUnavailable)
    assert len(runs) == 2
    desk.sqlite._connection.execute("PRAGMA query_only = OFF")
    writer.submit(charging(desk, 5)).result(10)
    assert spent(desk) == 5
    writer.close()


@pytest.mark.parametrize("what", ["cost", "tokens"])
def test_a_minutes_sums_stay_whole_numbers(desk: Desk, what: str) -> None:
    large: dict[str, Any] = {"cost": 2**62} if what == "cost" else {"cost": 1, "buckets": Buckets(input=2**62)}
    account = account_of(TOKENS)
    desk.charge(record("g", Charge(account, 5, 0), **large))
    with pytest.raises((InvalidValue, Unstorable), match=r"a minute's tokens or cost pass|out of range"):
        desk.charge(record("g", Charge(account, 5, 0), **large))
    desk.charge(record("g", Charge(account, 6, 0), cost=1))
    with desk.reader() as reader:
        (point,) = reader.spend(account, slice_seconds=60, since=NOW, until=NOW + timedelta(minutes=5))
    assert (point.amount, point.requests) == (11, 2)
    assert type(point.tokens) is int
    assert spent(desk, TOKENS) == 11
