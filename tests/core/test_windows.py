"""Windows partition time, in every zone, over every clock change."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tollkeeper.errors import InvalidValue
from tollkeeper.windows import Calendar, Every, Window, format_column_time, midnight, parse_duration, zone_named

AWKWARD = [
    "UTC", "Europe/Madrid", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Gaza", "America/Havana", "Africa/Cairo",
    "America/Toronto", "America/New_York", "Asia/Kathmandu", "Asia/Tehran", "Pacific/Apia", "Pacific/Kwajalein",
    "Africa/Casablanca", "Europe/Dublin", "America/St_Johns", "Asia/Amman", "Asia/Beirut", "America/Asuncion",
    "Antarctica/Troll", "America/Scoresbysund", "Europe/Amsterdam",
]  # fmt: skip

zones = st.sampled_from(AWKWARD)
spans = st.sampled_from(list(Every))
instants = st.timedeltas(timedelta(0), timedelta(days=365 * 299)).map(
    lambda age: datetime(1900, 1, 2, tzinfo=UTC) + age
)
customs = st.builds(Calendar.custom, st.timedeltas(timedelta(seconds=1), timedelta(days=400)), instants)
calendars = st.one_of(st.builds(Calendar.every, spans, zones), customs)


def changes(zone: str, first_year: int = 1985, last_year: int = 2030) -> list[datetime]:
    """The instants at which a zone's clock changes, to the second."""
    found: list[datetime] = []
    tz = ZoneInfo(zone)
    low = datetime(first_year, 1, 1, tzinfo=UTC)
    while low.year < last_year:
        high = low + timedelta(days=1)
        if low.astimezone(tz).utcoffset() != high.astimezone(tz).utcoffset():
            left, right = low, high
            while right - left > timedelta(seconds=1):
                middle = left + (right - left) // 2
                middle = middle.replace(microsecond=0)
                same = middle.astimezone(tz).utcoffset() == left.astimezone(tz).utcoffset()
                left, right = (middle, right) if same else (left, middle)
            found.append(right)
        low = high
    return found


def assert_partitions_around(calendar: Calendar, now: datetime) -> None:
    window = calendar.window_at(now)
    assert window.end is not None
    assert window.start <= now < window.end
    assert calendar.window_at(window.start) == window
    assert calendar.window_at(window.end - timedelta(microseconds=1)) == window
    following = calendar.next(window)
    assert following.start == window.end
    before = calendar.window_at(window.start - timedelta(microseconds=1))
    assert before.end == window.start


@given(calendars, instants)
@example(Calendar.every(Every.DAY, "Pacific/Apia"), datetime(2011, 12, 30, 9, 59, 59, tzinfo=UTC))
@example(Calendar.every(Every.HOUR, "Australia/Lord_Howe"), datetime(2026, 4, 4, 15, 10, tzinfo=UTC))
def test_windows_touch_and_every_instant_lies_in_exactly_one(calendar: Calendar, now: datetime) -> None:
    """R2."""
    assert_partitions_around(calendar, now)


@pytest.mark.parametrize("zone", AWKWARD)
@given(data=st.data())
def test_windows_partition_time_around_clock_changes(zone: str, data: st.DataObject) -> None:
    around = _changes_of(zone)
    change = data.draw(st.sampled_from(around))
    now = change + data.draw(st.timedeltas(timedelta(hours=-26), timedelta(hours=26)))
    assert_partitions_around(Calendar.every(data.draw(spans), zone), now)


_known: dict[str, list[datetime]] = {}


def _changes_of(zone: str) -> list[datetime]:
    if zone not in _known:
        _known[zone] = changes(zone) or [datetime(2020, 1, 1, tzinfo=UTC)]
    return _known[zone]


@given(st.sampled_from([Every.DAY, Every.WEEK, Every.MONTH]), zones, instants)
def test_a_window_of_dates_begins_when_the_local_clock_reaches_its_midnight(
    span: Every, zone: str, now: datetime
) -> None:
    window = Calendar.every(span, zone).window_at(now)
    local = window.start.astimezone(ZoneInfo(zone))
    just_before = (window.start - timedelta(seconds=1)).astimezone(ZoneInfo(zone))
    assert just_before.date() < local.date()
    if span is Every.MONTH and local.hour == 0:
        assert local.day == 1


