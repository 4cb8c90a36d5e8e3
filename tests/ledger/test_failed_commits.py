"""A commit that SQLite does not take leaves file and memory as they were, whatever it held; the next one goes on from there."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ledger.builders import NOW, Desk, account_of, budget, grant, record
from tollkeeper.leases import Want
from tollkeeper.usage import Charge
from tollkeeper_ledger import bookkeeping, sqlite
from tollkeeper_ledger.errors import LedgerUnavailable
from tollkeeper_ledger.sqlite_rows import Written
from tollkeeper_ledger.work import Work

LIMITS = tuple(budget(f"b{number}", allocation=10**6) for number in range(4))
ACCOUNTS = tuple(account_of(limit) for limit in LIMITS)
HOLDERS = ("g1", "g2", "g3")

Step = Callable[[Desk], object]
names, holders = st.sampled_from(ACCOUNTS), st.sampled_from(HOLDERS)
amounts = st.integers(1, 1000)


@st.composite
def leasing(draw: st.DrawFn) -> Step:
    holder, wants = draw(holders), draw(st.lists(names, unique=True, max_size=4))
    returns = draw(st.dictionaries(names, amounts, max_size=2))
    need = draw(amounts)
    return lambda desk: desk.lease(holder, *(Want(name, need, need) for name in wants), returns=returns)


@st.composite
def charging(draw: st.DrawFn) -> Step:
    usage = record(draw(holders), Charge(draw(names), draw(amounts), draw(amounts)), request=draw(st.uuids()).hex)
    return lambda desk: desk.charge(usage)


def forgetting(holder: str) -> Step:
    return lambda desk: desk.do(lambda work: bookkeeping.forget(work, work.holder(holder)))


def giving_all_back(holder: str) -> Step:
    def give_back(desk: Desk) -> None:
        leases = desk.do(lambda work: dict(work.leases_of(holder)))
        desk.lease(holder, returns={name: lease.outstanding for name, lease in leases.items()})

    return give_back


steps = st.one_of(
    leasing(),
    charging(),
    holders.map(giving_all_back),
    holders.map(forgetting),
    holders.map(lambda holder: lambda desk: desk.lapse(holder)),
    st.tuples(amounts, st.integers(0, 3)).map(
        lambda drawn: lambda desk: desk.book_grant(
            grant(drawn[0], f"grant-{drawn[0]}", ref=LIMITS[drawn[1]].ref), LIMITS[drawn[1]]
        )
    ),
)  # fmt: skip


def state(desk: Desk) -> object:
    """What rules would read of everything."""

    def read(work: Work) -> object:
        accounts = [work.account(name) for name in ACCOUNTS]
        shares = [sorted(work.shares_of(name), key=repr) for name in ACCOUNTS]
        return accounts, shares, [(work.holder(one), dict(work.leases_of(one))) for one in HOLDERS]

    return desk.do(read)


def commit_failing(desk: Desk, step: Step) -> None:
    """A step all of whose rows are written, and whose commit then fails."""
    rows = desk.sqlite._rows

    def written_and_lost(work: Work, seq: int, head: bytes) -> Written:
        type(rows).write(rows, work, seq, head)
        raise sqlite3.OperationalError("database or disk is full")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "write", written_and_lost)
        # What changes nothing is not committed, and does not fail.
        with suppress(LedgerUnavailable):
            step(desk)


@given(st.lists(st.tuples(steps, st.booleans()), min_size=3, max_size=25))
def test_what_is_remembered_is_what_the_file_says_whichever_commits_failed(what: list[tuple[Step, bool]]) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite, "REMEMBERED_ACCOUNTS", 2)
        desk = Desk(Path(folder) / "ledger.db", *LIMITS)
        for step, fails in what:
            if fails:
                before = state(desk)
                commit_failing(desk, step)
                assert state(desk) == before
            else:
                step(desk)
        remembered = state(desk)
        desk.reopen()
        assert state(desk) == remembered
        held = dict(desk.sqlite._connection.execute("SELECT id, held FROM accounts").fetchall())
        leased = "SELECT account, sum(outstanding) FROM leases WHERE lapsed = 0 GROUP BY account"
        assert {name: amount for name, amount in held.items() if amount} == dict(
            desk.sqlite._connection.execute(leased).fetchall()
        )
        desk.store.close()


def test_a_holder_whose_forgetting_failed_goes_on(desk: Desk) -> None:
    account = account_of(LIMITS[0])
    desk.lease("g", Want(account, 5, 5), now=NOW)
    giving_all_back("g")(desk)
    commit_failing(desk, forgetting("g"))
    assert desk.lease("g", Want(account, 5, 5)).granted
    desk.close("g")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "ledger.db", *LIMITS)
    yield desk
    desk.store.close()
