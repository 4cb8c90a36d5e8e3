"""Counters that only grow, and what is booked of those who tell them: in any order, however often (I3, both storages)."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ledger.builders import NOW, Desk, account_of, budget, record
from tests.ledger.conftest import NewLedger
from tollkeeper.amounts import LARGEST
from tollkeeper.counters import SETTLED, Counters, Tally, Unbooked, tally_of
from tollkeeper.errors import InvalidValue
from tollkeeper.usage import Charge, UsageRecord
from tollkeeper_ledger import bookkeeping
from tollkeeper_ledger.audit import audit
from tollkeeper_ledger.counting import BOOKED_FOR, MISSED_FOR
from tollkeeper_ledger.state import State
from tollkeeper_ledger.work import Work

LIMIT = budget()
ACCOUNT = account_of(LIMIT)
MOMENT = timedelta(microseconds=1)
Call = tuple[Counters | None, Sequence[UsageRecord], datetime]


def used(gateway: str, number: int) -> UsageRecord:
    amount = 10 * number + 1
    return record(
        gateway, Charge(ACCOUNT, amount, 0), request=f"{gateway}-{number}", cost=amount if number % 3 else None
    )


def settled(gateway: str, requests: int) -> Counters:
    """What a gateway tells that settled so many requests, the first ones of `used`."""
    return tally_of(used(gateway, number) for number in range(requests)).settled_by(gateway)


def take(work: Work, desk: Desk, call: Call) -> None:
    counters, records, now = call
    bookkeeping.report(work, desk.policy, records, now, counters)


def tell(desk: Desk, counters: Counters | None, *records: UsageRecord, now: datetime = NOW) -> None:
    desk.do(lambda work: take(work, desk, (counters, records, now)))


def unbooked(desk: Desk) -> Sequence[Unbooked]:
    with desk.reader() as reader:
        return reader.unbooked()


def over(desk: Desk, now: datetime) -> Sequence[str]:
    with desk.reader() as reader:
        return reader.counters_over(now, 100)


@st.composite
def arrivals(draw: st.DrawFn) -> Sequence[Sequence[Call]]:
    """What two gateways told and reported while they settled more and more, as it arrives: some of it never, the rest in any
    order and as often as it likes, several calls in one commit."""
    sent: list[Call] = []
    for gateway in ("g1", "g2"):
        for so_many in sorted(draw(st.lists(st.integers(0, 12), min_size=1, max_size=6))):
            reported = draw(st.sets(st.integers(0, so_many - 1), max_size=5)) if so_many else set[int]()
            sent.append((settled(gateway, so_many), [used(gateway, one) for one in sorted(reported)], NOW))
    commits: list[list[Call]] = [[]]
    for call in draw(st.lists(st.sampled_from(sent), min_size=1, max_size=2 * len(sent))):
        commits[-1].append(call)
        if draw(st.booleans()):
            commits.append([])
    return commits


@given(commits=arrivals(), apart=st.booleans())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_counter_is_the_largest_value_that_arrived_and_a_tally_each_request_once(
    new_ledger: NewLedger, commits: Sequence[Sequence[Call]], apart: bool
) -> None:
    """I3: in any order, however late and however often."""
    desk = Desk(new_ledger(), LIMIT)
    try:
        for of_one in commits:
            desk.store.transact(together(desk, of_one, apart=apart))
        stand = {one.instance: one.missing for one in unbooked(desk)}
        for gateway in ("g1", "g2"):
            assert stand.get(gateway, Tally()) == missing(gateway, [call for of_one in commits for call in of_one])
        with desk.reader() as reader:
            audit(reader)
    finally:
        desk.store.close()


def together(desk: Desk, calls: Sequence[Call], *, apart: bool) -> Callable[[State], Work]:
    """Several calls in one commit: in one work, or each in a work of its own that the commit takes over."""

    def change(state: State) -> Work:
        batch = Work(state)
        for call in calls:
            step = Work(batch) if apart else batch
            take(step, desk, call)
            if apart:
                batch.absorb(step)
        return batch

    return change


def missing(gateway: str, arrived: Sequence[Call]) -> Tally:
    """What should stand as not booked: the most that it told, less each request of it that came."""
    counters = [told.values for told, _, _ in arrived if told is not None and told.instance == gateway]
    most = [max((of[series] for of in counters), default=0) for series in SETTLED]
    records = {one.id: one for _, of, _ in arrived for one in of if one.holder == gateway}
    return Tally(*(told - booked for told, booked in zip(most, tally_of(records.values()), strict=True)))


def test_what_a_gateway_that_vanished_had_settled_is_known_from_its_count(desk: Desk) -> None:
    """I2: an error is bounded and visible."""
    tell(desk, settled("g", 3), used("g", 0))
    stands = Unbooked("g", tally_of([used("g", 1), used("g", 2)]), NOW)
    assert unbooked(desk) == (stands,)
    desk.reopen()
    assert unbooked(desk) == (stands,)
    tell(desk, None, used("g", 2), used("g", 1))
    assert unbooked(desk) == ()


def test_a_count_has_the_time_when_it_grew_last(desk: Desk) -> None:
    for requests, minutes in ((2, 0), (2, 1), (1, 2)):
        tell(desk, settled("g", requests), now=NOW + timedelta(minutes=minutes))
    assert [one.told for one in unbooked(desk)] == [NOW]
    tell(desk, settled("g", 3), now=NOW + timedelta(minutes=3))
    assert [one.told for one in unbooked(desk)] == [NOW + timedelta(minutes=3)]


def test_those_whose_count_stands_for_longest_are_named_first(desk: Desk) -> None:
    for minutes, gateway in enumerate(("g2", "g3", "g1")):
        tell(desk, settled(gateway, 1), now=NOW + timedelta(minutes=minutes))
    assert [one.instance for one in unbooked(desk)] == ["g2", "g3", "g1"]


def test_a_spool_may_bring_more_than_its_gateway_ever_told(desk: Desk) -> None:
    tell(desk, settled("g", 1), used("g", 0), used("g", 1))
    tell(desk, None, used("silent", 0))
    assert unbooked(desk) == ()


def test_sums_that_no_column_holds_stay_at_the_largest_that_one_does(desk: Desk) -> None:
    huge = [record("g", request=f"huge-{number}", cost=LARGEST) for number in range(3)]
    tell(desk, tally_of(huge).settled_by("g"), huge[0])
    tell(desk, None, huge[1])
    assert unbooked(desk) == (Unbooked("g", Tally(1, tally_of(huge[2:]).tokens, 0), NOW),)
    with desk.reader() as reader:
        audit(reader)


def test_counters_go_when_all_is_booked_for_an_hour_and_come_again_with_what_is_told_next(desk: Desk) -> None:
    tell(desk, settled("g", 2), used("g", 0), used("g", 1))
    assert over(desk, NOW + BOOKED_FOR) == []
    assert over(desk, NOW + BOOKED_FOR + MOMENT) == ["g"]
    desk.do(lambda work: work.uncounted.add("g"))
    assert over(desk, NOW + MISSED_FOR) == []
    tell(desk, settled("g", 3))
    assert unbooked(desk) == (Unbooked("g", tally_of([used("g", 2)]), NOW),)


def test_what_never_came_is_told_for_thirty_days(desk: Desk) -> None:
    tell(desk, settled("g", 2), used("g", 0))
    assert over(desk, NOW + MISSED_FOR) == []
    assert over(desk, NOW + MISSED_FOR + MOMENT) == ["g"]


def test_counters_that_go_and_are_told_in_one_commit_stay(desk: Desk) -> None:
    tell(desk, settled("g", 1))

    def both(work: Work) -> None:
        work.uncounted.add("g")
        work.count(settled("g", 2), NOW)

    desk.do(both)
    assert [one.missing.requests for one in unbooked(desk)] == [2]


@pytest.mark.parametrize(
    ("instance", "values", "says"),
    [
        ("", {"s": 1}, "'' cannot name counters"),
        ("g", {"a\nb": 1}, r"'a\\nb' cannot name counters"),
        ("g", {"s": -1}, "s of g: -1 is no count; it is a whole number from 0 to 9223372036854775807"),
        ("g", {"s": LARGEST + 1}, "s of g: 9223372036854775808 is no count"),
        ("g", {"s": float("nan")}, "s of g: nan is no count"),
        ("g", {"s": True}, "s of g: True is no count"),
    ],
)
def test_what_is_no_counter_is_refused(instance: str, values: dict[str, int], says: str) -> None:
    with pytest.raises(InvalidValue, match=says):
        Counters(instance, values)
