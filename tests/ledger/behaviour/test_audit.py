"""A ledger's rows beside its chain: what was changed, removed or left over in either is told, and what was not holds."""

# ruff: noqa: S608 - statements of names that stand here
import sqlite3
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest

from tests.ledger.builders import NOW, Desk, account_of, budget, grant, record
from tollkeeper.amounts import LARGEST
from tollkeeper.counters import tally_of
from tollkeeper.leases import Want
from tollkeeper.usage import Charge
from tollkeeper_ledger import bookkeeping, corrections
from tollkeeper_ledger.audit import Audited, audit
from tollkeeper_ledger.corrections import Change
from tollkeeper_ledger.errors import BooksDiffer, ChainBroken, LedgerUnavailable
from tollkeeper_ledger.storage import LedgerAt, PostgresLedger
from tollkeeper_ledger.usages import Asking

LIMIT, OTHER = budget(allocation=10_000), budget("other")
ACCOUNT = account_of(LIMIT)
NUMBER = f"(SELECT number FROM account_rows WHERE id = '{ACCOUNT}')"
SPENT = 700 + 200 - 50


@pytest.fixture
def desk(ledger: LedgerAt) -> Iterator[Desk]:
    """Books in which something stands on every side that needs no second tenant, written to while they are asked."""
    desk = Desk(ledger, LIMIT, OTHER)
    desk.open(OTHER)
    desk.lease("g1", Want(ACCOUNT, 1000, 1000))
    desk.lease("gone", Want(ACCOUNT, 300, 300))
    desk.charge(record("g1", Charge(ACCOUNT, 700, 700)))
    desk.book_grant(grant(500), LIMIT)
    desk.lapse("gone")
    desk.charge(record("g1", Charge(ACCOUNT, 200, 200)))
    adjust(desk)
    yield desk
    desk.store.close()


def adjust(desk: Desk) -> None:
    change = Change(ACCOUNT, 50)
    desk.do(lambda work: corrections.adjust(work, desk.policy, change, reason="a test", reference="T-1", now=NOW))


def audited(desk: Desk, through: str | None = None) -> Audited:
    with desk.reader() as reader:
        return audit(reader, through=through)


def tamper(desk: Desk, *statements: str) -> None:
    """Change tables past all rules, as somebody with the database in hand may."""
    if isinstance(desk.ledger, PostgresLedger):
        with psycopg.connect(desk.ledger.dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())
        return
    with closing(sqlite3.connect(desk.ledger)) as file, file:
        for statement in statements:
            file.execute(statement)


def test_a_ledger_that_is_as_it_was_written_holds(desk: Desk) -> None:
    found = audited(desk)
    assert (found.transactions, found.accounts) == (len(desk.export()), 2)
    assert audited(desk, found.head) == found


def test_a_new_ledger_holds(ledger: LedgerAt) -> None:
    desk = Desk(ledger)
    assert audited(desk) == Audited(0, "00" * 32, 0)
    desk.store.close()


@pytest.mark.parametrize(
    ("side", "stands", "entries"),
    [
        ("allocation", "0.00000001", "0.00001"),
        ("rolled_over", "0.00000001", "0.00"),
        ("granted", "0.00000001", "0.0000005"),
        ("borrowed", "0.00000001", "0.00"),
        ("lent", "0.00000001", "0.00"),
        ("spent", "0.00000001", "0.00000085"),
        ("unreconciled", "0.00000001", "0.0000003"),
    ],
)
def test_a_balance_that_was_changed_beside_the_chain_is_told_with_both_figures(
    desk: Desk, side: str, stands: str, entries: str
) -> None:
    tamper(desk, f"UPDATE account_rows SET {side} = 10 WHERE id = '{ACCOUNT}'")
    said = f"^{ACCOUNT}: {side.replace('_', ' ')} is {stands} USD in its row, and its entries add up to {entries} USD; "
    with pytest.raises(BooksDiffer, match=said):
        audited(desk)