@given(st.sampled_from([Every.MINUTE, Every.HOUR]), zones, instants)
def test_hours_and_minutes_are_elapsed_ones_and_never_longer(span: Every, zone: str, now: datetime) -> None:
    window = Calendar.every(span, zone).window_at(now)
    length = timedelta(hours=1) if span is Every.HOUR else timedelta(minutes=1)
    assert window.end is not None
    assert timedelta(0) < window.end - window.start <= length


def test_a_day_has_23_hours_when_the_clock_goes_forward_and_25_when_it_goes_back() -> None:
    """R2."""
    days = Calendar.every(Every.DAY, "Europe/Madrid")
    spring = days.window_at(datetime(2026, 3, 29, 12, tzinfo=UTC))
    autumn = days.window_at(datetime(2026, 10, 25, 12, tzinfo=UTC))
    assert spring.end is not None
    assert autumn.end is not None
    assert spring.end - spring.start == timedelta(hours=23)
    assert autumn.end - autumn.start == timedelta(hours=25)


def test_a_day_whose_midnight_is_skipped_begins_at_the_change() -> None:
    window = Calendar.every(Every.DAY, "America/Sao_Paulo").window_at(datetime(2018, 11, 4, 12, tzinfo=UTC))
    assert window.start == datetime(2018, 11, 4, 3, tzinfo=UTC)
    assert window.start.astimezone(ZoneInfo("America/Sao_Paulo")).hour == 1


def test_a_gap_that_begins_before_midnight_starts_the_day_where_it_ends() -> None:
    zone = ZoneInfo("America/Toronto")  # 23:30 became 00:30
    assert midnight(date(1919, 3, 31), zone) == datetime(1919, 3, 31, 4, 30, tzinfo=UTC)


def test_a_midnight_that_comes_twice_starts_the_day_at_its_first_coming() -> None:
    window = Calendar.every(Every.DAY, "America/Havana").window_at(datetime(2026, 11, 1, 12, tzinfo=UTC))
    assert window.start == datetime(2026, 11, 1, 4, tzinfo=UTC)
    assert window.end == datetime(2026, 11, 2, 5, tzinfo=UTC)


def test_a_date_that_a_zone_skipped_has_no_window() -> None:
    days = Calendar.every(Every.DAY, "Pacific/Apia")
    before = days.window_at(datetime(2011, 12, 30, 9, tzinfo=UTC))
    after = days.next(before)
    assert before.start.astimezone(ZoneInfo("Pacific/Apia")).date() == date(2011, 12, 29)
    assert after.start.astimezone(ZoneInfo("Pacific/Apia")).date() == date(2011, 12, 31)


def test_an_hour_that_comes_twice_is_two_windows() -> None:
    hours = Calendar.every(Every.HOUR, "Europe/Madrid")
    first = hours.window_at(datetime(2026, 10, 25, 0, 30, tzinfo=UTC))
    second = hours.window_at(datetime(2026, 10, 25, 1, 30, tzinfo=UTC))
    assert [window.start.astimezone(ZoneInfo("Europe/Madrid")).hour for window in (first, second)] == [2, 2]
    assert first.end == second.start


def test_hours_of_a_zone_between_hours_begin_on_its_own_full_hour() -> None:
    window = Calendar.every(Every.HOUR, "Asia/Kathmandu").window_at(datetime(2026, 1, 1, 0, 0, tzinfo=UTC))
    assert window.start == datetime(2025, 12, 31, 23, 15, tzinfo=UTC)


def test_a_half_hour_clock_change_ends_one_hour_early() -> None:
    hours = Calendar.every(Every.HOUR, "Australia/Lord_Howe")
    window = hours.window_at(datetime(2026, 4, 4, 15, 10, tzinfo=UTC))
    assert window == Window(datetime(2026, 4, 4, 15, 0, tzinfo=UTC), datetime(2026, 4, 4, 15, 30, tzinfo=UTC))


