"""How usages are grouped into reports changes nothing but how many transactions there are."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.ledger.builders import NOW, Desk, account_of, budget, grant, record
from tollkeeper.leases import Want
from tollkeeper.limits import Enforcement
from tollkeeper.usage import BUCKETS, Buckets, Caller, Charge, UsageRecord
from tollkeeper_ledger.export import verify
from tollkeeper_ledger.history import read_history
from tollkeeper_ledger.usagerows import record_of, written

HARD, SOFT = budget(allocation=1000, minimum=-12), budget("soft", 300, enforcement=Enforcement.SOFT)
NOWHERE = budget("gone")
ACCOUNTS = [account_of(limit) for limit in (HARD, SOFT, NOWHERE)]
HOLDERS = ["alive", "lapsed", "closed"]

usages = st.lists(
    st.tuples(
        st.sampled_from(HOLDERS),
        st.sets(st.sampled_from(range(3)), max_size=3),
        st.integers(0, 250),
        st.integers(0, 250),
        st.integers(0, 9),
    ),
    max_size=14,
)


def records(drawn: Sequence[tuple[str, set[int], int, int, int]]) -> list[UsageRecord]:
    """A report; ids repeat now and then."""
    return [
        record(
            holder,
            *(Charge(ACCOUNTS[which], amount, held) for which in sorted(named)),
            request=f"r{number if repeated else 0}",
            cost=amount,
        )
        for number, (holder, named, amount, held, repeated) in enumerate(drawn)
    ]


def opened(path: Path, granted: bool) -> Desk:
    """A ledger in which one holder lives, one was not heard of, and one has ended; a grant of it may be over."""
    desk = Desk(path, HARD, SOFT)
    desk.open(HARD)
    if granted:
        desk.book_grant(grant(300, expires_at=NOW + timedelta(minutes=1)), HARD)
    for holder, amount in zip(HOLDERS, (500, 200, 300), strict=True):
        desk.lease(holder, Want(ACCOUNTS[0], 1, amount))
    desk.lapse("lapsed")
    desk.close("closed", {ACCOUNTS[0]: 150})
    return desk


def outcome(desk: Desk, holders: Sequence[str] = HOLDERS) -> object:
    """Everything that bookkeeping knows of accounts, leases and usages."""
    with desk.reader() as reader:
        pages = {
            name: [(row.id, row.amount, row.balance) for row in reader.usages(name, page=1, order="oldest").rows]
            for name in ACCOUNTS
        }
        totals = [reader.totals(name) for name in ACCOUNTS]
    leases = desk.do(lambda work: {holder: dict(work.leases_of(holder)) for holder in holders})
    return [desk.known(name) for name in ACCOUNTS], leases, pages, totals, verify(desk.export()).balances


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(usages, st.booleans())
@example(drawn=[("alive", {0}, 1, 0, 0), ("alive", {0}, 0, 0, 1)], granted=False)
def test_one_report_of_many_comes_to_what_many_reports_of_one_come_to(
    drawn: list[tuple[str, set[int], int, int, int]], granted: bool
) -> None:
    report, later = records(drawn), NOW + timedelta(minutes=2)
    with TemporaryDirectory() as folder:
        at_once, one_by_one = (opened(Path(folder) / name, granted) for name in ("one.db", "many.db"))
        at_once.charge(*report, now=later)
        for one in report:
            one_by_one.charge(one, now=later)
        assert outcome(at_once) == outcome(one_by_one)
        told, expected = (read_history(desk.export()).usages for desk in (at_once, one_by_one))
        assert [replace(one, place=0) for one in told] == [replace(one, place=0) for one in expected]
        for desk in (at_once, one_by_one):
            desk.store.close()


@given(
    st.lists(
        st.builds(
            lambda user, tenant, counts, cost, micros, streamed, prices: record(
                "g",
                Charge(ACCOUNTS[0], 5, 7),
                Charge(ACCOUNTS[1], 0, 0),
                caller=Caller(tenant, user=user, workload=user),
                buckets=Buckets(*counts),
                cost=cost,
                streamed=streamed,
                unit_prices=prices,
                finished_at=NOW + timedelta(microseconds=micros),
            ),
            st.none() | st.text(max_size=5),
            st.text(max_size=5),
            st.lists(st.integers(0, 2**60), max_size=9),
            st.integers(0, 2**63 - 1),
            st.integers(0, 10**7),
            st.booleans(),
            st.dictionaries(st.sampled_from(BUCKETS), st.sampled_from(["1", "0.5"])),
        ),
        max_size=5,
    )
)
def test_usage_rows_are_written_canonically_and_read_back(report: list[UsageRecord]) -> None:
    text = written(report)
    rows = orjson.loads(text)
    assert orjson.dumps(rows, option=orjson.OPT_SORT_KEYS) == text
    assert [record_of(row) for row in rows] == report


def test_a_report_is_one_transaction_whose_entries_are_its_sums(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "ledger.db", HARD)
    desk.lease("g", Want(ACCOUNTS[0], 900, 900))
    desk.charge(*(record("g", Charge(ACCOUNTS[0], amount, amount)) for amount in (5, 0, 7)))
    report = orjson.loads(desk.export()[-1])
    desk.store.close()
    assert [(entry["account"].split("#")[1], entry["amount"]) for entry in report["entries"]] == [
        ("balance", -12),
        ("spent", 12),
    ]
    assert [row["charges"][0]["amount"] for row in report["usage"]] == [5, 0, 7]
