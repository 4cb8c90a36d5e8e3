"""What was booked lately is known without the database, and nothing that was booked is ever taken for new (I3)."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ledger.builders import Desk, account_of, budget, record
from tollkeeper.leases import Want
from tollkeeper.usage import Charge
from tollkeeper_ledger import booked
from tollkeeper_ledger.booked import LatelyBooked

NAMES = st.text("0123af", min_size=1, max_size=4)
REPORTS = st.lists(
    st.tuples(st.lists(NAMES, max_size=6), st.lists(NAMES.map("mark-{}".format), max_size=2)), max_size=12
)
LIMIT = budget(allocation=10**9)
ACCOUNT = account_of(LIMIT)


@given(REPORTS, st.lists(NAMES | NAMES.map("mark-{}".format), max_size=8))
def test_whatever_it_answers_is_what_was_booked(reports: list[tuple[list[str], list[str]]], asked: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(booked, "KEPT", 4)
        before, all_booked = ["0", "1a"], {"0", "1a"}
        lately = LatelyBooked(max(before), None)
        for ids, marks in reports:
            lately.add(ids, marks)
            all_booked.update(ids, marks)
            answer = lately.among(asked)
            assert answer is None or answer == all_booked.intersection(asked)


def test_it_answers_for_ids_that_grow_however_many_were_booked_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(booked, "KEPT", 4)
    lately = LatelyBooked("", ("owed-a", "refund-b"))
    for number in range(100, 200, 5):
        ids = [f"{one:03}" for one in range(number, number + 5)]
        assert lately.among(ids) == set()
        lately.add(ids, ())
        assert lately.among(ids[-2:]) == set(ids[-2:])


def test_a_usage_that_was_booked_before_a_restart_is_not_booked_again(tmp_path: Path) -> None:
    """I3."""
    desk = Desk(tmp_path / "ledger.db", LIMIT)
    desk.lease("g1", Want(ACCOUNT, 100, 100))
    older, newer = (
        record("g1", Charge(ACCOUNT, 10, 10), request="a"),
        record("g1", Charge(ACCOUNT, 20, 20), request="b"),
    )
    desk.charge(older)
    desk.reopen()
    desk.charge(older, newer)
    desk.charge(newer)
    assert desk.account(ACCOUNT).spent == 30
    desk.store.close()
