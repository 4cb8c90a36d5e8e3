"""Rows that are written many at a time lie as if each had been written alone."""

import sqlite3
from contextlib import closing

from hypothesis import given
from hypothesis import strategies as st

from tollkeeper_ledger.wide import write_rows

ADD = "INSERT INTO sums VALUES {rows} ON CONFLICT (name) DO UPDATE SET amount = amount + excluded.amount"


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(-100, 100)), max_size=700))
def test_rows_add_up_in_their_order_and_each_is_counted(rows: list[tuple[int, int]]) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE sums (name INTEGER PRIMARY KEY, amount INTEGER)")
        assert write_rows(connection, ADD, rows) == len(rows)
        expected: dict[int, int] = {}
        for name, amount in rows:
            expected[name] = expected.get(name, 0) + amount
        assert dict(connection.execute("SELECT * FROM sums")) == expected


def test_rows_of_many_columns_stay_within_what_a_statement_takes() -> None:
    width = 200
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE TABLE broad ({', '.join(f'c{n} INTEGER' for n in range(width))})")
        rows = [tuple(range(start, start + width)) for start in range(300)]
        write_rows(connection, "INSERT INTO broad VALUES {rows}", rows)
        assert connection.execute("SELECT * FROM broad ORDER BY c0").fetchall() == rows
