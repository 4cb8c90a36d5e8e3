"""Times and lengths at the ends of what can be written: told as any value that cannot be, never a fault of ours."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from tollkeeper.resources.wire import DurationText, Time
from tollkeeper.windows import Calendar, parse_duration

TIMES: TypeAdapter[datetime] = TypeAdapter(Time)
LENGTHS: TypeAdapter[str] = TypeAdapter(DurationText)
FAR = "0001-01-01T00:00:00+23:00"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.mark.parametrize("value", [FAR, datetime.fromisoformat(FAR)], ids=["text", "as YAML reads it"])
def test_a_time_before_all_calendars_is_refused_in_words(value: str | datetime) -> None:
    with pytest.raises(ValidationError, match="is not a time: write RFC 3339 with an offset"):
        TIMES.validate_python(value)


def test_a_window_of_more_days_than_can_be_counted_is_refused_in_words() -> None:
    with pytest.raises(ValidationError, match="at most 99999d"):
        LENGTHS.validate_python("100000d")


@given(
    st.sampled_from(["1000-01-01T00:00:00+23:59", "2026-01-01T00:00:00Z", "2999-12-31T23:59:59-23:59"]),
    st.sampled_from(["1s", "99999d999999h999999m999999s"]),
    st.integers(0, 365 * 200),
)
def test_whatever_a_resource_states_there_is_a_window_of_now_and_one_before(
    anchor: str, length: str, days: int
) -> None:
    calendar = Calendar.custom(parse_duration(LENGTHS.validate_python(length)), TIMES.validate_python(anchor))
    now = NOW + timedelta(days=days)
    window = calendar.window_at(now)
    assert window.contains(now)
    assert calendar.window_at(window.start - timedelta(microseconds=1)).end == window.start