def test_a_week_begins_on_monday() -> None:
    window = Calendar.every(Every.WEEK, "Europe/Madrid").window_at(datetime(2026, 11, 21, tzinfo=UTC))
    assert window.start == datetime(2026, 11, 16, tzinfo=ZoneInfo("Europe/Madrid"))


def test_months_end_where_the_next_begins_even_in_february() -> None:
    months = Calendar.every(Every.MONTH)
    window = months.window_at(datetime(2028, 2, 29, 23, 59, 59, tzinfo=UTC))
    assert window == Window(datetime(2028, 2, 1, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC))


def test_an_instant_at_a_boundary_belongs_to_the_window_that_starts_there() -> None:
    days = Calendar.every(Every.DAY)
    assert days.window_at(datetime(2026, 11, 21, tzinfo=UTC)).start == datetime(2026, 11, 21, tzinfo=UTC)


def test_custom_windows_are_counted_from_the_anchor_in_both_directions() -> None:
    calendar = Calendar.custom(parse_duration("36h"), datetime(2026, 11, 1, tzinfo=UTC))
    assert calendar.window_at(datetime(2026, 10, 31, 23, tzinfo=UTC)).start == datetime(2026, 10, 30, 12, tzinfo=UTC)
    assert calendar.window_at(datetime(2026, 11, 2, 12, tzinfo=UTC)).start == datetime(2026, 11, 2, 12, tzinfo=UTC)


@given(instants)
def test_a_prepaid_calendar_has_one_window_that_never_ends(now: datetime) -> None:
    window = Calendar.FOREVER.window_at(now)
    assert window.contains(now)
    assert window.key() == "forever"
    with pytest.raises(InvalidValue, match="never ends"):
        Calendar.FOREVER.next(window)


@given(calendars, instants, instants)
def test_instants_share_a_key_exactly_when_they_share_a_window(
    calendar: Calendar, one: datetime, other: datetime
) -> None:
    left, right = calendar.window_at(one), calendar.window_at(other)
    assert (left.key() == right.key()) == (left == right)


def test_a_key_is_the_start_in_rfc_3339() -> None:
    assert Calendar.every(Every.MONTH).window_at(datetime(2026, 11, 21, tzinfo=UTC)).key() == "2026-11-01T00:00:00Z"


@pytest.mark.parametrize(
    "name",
    [
        "Mars/Olympus",
        "",
        "../../etc/passwd",
        "/etc/localtime",
        "europe/madrid",
        "Local",
        "Europe",
        "Europe/",
        "localtime",
        "+02:00",
    ],
)
def test_an_unknown_zone_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(InvalidValue, match="is not a known time zone") as refusal:
        Calendar.every(Every.DAY, name)
    assert repr(name) in str(refusal.value)


def test_every_zone_of_the_database_is_taken() -> None:
    for name in available_timezones() - {"localtime", "Factory"}:
        assert zone_named(name).key == name


@given(st.integers(0, 9999), st.integers(0, 9999), st.integers(0, 9999), st.integers(0, 9999))
def test_durations_are_read_as_they_are_written(days: int, hours: int, minutes: int, seconds: int) -> None:
    expected = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    parts = ((days, "d"), (hours, "h"), (minutes, "m"), (seconds, "s"))
    text = "".join(f"{count}{unit}" for count, unit in parts if count)
    if expected:
        assert parse_duration(text) == expected


@pytest.mark.parametrize("text", ["", "0h", "0d0h", "-1h", "1.5h", "1w", "h", "30m1h", "36", "1h ", "1h\n", "٣h"])
def test_what_is_not_a_duration_above_zero_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="is not a duration"):
        parse_duration(text)


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(InvalidValue, match="has no time zone"):
        Calendar.every(Every.DAY).window_at(datetime(2026, 1, 1))  # noqa: DTZ001 - the point of the test


def test_columns_show_times_on_the_windows_own_clock() -> None:
    end = Calendar.every(Every.MONTH, "Europe/Madrid").window_at(datetime(2026, 11, 21, tzinfo=UTC)).end
    assert format_column_time(end, "Europe/Madrid") == "2026-12-01 00:00"
    assert format_column_time(None) == ""