def test_transactions_that_were_removed_behind_some_place_are_told_although_the_rest_is_a_chain(desk: Desk) -> None:
    last = len(desk.export())
    tamper(desk, f"DELETE FROM transactions WHERE seq > {last - 2}")
    with pytest.raises(BooksDiffer, match=rf"ends? at (transaction )?{last - 2}[ ,].* transactions were removed"):
        audited(desk)


def test_transactions_that_were_removed_with_what_stands_on_them_leave_balances_that_do_not_fit(desk: Desk) -> None:
    last = len(desk.export())
    kept = desk.export()[-2]
    head = f"decode('{hash_of(kept)}', 'hex')"
    on_postgres = isinstance(desk.ledger, PostgresLedger)
    tamper(
        desk,
        *(f"DELETE FROM {table} WHERE seq = {last}" for table in ("transactions", "payments", "marks")),
        *([f"UPDATE chain_head SET seq = {last - 1}, hash = {head}"] if on_postgres else []),
    )
    with pytest.raises(
        BooksDiffer, match=f"^{ACCOUNT}: spent is 0.00000085 USD in its row, and .* up to 0.0000009 USD"
    ):
        audited(desk)


def test_what_nobody_can_see_from_within_is_told_by_a_hash_that_was_noted(desk: Desk) -> None:
    """A chain that was cut off with all that stood on it is a shorter ledger that holds."""
    last, kept = len(desk.export()), desk.export()[-2]
    noted = audited(desk).head
    on_postgres = isinstance(desk.ledger, PostgresLedger)
    tamper(
        desk,
        *(f"DELETE FROM {table} WHERE seq = {last}" for table in ("transactions", "payments", "marks")),
        f"UPDATE account_rows SET spent = {SPENT + 50} WHERE id = '{ACCOUNT}'",
        *([f"UPDATE chain_head SET seq = {last - 1}, hash = decode('{hash_of(kept)}', 'hex')"] if on_postgres else []),
    )
    assert audited(desk).transactions == last - 1
    with pytest.raises(ChainBroken, match=f"ends here without having come to {noted}"):
        audited(desk, noted)


def hash_of(line: bytes) -> str:
    found: str = orjson.loads(line)["hash"]
    return found


def test_what_is_held_and_was_never_leased_is_told(desk: Desk) -> None:
    leased = f"UPDATE lease_rows SET outstanding = 90 WHERE lapsed = 0 AND account = {NUMBER}"
    tamper(desk, leased)
    said = f"^{ACCOUNT}: held is 0.0000001 USD in its row, and its leases add up to 0.00000009 USD$"
    with pytest.raises(BooksDiffer, match=said):
        audited(desk)


def test_what_is_unreconciled_and_nobody_had_in_hand_is_told(desk: Desk) -> None:
    tamper(desk, f"UPDATE lease_rows SET outstanding = 0 WHERE lapsed = 1 AND account = {NUMBER}")
    with pytest.raises(
        BooksDiffer, match=r"unreconciled is 0.0000003 USD in its row, and its leases that lapsed add up"
    ):
        audited(desk)


@pytest.mark.parametrize(
    ("statement", "stands"),
    [
        ("UPDATE tallies SET requests = 1 WHERE instance = 'g1'", "1 requests, 220 tokens"),
        ("UPDATE tallies SET tokens = 219 WHERE instance = 'g1'", "2 requests, 219 tokens"),
        ("DELETE FROM tallies WHERE instance = 'g1'", "0 requests, 0 tokens"),
    ],
)
def test_what_is_booked_of_a_gateway_and_was_changed_beside_the_chain_is_told(
    desk: Desk, statement: str, stands: str
) -> None:
    tamper(desk, statement)
    said = f"^gateway g1: {stands} and .* USD are booked of it by its row, and the chain has 2 requests, 220 tokens and"
    with pytest.raises(BooksDiffer, match=said):
        audited(desk)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE minutes SET amount = amount + 1", f"{ACCOUNT}: its minutes add up to 0.000000901 USD, and .* to 0.0000009 USD"),
        ("DELETE FROM minutes", f"{ACCOUNT}: its minutes add up to 0.00 USD, and .* to 0.0000009 USD"),
        ("UPDATE hours SET requests = 3 WHERE dimension = 'model'", "tenant team: its hours by model add up to 3 requests, "),
        ("UPDATE days SET cost = 0 WHERE dimension = 'tenant'", "tenant team: its days by tenant add up to .* and 0.00 USD, and"),
        ("UPDATE days SET tenant = 'other'", "tenant other: its days by model add up to 2 requests, .* to 0 requests"),
    ],
)  # fmt: skip
def test_sums_of_pages_that_were_changed_are_told(desk: Desk, statement: str, says: str) -> None:
    tamper(desk, statement)
    with pytest.raises(BooksDiffer, match=f"^{says}"):
        audited(desk)


