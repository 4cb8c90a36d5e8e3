"""The rows of the benchmark: when a goal is kept, and how a row is written and shown."""

import pytest
from bench.rows import HEADINGS, Row, at_least, at_most, figure, lines

KEYS = {"name", "value", "unit", "peer", "peer_value", "ratio", "goal", "held"}


def test_a_row_has_the_keys_that_the_interface_promises() -> None:
    assert Row("grants", 10.0, "grants/s").to_json().keys() == KEYS


@pytest.mark.parametrize(
    ("row", "held"),
    [
        (Row("a", 5, "ms", goal=at_most(5)), True),
        (Row("a", 5.1, "ms", goal=at_most(5)), False),
        (Row("a", 60_000, "rows/s", goal=at_least(60_000)), True),
        (Row("a", 59_999, "rows/s", goal=at_least(60_000)), False),
        (Row("a", 7, "calls/s", "peer", 7, at_least()), True),
        (Row("a", 6, "calls/s", "peer", 7, at_least()), False),
        (Row("a", 6, "calls/s"), None),
    ],
)
def test_a_goal_is_kept_or_not_and_without_one_nothing_is_said(row: Row, held: bool | None) -> None:
    assert row.held is held


def test_a_goal_that_the_peer_sets_is_not_kept_while_the_peer_is_not_measured() -> None:
    assert Row("a", 10**9, "calls/s", "Redis: install it", None, at_least()).held is False


def test_a_ratio_is_ours_over_the_peers() -> None:
    assert Row("a", 3, "µs", "peer", 4).ratio == 0.75


def test_numbers_are_told_to_four_digits() -> None:
    assert [figure(value) for value in (1234567.0, 12.3456, 0.000123456, None)] == [
        "1,235,000",
        "12.35",
        "0.0001235",
        "",
    ]


def test_every_line_of_the_table_has_a_cell_for_each_heading() -> None:
    rows = [Row("a", 1, "ms").to_json(), Row("b", 2, "ms", "peer", 3, at_least()).to_json()]
    assert {len(line) for line in lines(rows)} == {len(HEADINGS)}
