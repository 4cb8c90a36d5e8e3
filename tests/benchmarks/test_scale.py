"""The numbers of docs/scale.md: their formulas, and that the document has what the last measurements give."""

import orjson
import pytest
from bench import scale
from bench.memory import ACCOUNTS
from hypothesis import given
from hypothesis import strategies as st

RATES = st.floats(1, 1e6)


def values(booked: float, calls: float, busy: float, quiet: float) -> dict[str, float]:
    return {
        "usage rows booked, SQLite": booked,
        "lease calls of 4 levels, SQLite": calls,
        "lease calls of a gateway with 100 requests/s": busy,
        "lease calls of a gateway with 1 requests/s": quiet,
    }


def test_the_document_has_the_numbers_of_the_last_measurements() -> None:
    rows = orjson.loads(scale.RESULTS.read_bytes())["rows"]
    document = scale.DOCUMENT.read_text()
    assert scale.written(document, scale.tables(rows)) == document, "run: python -m bench.scale"


def test_a_node_carries_half_of_what_its_writer_has_time_for() -> None:
    node = scale.node(values(booked=1000, calls=100, busy=2, quiet=1), "SQLite")
    assert node.busy_requests == pytest.approx(0.5 / (1 / 1000 + 2 / 100 / 100))
    assert node.busy_sidecars == node.busy_requests // 100
    assert node.quiet_sidecars == 0.5 // (1 / 1000 + 1 / 100)


@given(RATES, RATES, st.floats(0.1, 100), st.floats(0.1, 10))
def test_a_node_never_books_more_than_half_of_what_it_can_book(
    booked: float, calls: float, busy: float, quiet: float
) -> None:
    assert scale.node(values(booked, calls, busy, quiet), "SQLite").busy_requests <= booked / 2


def test_tenants_are_counted_by_the_accounts_that_are_measured() -> None:
    assert scale.ACCOUNTS == ACCOUNTS
