"""What must hold after any fault, on either storage, asked of what is on disk and of nothing in memory."""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import psycopg

from tollkeeper_ledger.audit import audit
from tollkeeper_ledger.export import export, verify
from tollkeeper_ledger.packed import charges_in, usages_in
from tollkeeper_ledger.replay import COUNTED, Replayed, replay
from tollkeeper_ledger.rows import to_micros
from tollkeeper_ledger.storage import LedgerAt, PostgresLedger, open_reader
from tollkeeper_ledger.usagerows import PLACES, rows_of

_BALANCES = "SELECT id, unit, allocation, rolled_over, granted, borrowed, spent, unreconciled, lent FROM accounts"
_STANDING = (
    "SELECT id, allocation + rolled_over + granted + borrowed - minimum, spent, unreconciled, held, overshoot "
    "FROM accounts"
)
_LEASED = "SELECT account, lapsed, sum(outstanding) FROM leases GROUP BY account, lapsed"
_CHARGES = "SELECT c.seq, a.id, c.usages, c.packed FROM charges c JOIN accounts a ON a.number = c.account"
_BY_MINUTE = (
    "SELECT a.id, sum(m.requests), sum(m.amount) FROM minutes m JOIN accounts a ON a.number = m.account GROUP BY a.id"
)
_PAYMENTS = f"SELECT p.seq * {PLACES}, a.id, p.balance FROM payments p JOIN accounts a ON a.number = p.account"  # noqa: S608
_ROLLUPS = tuple(
    f"SELECT tenant, dimension, sum(requests), sum(cost), sum(input_tokens + output_tokens) FROM {table} "  # noqa: S608
    "GROUP BY tenant, dimension"
    for table in ("hours", "days")
)
_REQUESTS = "SELECT id, place FROM requests"
_TALLIES = "SELECT instance, requests, tokens, cost FROM tallies"
_REPORTS = "SELECT seq, first_end, last_end, usages, packed FROM reports"
_COUNTED = "SELECT id, requests FROM accounts WHERE requests > 0"
_FACTS = (
    "SELECT id, unit, window_end, allocation, rolled_over, granted, spent, held, unreconciled, requests, blocked, minimum, "
    "borrowed, lent, lender FROM accounts ORDER BY id",
    "SELECT holder, account, outstanding, lapsed FROM leases ORDER BY holder, account",
    "SELECT holder, sequence, closed FROM holders ORDER BY holder",
    "SELECT account, grant_id, amount, expired FROM shares ORDER BY account, grant_id",
    "SELECT id, name, reason FROM grants ORDER BY id",
    "SELECT account, threshold FROM crossings ORDER BY account, threshold",
    "SELECT name FROM marks ORDER BY name",
    "SELECT instance, series, value FROM counters ORDER BY instance, series",
)
_QUESTIONS = (
    _BALANCES, _STANDING, _LEASED, _CHARGES, _BY_MINUTE, _PAYMENTS, _REQUESTS, _REPORTS, _COUNTED, _TALLIES,
    *_ROLLUPS, *_FACTS
)  # fmt: skip

