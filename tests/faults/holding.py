"""What must hold after any fault, on either storage, asked of what is on disk and of nothing in memory."""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import psycopg

from tollkeeper_ledger.export import export, verify
from tollkeeper_ledger.lines import PLACES
from tollkeeper_ledger.replay import SIDES, Replayed, replay
from tollkeeper_ledger.storage import LedgerAt, open_reader
from tollkeeper_ledger.usagerows import rows_of

_BALANCES = "SELECT id, unit, allocation, rolled_over, granted, spent, unreconciled FROM accounts"
_STANDING = (
    "SELECT id, allocation + rolled_over + granted - minimum, spent, unreconciled, held, overshoot FROM accounts"
)
_LEASED = "SELECT account, lapsed, sum(outstanding) FROM leases GROUP BY account, lapsed"
_CHARGED = "SELECT a.id, count(*), sum(c.amount) FROM charges c JOIN accounts a ON a.number = c.account GROUP BY a.id"
_BY_MINUTE = (
    "SELECT a.id, sum(m.requests), sum(m.amount) FROM minutes m JOIN accounts a ON a.number = m.account GROUP BY a.id"
)
_LINES = (
    "SELECT c.place, a.id, c.balance FROM charges c JOIN accounts a ON a.number = c.account "  # noqa: S608 - constants
    f"UNION ALL SELECT p.seq * {PLACES}, a.id, p.balance FROM payments p JOIN accounts a ON a.number = p.account"
)

_REQUESTS = "SELECT id FROM requests"
_COUNTED = "SELECT id, requests FROM accounts WHERE requests > 0"
_FACTS = (
    "SELECT id, unit, window_end, allocation, rolled_over, granted, spent, held, unreconciled, requests, blocked, minimum "
    "FROM accounts ORDER BY id",
    "SELECT holder, account, outstanding, lapsed FROM leases ORDER BY holder, account",
    "SELECT holder, sequence, closed FROM holders ORDER BY holder",
    "SELECT account, grant_id, amount, expired FROM shares ORDER BY account, grant_id",
    "SELECT id, name, reason FROM grants ORDER BY id",
    "SELECT account, threshold FROM crossings ORDER BY account, threshold",
    "SELECT name FROM marks ORDER BY name",
)
_QUESTIONS = (_BALANCES, _STANDING, _LEASED, _CHARGED, _BY_MINUTE, _LINES, _REQUESTS, _COUNTED, *_FACTS)

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


class Books:
    """A ledger's whole content, read once: its export, and its tables."""

    def __init__(self, ledger: LedgerAt) -> None:
        with closing(open_reader(ledger)) as reader:
            self.lines = list(export(reader.chain()))
        self.chain = [orjson.loads(line) for line in self.lines]
        self._tables = _answers_of(ledger)
        self.accounts = {row[0]: Standing(*map(int, row[1:])) for row in self.ask(_STANDING)}

    def ask(self, question: str) -> Rows:
        """What the tables answer."""
        return self._tables[question]

    def facts(self) -> list[object]:
        """All that the ledger says, but for what differs from run to run (names of transactions, row numbers)."""
        return [*(list(self.ask(question)) for question in _FACTS), dict(self.kinds), self.requests]

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


def _answers_of(ledger: LedgerAt) -> dict[str, Rows]:
    """Both storages understand the questions."""
    if isinstance(ledger, Path):
        with closing(sqlite3.connect(ledger)) as file:
            return {question: file.execute(question).fetchall() for question in _QUESTIONS}
    with psycopg.connect(ledger.dsn) as connection:
        return {question: connection.execute(question.encode()).fetchall() for question in _QUESTIONS}


def everything_holds(ledger: LedgerAt, *, served: Mapping[str, int] | None = None) -> Books:
    """Check the ledger against itself, and against what providers `served` by account; the books that were checked.

    The chain verifies without the database; balances are the sums of their entries, from the first on (I6); no account
    that is hard here passes its cap (I1); whatever was served is charged or stands as held (I2); each request is booked
    and counted once (I3).
    """
    books = Books(ledger)
    if books.lines:
        assert verify(books.lines).transactions == len(books.lines)
    _balances_are_the_sums_of_their_entries(books)
    _nothing_passes_its_cap(books)
    _what_is_held_is_what_was_leased(books)
    _each_request_counts_once(books)
    _each_line_says_the_balance_after_it(books)
    for account, amount in (served or {}).items():
        assert amount <= books.accounts[account].charged_or_held, f"{account}: the provider served more"
    return books


def _balances_are_the_sums_of_their_entries(books: Books) -> None:
    in_tables = {}
    for account, unit, allocation, rollover, grants, spent, unreconciled in books.ask(_BALANCES):
        balance = allocation + rollover + grants - spent - unreconciled
        in_tables[account] = Replayed(
            unit, allocation, rollover, grants, spent=spent, unreconciled=unreconciled, balance=balance
        )
    opened_with_nothing = {name for name, sums in in_tables.items() if not any(getattr(sums, side) for side in SIDES)}
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
    assert {row[0] for row in books.ask(_REQUESTS)} == books.requests
    counted: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for usage in books.usages:
        for charge in usage["charges"]:
            if charge["account"] in books.accounts:
                counted[charge["account"]][0] += 1
                counted[charge["account"]][1] += charge["amount"]
    for question in (_CHARGED, _BY_MINUTE):
        assert {row[0]: [int(row[1]), int(row[2])] for row in books.ask(question)} == counted
    by_account = {row[0]: int(row[1]) for row in books.ask(_COUNTED)}
    assert by_account == {account: requests for account, (requests, _) in counted.items()}


def _each_line_says_the_balance_after_it(books: Books) -> None:
    balances: Counter[str] = Counter()
    after: dict[int, dict[str, int]] = {}
    for transaction in books.chain:
        for entry in transaction["entries"]:
            account, _, side = entry["account"].rpartition("#")
            if side == "balance":
                balances[account] += entry["amount"]
        after |= _standing_after_each(transaction, balances)
    for place, account, balance in books.ask(_LINES):
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