def test_a_sum_that_stayed_at_the_largest_that_a_column_holds_is_no_difference(ledger: LedgerAt) -> None:
    desk = Desk(ledger, LIMIT)
    for number in range(2):
        desk.charge(record("g1", request=f"huge-{number}", cost=LARGEST))
    assert audited(desk).transactions == 2
    desk.store.close()


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE tallies SET requests = 'x'", "gateway g1: 'x' stands where a whole number belongs"),
        ("UPDATE tallies SET cost = cost + 0.5", r"gateway g1: 900.5 stands where"),
        ("UPDATE minutes SET amount = amount + 0.5", rf"{ACCOUNT}: a minute: \d+.5 stands where"),
        ("UPDATE hours SET cost = 'x'", "tenant team: a row of hours: 'x' stands where"),
        ("UPDATE tallied SET since = 'x'", "from where on usage is counted by gateway .*'x' stands where"),
        ("DELETE FROM tallied", "from where on usage is counted by gateway .tallied. is not said"),
        ("DROP TABLE tallies", "the table tallies was removed"),
        ("UPDATE counters SET value = 'x'", "counter 'settled_cost.*' of gateway 'g1': 'x' stands where"),
        ("UPDATE counters SET told = 9223372036854775807", "counter .* which cannot be"),
        (
            "UPDATE counters SET instance = 'a' || char(10) || 'b'",
            r"counter .* of gateway .*: no gateway has such",
        ),
        ("UPDATE hours SET tenant = x'c3ff'", "a row of hours: b'.*' stands where a text belongs"),
        (
            "INSERT INTO days SELECT tenant, dimension, at + 1, value, 1, 0, 0, 9223372036854775807, 0, 0, 0 FROM days",
            "tenant team: its days by",
        ),
        ("UPDATE requests SET place = 'abc'", "a row of requests: 'abc' stands where"),
    ],
)
def test_what_sqlite_lets_a_sum_be_is_told(tmp_path: Path, statement: str, says: str) -> None:
    desk = Desk(tmp_path / "ledger.db", LIMIT)
    used = record("g1", Charge(ACCOUNT, 900, 0))
    desk.do(lambda work: bookkeeping.report(work, desk.policy, [used], NOW, tally_of([used]).settled_by("g1")))
    tamper(desk, statement)
    with pytest.raises(BooksDiffer, match=f"^{says}"):
        audited(desk)
    desk.store.close()


def test_a_gateway_that_the_chain_never_heard_of_is_told(desk: Desk) -> None:
    tamper(desk, "INSERT INTO tallies VALUES ('g9', 1, 2, 3)")
    with pytest.raises(BooksDiffer, match=r"^gateway g9: 1 requests.* and the chain has 0 requests"):
        audited(desk)


def test_a_ledger_that_counts_nothing_of_gateways_yet_is_checked_all_the_same(desk: Desk) -> None:
    """As an older release left it: a copy is checked before this one carries it over."""
    whole = audited(desk)
    tamper(desk, *(f"DROP TABLE {table}" for table in ("counters", "tallies", "tallied")))
    assert audited(desk) == whole


