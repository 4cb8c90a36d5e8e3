"""Thresholds are told at a bounded rate, and no crossing is left out of the count."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.accounts import Account
from tollkeeper.amounts import Unit
from tollkeeper.limits import Dimension, Limit, LimitRef
from tollkeeper.windows import Calendar, Every
from tollkeeper_operator.threshold_events import PAUSE_SECONDS, ThresholdEvents

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


def test_a_series_to_which_nothing_came_is_forgotten() -> None:
    events = ThresholdEvents()
    events.crossed(50, EACH_DAY, account(EACH_DAY, NOW, "ada"))
    assert len(list(events.due(0.0, alone))) == 1
    assert not list(events.due(PAUSE_SECONDS, alone))
    assert not events._series


def test_what_is_told_by_itself_is_told_once() -> None:
    events = ThresholdEvents()
    events.crossed(50, MONTHLY, account(MONTHLY, NOW))
    ((ref, notice),) = events.due(0.0, alone)
    assert (ref, notice.times) == (MONTHLY.ref, None)
    assert not list(events.due(0.0, alone))