Rows = Sequence[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Standing:
    """An account as its ledger has it on disk."""

    cap: int
    spent: int
    unreconciled: int
    held: int
    overshoot: int

    @property
    def charged_or_held(self) -> int:
        """What a provider may have served at most."""
        return self.spent + self.unreconciled + self.held


class Asking:
    """Questions to a ledger. On PostgreSQL over connections that stay open: a new one has everything to learn first.

    To a SQLite file nothing stays open, so that the next process that opens it finds what a crash left.
    """

    def __init__(self, ledger: LedgerAt) -> None:
        self._ledger = ledger
        self._opened = ExitStack()
        if isinstance(ledger, PostgresLedger):
            connection = psycopg.connect(ledger.dsn, autocommit=True, prepare_threshold=0)
            self._connection = self._opened.enter_context(closing(connection))
            self._reader = self._opened.enter_context(closing(open_reader(ledger)))

    def close(self) -> None:
        """Close what stayed open."""
        self._opened.close()

    def lines(self) -> list[bytes]:
        """The export."""
        if isinstance(self._ledger, PostgresLedger):
            return list(export(self._reader.chain()))
        with closing(open_reader(self._ledger)) as reader:
            return list(export(reader.chain()))

    def audited(self) -> int:
        """How many transactions the product's own audit found to hold."""
        if isinstance(self._ledger, PostgresLedger):
            return audit(self._reader).transactions
        with closing(open_reader(self._ledger)) as reader:
            return audit(reader).transactions

    def answers(self) -> dict[str, Rows]:
        """What the tables say; both storages understand the questions."""
        if isinstance(self._ledger, PostgresLedger):
            with self._connection.pipeline():
                cursors = {question: self._connection.execute(question.encode()) for question in _QUESTIONS}
                return {question: cursor.fetchall() for question, cursor in cursors.items()}
        with closing(sqlite3.connect(self._ledger)) as file:
            return {question: file.execute(question).fetchall() for question in _QUESTIONS}


class Books:
    """A ledger's whole content, read once: its export, and its tables."""

    def __init__(self, asking: Asking) -> None:
        self.lines = asking.lines()
        self.chain = [orjson.loads(line) for line in self.lines]
        self._tables = asking.answers()
        self.accounts = {row[0]: Standing(*map(int, row[1:])) for row in self.ask(_STANDING)}

    def ask(self, question: str) -> Rows:
        """What the tables answer."""
        return self._tables[question]

    def facts(self) -> list[object]:
        """All that the ledger says, but for what differs from run to run (names of transactions, row numbers)."""
        return [*(list(self.ask(question)) for question in _FACTS), dict(self.kinds), self.requests]

    def charges(self) -> Iterator[tuple[int, str, int, int]]:
        """What stands charged: place, account, amount, and the balance after it."""
        for seq, account, usages, packed in self.ask(_CHARGES):
            rows = charges_in([bytes(packed)]).tolist()
            assert len(rows) == usages
            for number, amount, balance in rows:
                yield seq * PLACES + number, account, amount, balance

    @property
    def kinds(self) -> Counter[str]:
        """How many transactions of each kind there are."""
        return Counter(transaction["kind"] for transaction in self.chain)

    @property
    def requests(self) -> set[str]:
        """The requests that are booked, by the chain."""
        return {row["request_id"] for row in self.usages}

    @property
    def usages(self) -> list[Mapping[str, Any]]:
        """The usage rows, by the chain."""
        return [row for one in self.chain if one["kind"] == "usage" for row in rows_of(one)]


def everything_holds(ledger: LedgerAt, *, served: Mapping[str, int] | None = None) -> Books:
    """`all_holds` of a ledger that is asked once."""
    with closing(Asking(ledger)) as asking:
        return all_holds(asking, served=served)


def all_holds(asking: Asking, *, served: Mapping[str, int] | None = None) -> Books:
    """Check the ledger against itself, and against what providers `served` by account; the books that were checked.

    The chain verifies without the database; balances are the sums of their entries, from the first on (I6); no account
    that is hard here passes its cap (I1); whatever was served is charged or stands as held (I2); each request is booked
    and counted once (I3), in what pages are answered from as well.
    """
    books = Books(asking)
    assert asking.audited() == len(books.lines)
    if books.lines:
        assert verify(books.lines).transactions == len(books.lines)
    _balances_are_the_sums_of_their_entries(books)
    _nothing_passes_its_cap(books)
    _what_is_held_is_what_was_leased(books)
    _each_request_counts_once(books)
    _each_report_says_what_its_requests_were_about(books)
    _rollups_are_the_sums_of_the_requests(books)
    _tallies_are_the_sums_of_each_holders_requests(books)
    _each_line_says_the_balance_after_it(books)
    for account, amount in (served or {}).items():
        assert amount <= books.accounts[account].charged_or_held, f"{account}: the provider served more"
    return books


def _balances_are_the_sums_of_their_entries(books: Books) -> None:
    in_tables = {}
    for account, unit, allocation, rollover, grants, borrowed, spent, unreconciled, lent in books.ask(_BALANCES):
        balance = allocation + rollover + grants + borrowed - spent - unreconciled
        in_tables[account] = Replayed(
            unit, allocation, rollover, grants, borrowed, spent, unreconciled, lent=lent, balance=balance
        )
    opened_with_nothing = {name for name, sums in in_tables.items() if not any(getattr(sums, side) for side in COUNTED)}
    replayed = replay(books.lines)
    assert replayed == {name: in_tables[name] for name in in_tables.keys() - (opened_with_nothing - replayed.keys())}


def _nothing_passes_its_cap(books: Books) -> None:
    for account, standing in books.accounts.items():
        assert standing.charged_or_held <= standing.cap, f"{account}: {standing}"
        assert standing.overshoot == 0, f"{account}: {standing}"
        assert min(standing.spent, standing.unreconciled, standing.held) >= 0, f"{account}: {standing}"


def _what_is_held_is_what_was_leased(books: Books) -> None:
    leased = {(account, bool(lapsed)): int(amount) for account, lapsed, amount in books.ask(_LEASED)}
    for account, standing in books.accounts.items():
        assert leased.pop((account, False), 0) == standing.held, account
        assert leased.pop((account, True), 0) == standing.unreconciled, account
    assert not leased


def _each_request_counts_once(books: Books) -> None:
    assert len(books.usages) == len(books.requests)
    assert dict(books.ask(_REQUESTS)) == {
        row["request_id"]: one["seq"] * PLACES + number
        for one in books.chain
        if one["kind"] == "usage"
        for number, row in enumerate(rows_of(one))
    }
    counted: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for usage in books.usages:
        for charge in usage["charges"]:
            if charge["account"] in books.accounts:
                counted[charge["account"]][0] += 1
                counted[charge["account"]][1] += charge["amount"]
    assert {row[0]: [int(row[1]), int(row[2])] for row in books.ask(_BY_MINUTE)} == counted
    charged: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for _, account, amount, _ in books.charges():
        charged[account][0] += 1
        charged[account][1] += amount
    assert charged == counted
    by_account = {row[0]: int(row[1]) for row in books.ask(_COUNTED)}
    assert by_account == {account: requests for account, (requests, _) in counted.items()}


def _each_report_says_what_its_requests_were_about(books: Books) -> None:
    reports = {row[0]: (*row[1:4], bytes(row[4])) for row in books.ask(_REPORTS)}
    for transaction in books.chain:
        if transaction["kind"] != "usage" or not rows_of(transaction):
            continue
        first, last, usages, packed = reports.pop(transaction["seq"])
        rows = rows_of(transaction)
        ended = [to_micros(datetime.fromisoformat(row["finished_at"])) for row in rows]
        assert (first, last, usages) == (min(map(int, ended)), max(map(int, ended)), len(rows))  # type: ignore[arg-type]
        found = usages_in([packed])
        assert found["finished"].tolist() == ended
        assert found["tokens"].tolist() == [sum(row["buckets"].values()) for row in rows]
        assert found["status"].tolist() == [row["status"] for row in rows]
        assert found["unpriced"].tolist() == [int(row["cost"] is None) for row in rows]
    assert not reports


def _rollups_are_the_sums_of_the_requests(books: Books) -> None:
    sums: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for usage in books.usages:
        caller = usage["caller"]
        for dimension in ("tenant", "user", "model"):
            if dimension == "model" or dimension in caller:
                total = sums[caller["tenant"], dimension]
                total[:] = total[0] + 1, total[1] + (usage["cost"] or 0), total[2] + sum(usage["buckets"].values())
    for question in _ROLLUPS:
        found = {(row[0], row[1]): list(map(int, row[2:])) for row in books.ask(question)}
        assert {key: found[key] for key in found if key[1] in ("tenant", "user", "model")} == sums


def _tallies_are_the_sums_of_each_holders_requests(books: Books) -> None:
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for usage in books.usages:
        total = sums[usage["holder"]]
        total[:] = total[0] + 1, total[1] + sum(usage["buckets"].values()), total[2] + (usage["cost"] or 0)
    assert {row[0]: list(map(int, row[1:])) for row in books.ask(_TALLIES)} == sums


def _each_line_says_the_balance_after_it(books: Books) -> None:
    balances: Counter[str] = Counter()
    after: dict[int, dict[str, int]] = {}
    for transaction in books.chain:
        for entry in transaction["entries"]:
            account, _, side = entry["account"].rpartition("#")
            if side == "balance":
                balances[account] += entry["amount"]
        after |= _standing_after_each(transaction, balances)
    charged = ((place, account, balance) for place, account, _, balance in books.charges())
    for place, account, balance in (*charged, *books.ask(_PAYMENTS)):
        assert after[place][account] == balance, f"place {place}, {account}"


def _standing_after_each(transaction: Mapping[str, Any], balances: Mapping[str, int]) -> dict[int, dict[str, int]]:
    """The balances after each usage of a transaction, told backwards from those after the last; by place."""
    first = transaction["seq"] * PLACES
    after, standing = {first: dict(balances)}, Counter(balances)
    rows = rows_of(transaction) if transaction["kind"] == "usage" else ()
    for number, row in reversed(list(enumerate(rows))):
        after[first + number] = dict(standing)
        for charge in row["charges"]:
            standing[charge["account"]] += charge["amount"]
    return after