def test_what_was_booked_before_gateways_were_counted_is_in_no_tally(ledger: LedgerAt) -> None:
    desk = Desk(ledger, LIMIT)
    desk.charge(record("g1", Charge(ACCOUNT, 7, 0)))
    tamper(desk, "DELETE FROM tallies", f"UPDATE tallied SET since = {len(desk.export())}")
    desk.charge(record("g1", Charge(ACCOUNT, 5, 0)))
    assert audited(desk).unbooked == ()
    desk.store.close()


def test_an_account_that_was_removed_is_told(desk: Desk) -> None:
    tamper(desk, f"DELETE FROM account_rows WHERE id = '{ACCOUNT}'")
    with pytest.raises(BooksDiffer, match=f"^{ACCOUNT}: the chain has entries on it, and it has no row"):
        audited(desk)


def test_an_account_that_no_entry_made_is_told(desk: Desk) -> None:
    tamper(
        desk,
        "UPDATE account_rows SET id = 'TokenBudget/a/b//@forever@USD', namespace = 'a', name = 'b', \"window\" = 'forever' "
        "WHERE name = 'monthly'",
    )
    with pytest.raises(
        BooksDiffer, match=r"^TokenBudget/a/b//@forever@USD: allocation is .* entries add up to 0.00 USD"
    ):
        audited(desk)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE account_rows SET namespace = 'other' WHERE name = 'monthly'", f"{ACCOUNT}: its row says .*'other'"),
        ("UPDATE account_rows SET id = 'nonsense' WHERE name = 'monthly'", "'nonsense' names no account"),
    ],
)
def test_an_account_whose_row_says_another_name_is_told(desk: Desk, statement: str, says: str) -> None:
    tamper(desk, statement)
    with pytest.raises(BooksDiffer, match=f"^{says}"):
        audited(desk)


def test_a_ledger_of_a_newer_release_is_not_called_good(desk: Desk) -> None:
    on_postgres = isinstance(desk.ledger, PostgresLedger)
    tamper(desk, "UPDATE ledger_schema SET version = 99" if on_postgres else "PRAGMA user_version = 99")
    with pytest.raises(LedgerUnavailable, match="schema version 99 and this release knows"):
        audited(desk)


@pytest.mark.parametrize(("text", "says"), [("'\\x'", "damaged in the database"), ("'{'", "damaged in the database")])
def test_a_text_that_was_damaged_is_told(desk: Desk, text: str, says: str) -> None:
    tamper(desk, f"UPDATE transactions SET body = {text} WHERE seq = 3")
    with pytest.raises(ChainBroken, match=says):
        audited(desk)


def test_what_sqlite_alone_lets_a_column_hold_is_told(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "ledger.db", LIMIT)
    desk.open(LIMIT)
    tamper(desk, "UPDATE account_rows SET spent = 'nothing'")
    with pytest.raises(BooksDiffer, match=r"spent is 'nothing' USD in its row, and its entries add up to 0.00 USD"):
        audited(desk)
    desk.store.close()


@dataclass
class Busy:
    """A snapshot that is asked while the ledger is written."""

    snapshot: Asking
    write: Callable[[], None]

    def rows(self, *question: Any) -> list[Any]:
        self.write()
        return self.snapshot.rows(*question)

    def row(self, *question: Any) -> Any:
        self.write()
        return self.snapshot.row(*question)

    def each(self, sql: str) -> Generator[Any]:
        for row in self.snapshot.each(sql):
            self.write()
            yield row


def test_a_ledger_that_is_written_meanwhile_is_compared_as_of_one_moment(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(desk.export())
    with desk.reader() as reader:
        asked = reader.snapshot

        @contextmanager
        def snapshot() -> Iterator[Busy]:
            with asked() as one:
                yield Busy(one, lambda: desk.charge(record("g1", Charge(ACCOUNT, 1, 0))))

        monkeypatch.setattr(reader, "snapshot", snapshot)
        found = audit(reader)
    assert found.transactions == before + 1
    assert audited(desk).transactions > found.transactions
