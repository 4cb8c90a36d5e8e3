"""Thresholds are told at a bounded rate, and no crossing is left out of the count because it could not be told at once."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.accounts import Account
from tollkeeper.amounts import Unit
from tollkeeper.limits import Dimension, Limit, LimitRef
from tollkeeper.notices import Notice
from tollkeeper.windows import Calendar, Every
from tollkeeper_operator.threshold_events import MISSES, PAUSE_SECONDS, ThresholdEvents

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def quota(name: str, every: Every, *per: Dimension) -> Limit:
    ref = LimitRef("TokenQuota", "research", "caps", name)
    return Limit(ref, frozenset({"research"}), Unit.TOKENS, Calendar.every(every), 100, per=per, thresholds=(50, 80))


PER_MINUTE = quota("rpm", Every.MINUTE)
EACH_DAY = quota("each", Every.DAY, Dimension.USER)
MONTHLY = quota("monthly", Every.MONTH)
LIMITS = (PER_MINUTE, EACH_DAY, MONTHLY)


def account(limit: Limit, at: datetime, *key: str, spent: int = 80) -> Account:
    identity, window = limit.account_at(key, at)
    return Account(identity.text, window.start, window.end, allocation=100, spent=spent)


def alone(_limit: Limit, one: Account) -> Sequence[Account]:
    return [one]


@given(
    st.lists(
        st.tuples(st.sampled_from(LIMITS), st.sampled_from((50, 80)), st.integers(0, 200), st.integers(0, 50)),
        max_size=200,
    )
)
def test_each_series_is_told_at_once_and_then_at_most_once_in_a_pause_and_counts_every_crossing(
    crossings: list[tuple[Limit, int, int, int]],
) -> None:
    # Whole seconds: sums of fractions round, so two times that are a pause apart may differ by a little less.
    events, at = ThresholdEvents(), 1000.0
    happened, told, last = Counter[str](), Counter[str](), dict[str, float]()

    def tell() -> None:
        for _, notice in events.due(at, alone):
            if notice.times is not None:
                assert at - last.get(notice.identity, -PAUSE_SECONDS) >= PAUSE_SECONDS
                last[notice.identity] = at
            told[notice.identity] += notice.times or 1
            events.ended(notice, told=True)

    for limit, threshold, seconds, who in crossings:
        at += seconds
        key = (f"user-{who}",) if limit.per else ()
        one = account(limit, NOW + timedelta(seconds=at), *key)
        events.crossed(threshold, limit, one)
        hour = (NOW + timedelta(seconds=at)).replace(minute=0, second=0, microsecond=0)
        happened[f"{limit.ref.limit}/{hour if limit is PER_MINUTE else ''}/{threshold}"] += 1
        tell()
        assert told, "the first one is told at once"
    at += PAUSE_SECONDS
    tell()
    assert sorted(told.values()) == sorted(happened.values())


class Fate(StrEnum):
    """What becomes of a notice that is handed over."""

    WRITTEN = "written"
    LOST = "lost"
    SLOW = "slow"
    """It is written when the next one is handed over, or in the end."""


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 400), st.sampled_from(Fate)), max_size=60))
def test_what_was_handed_over_and_not_written_counts_with_what_follows(passes: list[tuple[int, float, Fate]]) -> None:
    events, at, written, happened = ThresholdEvents(), 1000.0, 0, 0
    slow, lost_in_a_row = list[Notice](), 0

    def end(notice: Notice, *, told: bool) -> None:
        nonlocal written
        written += (notice.times or 0) if told else 0
        events.ended(notice, told=told)

    for crossings, seconds, fate in passes:
        at += seconds
        for number in range(crossings):
            events.crossed(50, EACH_DAY, account(EACH_DAY, NOW, f"user-{happened + number}"))
        happened += crossings
        while slow:
            end(slow.pop(), told=True)
        for _, notice in events.due(at, alone):
            lost_in_a_row = lost_in_a_row + 1 if fate is Fate.LOST and lost_in_a_row + 1 < MISSES else 0
            if fate is Fate.SLOW:
                slow.append(notice)
            else:
                end(notice, told=lost_in_a_row == 0)
    while slow:
        end(slow.pop(), told=True)
    for _, notice in events.due(at + PAUSE_SECONDS, alone):
        end(notice, told=True)
    assert written == happened


def test_a_series_is_not_told_again_while_it_is_being_written() -> None:
    events = ThresholdEvents()
    events.crossed(50, EACH_DAY, account(EACH_DAY, NOW, "ada"))
    ((_, notice),) = events.due(0.0, alone)
    events.crossed(50, EACH_DAY, account(EACH_DAY, NOW, "bob"))
    assert not list(events.due(PAUSE_SECONDS, alone))
    events.ended(notice, told=True)
    ((_, following),) = events.due(PAUSE_SECONDS, alone)
    assert following.times == 1


def test_a_series_that_cannot_be_told_for_an_hour_is_given_up() -> None:
    """Its Event would be gone by then; what nobody may write must not pile up."""
    events, at, tries = ThresholdEvents(), 0.0, 0
    events.crossed(50, EACH_DAY, account(EACH_DAY, NOW, "ada"))
    while events._series:
        for _, notice in events.due(at, alone):
            events.ended(notice, told=False)
            tries += 1
        at += PAUSE_SECONDS
    assert tries == MISSES == 3600 / PAUSE_SECONDS


def test_a_series_to_which_nothing_came_is_forgotten() -> None:
    events = ThresholdEvents()
    events.crossed(50, EACH_DAY, account(EACH_DAY, NOW, "ada"))
    ((_, notice),) = events.due(0.0, alone)
    events.ended(notice, told=True)
    assert not list(events.due(PAUSE_SECONDS, alone))
    assert not events._series


def test_what_is_told_by_itself_is_told_once() -> None:
    events = ThresholdEvents()
    events.crossed(50, MONTHLY, account(MONTHLY, NOW))
    ((ref, notice),) = events.due(0.0, alone)
    assert (ref, notice.times) == (MONTHLY.ref, None)
    assert not list(events.due(0.0, alone))
