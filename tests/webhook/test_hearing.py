"""What counts as silence of a lease holder, over times of the test's own."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.leases import LEASE_TIME
from tollkeeper_webhook.hearing import ALWAYS_LATE, Hearing

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
PERIOD = timedelta(seconds=5)
JUST_OVER = LEASE_TIME + timedelta(seconds=1)


def silent(hearing: Hearing, now: datetime) -> list[str]:
    return [one.holder for one in hearing.silent(now)]


def call(hearing: Hearing, sequence: int, begin: datetime, end: datetime) -> None:
    if hearing.called("g", sequence, begin):
        hearing.ended("g", end)
    hearing.booked("g", sequence)


def test_a_call_counts_from_when_it_comes_until_it_is_answered() -> None:
    hearing = Hearing(NOW)
    call(hearing, 1, NOW, NOW + JUST_OVER)
    assert silent(hearing, NOW + JUST_OVER) == []
    assert silent(hearing, NOW + 2 * JUST_OVER) == ["g"]


def test_a_call_that_ends_after_its_holder_has_ended_says_nothing_of_it() -> None:
    hearing = Hearing(NOW)
    tells = hearing.called("g", 1, NOW)
    hearing.forget("g")
    hearing.ended("g", NOW)
    assert tells
    assert list(hearing.holders) == []


def test_a_call_that_was_heard_before_says_nothing_of_its_holder() -> None:
    hearing = Hearing(NOW)
    call(hearing, 2, NOW, NOW)
    call(hearing, 1, NOW + JUST_OVER, NOW + JUST_OVER)
    assert silent(hearing, NOW + JUST_OVER) == ["g"]


def test_a_number_of_the_ledger_that_went_on_says_that_its_holder_lives_when_the_ledger_answered() -> None:
    hearing = Hearing(NOW)
    hearing.live({"g": 1}, NOW)
    hearing.live({"g": 2}, NOW + JUST_OVER)
    hearing.live({"g": 2}, NOW + 2 * JUST_OVER)
    assert silent(hearing, NOW + JUST_OVER) == []
    assert silent(hearing, NOW + 2 * JUST_OVER) == ["g"]


def test_a_silent_holder_that_calls_is_not_the_same_any_more() -> None:
    hearing = Hearing(NOW)
    call(hearing, 1, NOW, NOW)
    (one,) = hearing.silent(NOW + JUST_OVER)
    assert hearing.is_still(one)
    call(hearing, 2, NOW + JUST_OVER, NOW + JUST_OVER)
    assert not hearing.is_still(one)


gaps = st.lists(st.integers(0, 600), max_size=12)


@given(gaps)
def test_silence_is_the_time_of_beats_that_came_when_they_should(gaps: list[int]) -> None:
    """What comes more than a little late is left out, but for the period that a beat may take anyway."""
    hearing, now, heard = Hearing(NOW), NOW, timedelta(0)
    call(hearing, 1, NOW, NOW)
    for gap in gaps:
        now += (step := timedelta(seconds=gap))
        hearing.beat(now, PERIOD)
        heard += step if step <= PERIOD + ALWAYS_LATE else PERIOD
    assert silent(hearing, now) == (["g"] if heard > LEASE_TIME else [])


@given(gaps)
def test_a_clock_that_is_set_back_makes_nobody_silent(gaps: list[int]) -> None:
    hearing, now = Hearing(NOW), NOW
    call(hearing, 1, NOW, NOW)
    for gap in gaps:
        now -= timedelta(seconds=gap)
        hearing.beat(now, PERIOD)
    assert silent(hearing, now) == []
