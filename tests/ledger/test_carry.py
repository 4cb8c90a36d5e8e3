"""Late entries in closed windows (B6), grants that expire, and what the next window was given, on a real SQLite file."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ledger.builders import NOW, Desk, account_of, budget, record
from tollkeeper.books import Grant, GrantState
from tollkeeper.leases import Reason, Want
from tollkeeper.limits import Enforcement, Limit
from tollkeeper.usage import Charge
from tollkeeper.windows import Calendar, Every
from tollkeeper_ledger import corrections, opening
from tollkeeper_ledger.corrections import Change
from tollkeeper_ledger.export import verify
from tollkeeper_ledger.storage import LedgerAt
from tollkeeper_ledger.work import Work

DECEMBER, JANUARY = NOW + timedelta(days=20), NOW + timedelta(days=50)
LIMIT = budget(rollover=250)
IN_NOVEMBER, IN_DECEMBER, IN_JANUARY = (account_of(LIMIT, at) for at in (NOW, DECEMBER, JANUARY))


@pytest.fixture
def desk(ledger: LedgerAt) -> Iterator[Desk]:
    desk = Desk(ledger, LIMIT)
    yield desk
    desk.store.close()


def grant(amount: int, expires: timedelta | None = None, name: str = "top-up") -> Grant:
    ends = NOW + expires if expires else None
    return Grant(f"uid-{name}", name, LIMIT.ref, amount, "TopUp", None, 10, NOW, None, ends)


def book(desk: Desk, one: Grant, now: datetime = NOW, limit: Limit = LIMIT) -> GrantState:
    return desk.book_grant(one, limit, now)


def adjust(desk: Desk, account: str, amount: int, now: datetime) -> None:
    change = Change(account, amount)
    desk.do(lambda work: corrections.adjust(work, desk.policy, change, reason="late", reference=None, now=now))


def carried(desk: Desk, of: str) -> tuple[int, int]:
    known = desk.account(of)
    return known.rolled_over, known.granted


def test_a_late_usage_is_charged_to_the_window_of_its_admission_and_lessens_what_went_over(desk: Desk) -> None:
    desk.lease("g1", Want(IN_NOVEMBER, 300, 300))
    desk.charge(record("g1", Charge(IN_NOVEMBER, 100, 100)))
    book(desk, grant(400))
    adjust(desk, IN_NOVEMBER, -900, NOW)
    desk.open(LIMIT, DECEMBER)
    assert carried(desk, IN_DECEMBER) == (0, 200), "200 of the grant are held in November"
    desk.charge(record("g1", Charge(IN_NOVEMBER, 150, 150)), now=DECEMBER)
    assert desk.account(IN_NOVEMBER).spent == 1150
    assert carried(desk, IN_DECEMBER) == (0, 200), "what was held had not gone over"
    desk.lease("g1", returns={IN_NOVEMBER: 50}, now=DECEMBER)
    assert carried(desk, IN_DECEMBER) == (0, 250), "what came back goes over"


def test_a_window_that_has_handed_on_what_it_had_left_grants_nothing_more(desk: Desk) -> None:
    desk.lease("g1", Want(IN_NOVEMBER, 100, 100))
    desk.open(LIMIT, DECEMBER)
    before = carried(desk, IN_DECEMBER)
    late = desk.lease("g1", Want(IN_NOVEMBER, 500, 500), now=DECEMBER)
    assert [(one.reason, one.available) for one in late.refused] == [(Reason.ENDED, 0)]
    desk.lease("g1", returns={IN_NOVEMBER: 600}, now=DECEMBER)
    assert desk.account(IN_NOVEMBER).held == 0
    assert carried(desk, IN_DECEMBER) == (250, 0) >= before


def test_a_late_usage_that_nobody_held_takes_back_what_went_over(tmp_path: Path) -> None:
    soft = budget(rollover=250, enforcement=Enforcement.SOFT)
    desk = Desk(tmp_path / "ledger.db", soft)
    desk.charge(record("g1", Charge(IN_NOVEMBER, 800, 0)))
    desk.open(soft, DECEMBER)
    assert carried(desk, IN_DECEMBER) == (200, 0)
    desk.charge(record("g1", Charge(IN_NOVEMBER, 150, 0)), now=DECEMBER)
    assert carried(desk, IN_DECEMBER) == (50, 0)
    desk.store.close()


def test_a_refund_into_a_closed_window_goes_on_to_the_window_that_is_open(desk: Desk) -> None:
    desk.lease("g1", Want(IN_NOVEMBER, 1000, 1000))
    desk.charge(record("g1", Charge(IN_NOVEMBER, 1000, 1000)))
    desk.open(LIMIT, DECEMBER)
    adjust(desk, IN_DECEMBER, -950, DECEMBER)
    desk.open(LIMIT, JANUARY)
    assert (carried(desk, IN_DECEMBER), carried(desk, IN_JANUARY)) == ((0, 0), (50, 0))
    adjust(desk, IN_NOVEMBER, 600, JANUARY)
    assert (carried(desk, IN_DECEMBER), carried(desk, IN_JANUARY)) == ((250, 0), (250, 0)), "never above the rollover"
    kinds = [orjson.loads(line)["kind"] for line in desk.export()]
    assert (kinds.count("carry"), kinds[-1]) == (2, "adjust")


def test_a_window_that_was_opened_in_the_same_commit_hears_of_it_too(desk: Desk) -> None:
    desk.lease("g1", Want(IN_NOVEMBER, 1000, 1000))
    desk.charge(record("g1", Charge(IN_NOVEMBER, 1000, 1000)))

    def both(work: Work) -> None:
        opening.open_account(work, LIMIT, (), DECEMBER)
        step = Work(work)
        corrections.adjust(step, desk.policy, Change(IN_NOVEMBER, 70), reason="late", reference=None, now=DECEMBER)
        work.absorb(step)

    desk.do(both)
    assert carried(desk, IN_DECEMBER) == (70, 0)


def test_a_grant_expires_by_itself_before_the_next_lease(desk: Desk) -> None:
    book(desk, grant(500, timedelta(hours=1)))
    desk.lease("g1", Want(IN_NOVEMBER, 1200, 1200))
    desk.charge(record("g1", Charge(IN_NOVEMBER, 1200, 1200)))
    refused = desk.lease("g1", Want(IN_NOVEMBER, 10, 10), now=NOW + timedelta(hours=2)).refused
    assert [refusal.available for refusal in refused] == [0]
    assert (desk.account(IN_NOVEMBER).granted, desk.account(IN_NOVEMBER).balance) == (200, 0)
    state = book(desk, grant(500, timedelta(hours=1)), NOW + timedelta(hours=3))
    assert (state.expired, state.remaining) == (True, 0)


def test_what_is_held_when_a_grant_expires_stays_covered(desk: Desk) -> None:
    book(desk, grant(500, timedelta(hours=1)))
    desk.lease("g1", Want(IN_NOVEMBER, 1300, 1300))
    later = NOW + timedelta(hours=2)
    assert desk.lease("g2", Want(IN_NOVEMBER, 1, 1), now=later).refused
    known = desk.account(IN_NOVEMBER)
    assert (known.held, known.cap(LIMIT)) == (1300, 1300)
    desk.charge(record("g1", Charge(IN_NOVEMBER, 1300, 1300)), now=later)
    assert desk.account(IN_NOVEMBER).overshoot == 0


def test_what_is_left_of_an_expired_grant_does_not_roll_over(desk: Desk) -> None:
    book(desk, grant(500, timedelta(hours=1)))
    adjust(desk, IN_NOVEMBER, -1000, NOW)
    desk.open(LIMIT, DECEMBER)
    assert carried(desk, IN_DECEMBER) == (0, 0)
    assert desk.account(IN_NOVEMBER).granted == 0


def test_a_refund_of_what_an_expired_grant_paid_stays_in_the_budget_and_leaves_other_grants_whole(desk: Desk) -> None:
    book(desk, grant(500, timedelta(hours=1), "short"))
    book(desk, grant(300, None, "long"))
    adjust(desk, IN_NOVEMBER, -1200, NOW)
    later = NOW + timedelta(hours=2)
    desk.open(LIMIT, later)
    adjust(desk, IN_NOVEMBER, 100, later)
    assert desk.account(IN_NOVEMBER).balance == 400
    assert book(desk, grant(300, None, "long"), later).remaining == 300


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    hours=st.lists(st.tuples(st.integers(1, 2000), st.integers(1, 300)), min_size=1, max_size=10),
    expires=st.integers(1, 2000),
    looks=st.lists(st.integers(1, 2000), max_size=6),
)
def test_how_often_anybody_looks_makes_no_difference_to_what_is_left(
    tmp_path_factory: pytest.TempPathFactory, hours: list[tuple[int, int]], expires: int, looks: list[int]
) -> None:
    soft = budget(rollover=250, enforcement=Enforcement.SOFT)
    one = grant(700, timedelta(hours=expires))
    ends = []
    for looked in (looks, []):
        desk = Desk(tmp_path_factory.mktemp("ledger") / "ledger.db", soft)
        book(desk, one, NOW, soft)
        events = [(hour, amount) for hour, amount in sorted(hours)] + [(hour, 0) for hour in looked]
        for hour, amount in sorted(events):
            at = NOW + timedelta(hours=hour)
            desk.open(soft, at)
            if amount:
                desk.charge(record("g1", Charge(account_of(soft, at), amount, 0), admitted_at=at), now=at)
        desk.open(soft, NOW + timedelta(days=120))
        ends.append(desk.account(account_of(soft, NOW + timedelta(days=120))))
        verify(desk.export())
        desk.store.close()
    assert ends[0] == ends[1]


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(early=st.integers(0, 1400), late=st.lists(st.integers(-300, 300), max_size=5), granted=st.integers(0, 600))
def test_late_changes_leave_what_they_would_have_left_in_time(
    tmp_path_factory: pytest.TempPathFactory, early: int, late: list[int], granted: int
) -> None:
    soft = budget(rollover=250, enforcement=Enforcement.SOFT)
    ends = []
    for at in (NOW, JANUARY):
        desk = Desk(tmp_path_factory.mktemp("ledger") / "ledger.db", soft)
        if granted:
            book(desk, grant(granted), NOW, soft)
        desk.charge(record("g1", Charge(IN_NOVEMBER, early + 2000, 0)))
        adjust(desk, IN_NOVEMBER, 2000, NOW)
        if at is JANUARY:
            desk.open(soft, DECEMBER)
            desk.open(soft, JANUARY)
        spent = early
        for amount in late:
            if amount and amount <= spent:
                adjust(desk, IN_NOVEMBER, amount, at)
                spent -= amount
        desk.open(soft, DECEMBER)
        desk.open(soft, JANUARY)
        ends.append([(carried(desk, of), desk.account(of).balance) for of in (IN_NOVEMBER, IN_DECEMBER, IN_JANUARY)])
        assert chain_sums(desk, IN_JANUARY) == desk.account(IN_JANUARY).balance
        desk.store.close()
    assert ends[0] == ends[1]


def chain_sums(desk: Desk, of: str) -> int:
    entries = (entry for line in desk.export() for entry in orjson.loads(line)["entries"])
    return sum(entry["amount"] for entry in entries if entry["account"] == f"{of}#balance")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from([NOW, DECEMBER, JANUARY]), st.integers(1, 600)), min_size=1, max_size=6),
    st.booleans(),
)
def test_windows_that_are_opened_in_any_order_hand_on_what_they_would_have_in_their_own(
    tmp_path_factory: pytest.TempPathFactory, usages: list[tuple[datetime, int]], one_report: bool
) -> None:
    soft = budget(rollover=250, enforcement=Enforcement.SOFT)
    folder = tmp_path_factory.mktemp("order")
    in_order, as_they_come = Desk(folder / "order.db", soft), Desk(folder / "come.db", soft)
    booked = [record("g1", Charge(account_of(soft, at), amount, 0), admitted_at=at) for at, amount in usages]
    for one in sorted(booked, key=lambda one: one.admitted_at):
        in_order.charge(one, now=JANUARY)
    if one_report:
        as_they_come.charge(*booked, now=JANUARY)
    else:
        for one in booked:
            as_they_come.charge(one, now=JANUARY)
    for at in {at for at, _ in usages}:
        of = account_of(soft, at)
        assert carried(as_they_come, of) == carried(in_order, of)
        assert as_they_come.account(of).balance == in_order.account(of).balance
    verify(as_they_come.export())
    in_order.store.close()
    as_they_come.store.close()


@pytest.mark.parametrize("rollover", [250, 10**6])
@pytest.mark.parametrize(("days", "amounts"), [((0, 1), (1000, 300)), ((1, 2), (2300, 300))])
def test_a_report_of_two_windows_that_are_over_hands_on_what_two_reports_would(
    tmp_path: Path, rollover: int, days: tuple[int, int], amounts: tuple[int, int]
) -> None:
    daily = budget(calendar=Calendar.every(Every.DAY), rollover=rollover, enforcement=Enforcement.SOFT)
    at = [datetime(2026, 11, day, 12, tzinfo=UTC) for day in (16, 17, 18, 19)]
    names = [account_of(daily, day) for day in at]
    left = []
    for reports in (1, 2):
        desk = Desk(tmp_path / f"{reports}.db", daily)
        desk.open(daily, at[0])
        desk.open(daily, at[3])
        usages = [
            record("g1", Charge(names[day], amount, 0), admitted_at=at[day], finished_at=at[day])
            for day, amount in zip(days, amounts, strict=True)
        ]
        for together in (usages,) if reports == 1 else ([usage] for usage in usages):
            desk.charge(*together, now=at[3])
        left.append([(known[0].rolled_over, known[0].balance) for name in names if (known := desk.known(name))])
        desk.store.close()
    assert left[0] == left[1]
