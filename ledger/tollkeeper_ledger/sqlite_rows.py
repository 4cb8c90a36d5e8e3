"""The rows of one commit on SQLite, a few statements for each table."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tollkeeper.amounts import LARGEST
from tollkeeper.errors import InvalidValue
from tollkeeper_ledger import rollups
from tollkeeper_ledger.columns import columns_of
from tollkeeper_ledger.filters import COUNT_OCCURRENCES
from tollkeeper_ledger.lines import accounts_of, lines_of, shares_of, sums_of
from tollkeeper_ledger.linking import Linked, Linking
from tollkeeper_ledger.rows import UPDATE_HELD, UPSERT_ACCOUNT, account_row, grant_row
from tollkeeper_ledger.wide import write_rows
from tollkeeper_ledger.work import Work

ADD_TO_MINUTE = (
    "INSERT INTO minutes VALUES {rows} ON CONFLICT (account, minute) DO UPDATE SET "
    "amount = amount + excluded.amount, requests = requests + excluded.requests, "
    "tokens = tokens + excluded.tokens, cost = cost + excluded.cost, unpriced = unpriced + excluded.unpriced "
    # SQLite makes a float of a sum beyond 64 bits, in silence: such a row is left as it is, which the count of rows tells.
    "WHERE typeof(amount + excluded.amount) = 'integer' AND typeof(tokens + excluded.tokens) = 'integer' "
    "AND typeof(cost + excluded.cost) = 'integer'"
)
_PUT_LEASES = (
    "INSERT INTO leases VALUES {rows} ON CONFLICT (holder, account) DO UPDATE SET "
    "outstanding = excluded.outstanding, lapsed = excluded.lapsed"
)
_PUT_HOLDERS = (
    "INSERT INTO holders VALUES {rows} ON CONFLICT (holder) DO UPDATE SET "
    "sequence = excluded.sequence, closed = excluded.closed"
)


def _adding(table: str) -> str:
    return (
        f"INSERT INTO {table} VALUES {{rows}} "  # noqa: S608 - constants
        f"ON CONFLICT ({', '.join(rollups.KEY)}) DO UPDATE SET {rollups.add_up('min')}"
    )


_ADD_TO_HOUR, _ADD_TO_DAY = _adding("hours"), _adding("days")


class Written(NamedTuple):
    """What a commit came to, for whoever remembers: accounts' row numbers, new words' codes, and the chain's new rows."""

    numbers: dict[str, int]
    words: dict[str, int]
    chained: list[Linked]


class SqliteRows:
    """Writes works to one connection, each within a transaction of the caller's; `numbers` and `words` are what is known."""

    def __init__(
        self, connection: sqlite3.Connection, linking: Linking, numbers: Mapping[str, int], words: Mapping[str, int]
    ) -> None:
        self._connection = connection
        self._linking = linking
        self._numbers = numbers
        self._words = words

    def write(self, work: Work, seq: int, head: bytes) -> Written:
        """Write a work, which continues the chain after `seq` and `head`. Raises for values that no column holds."""
        chained = self._linking.begin(work.bookings, seq, head)
        self._write_accounts(work)
        self._write_leases(work)
        self._write_holders(work)
        self._write_grants(work)
        numbers = {account: self._number_of(account) for account in accounts_of(work.bookings)}
        words = self._write_lines(work, range(seq + 1, seq + 1 + len(work.bookings)), numbers) if work.bookings else {}
        rows = chained()
        self._connection.executemany("INSERT INTO transactions VALUES (?, ?, ?, ?, ?)", rows)
        return Written(numbers, words, rows)

    def _write_accounts(self, work: Work) -> None:
        held = [(amount, self._number_of(name)) for name, amount in work.held.items()]
        write_rows(self._connection, UPDATE_HELD, held)
        self._connection.executemany(UPSERT_ACCOUNT, [account_row(*known) for known in work.accounts.values()])

    def _write_leases(self, work: Work) -> None:
        """A lease of nothing is no lease: its row goes."""
        leases = work.changed_leases()
        write_rows(self._connection, _PUT_LEASES, [one for one in leases if one.outstanding > 0])
        self._connection.executemany(
            "DELETE FROM leases WHERE holder = ? AND account = ?",
            [(one.holder, one.account) for one in leases if one.outstanding <= 0],
        )

    def _write_holders(self, work: Work) -> None:
        self._connection.executemany("DELETE FROM holders WHERE holder = ?", [(holder,) for holder in work.forgotten])
        holders = [(one.holder, one.sequence, int(one.closed)) for one in work.holders.values()]
        write_rows(self._connection, _PUT_HOLDERS, holders)

    def _write_grants(self, work: Work) -> None:
        many = self._connection.executemany
        many("INSERT OR IGNORE INTO crossings VALUES (?, ?)", list(work.crossings))
        many("INSERT INTO grants VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [grant_row(one) for one in work.grants.values()])
        many(
            "INSERT OR REPLACE INTO shares VALUES (?, ?, ?, ?)",
            [(s.account, s.share.grant, s.share.amount, int(s.expired)) for s in work.shares.values()],
        )

    def _write_lines(self, work: Work, seqs: Sequence[int], numbers: Mapping[str, int]) -> dict[str, int]:
        """Write what stands on the transactions; the codes of words that were new."""
        columns = columns_of(work.bookings)
        shares = shares_of(work.bookings, columns)
        codes = self._codes(columns.words)
        lines = lines_of(work.bookings, columns, seqs, numbers, codes, shares)
        many, connection = self._connection.executemany, self._connection
        write_rows(connection, "INSERT INTO requests (id, place) VALUES {rows}", lines.requests)
        many("INSERT INTO reports VALUES (?, ?, ?, ?, ?)", lines.reports)
        many("INSERT INTO marks VALUES (?, ?)", lines.marks)
        write_rows(connection, COUNT_OCCURRENCES, lines.occurrences)
        many("INSERT INTO charges VALUES (?, ?, ?, ?)", lines.charges)
        many("INSERT INTO payments VALUES (?, ?, ?, ?, ?)", lines.payments)
        sums = sums_of(columns, shares, numbers)
        write_rows(connection, _ADD_TO_HOUR, sums.hours)
        write_rows(connection, _ADD_TO_DAY, sums.days)
        if write_rows(connection, ADD_TO_MINUTE, sums.minutes) != len(sums.minutes):
            raise InvalidValue(f"a minute's tokens or cost pass {LARGEST}, which no column holds")
        return {word: code for word, code in codes.items() if word not in self._words}

    def _codes(self, words: Sequence[str]) -> dict[str, int]:
        """The codes of words; new ones get theirs with this commit."""
        codes = {word: self._words[word] for word in words if word in self._words}
        unknown = [word for word in words if word not in codes]
        self._connection.executemany("INSERT OR IGNORE INTO words (word) VALUES (?)", [(word,) for word in unknown])
        for word in unknown:
            found = self._connection.execute("SELECT code FROM words WHERE word = ?", (word,)).fetchone()
            codes[word] = int(found[0])
        return codes

    def _number_of(self, account: str) -> int:
        known = self._numbers.get(account)
        if known is None:
            found = self._connection.execute("SELECT number FROM accounts WHERE id = ?", (account,)).fetchone()
            known = int(found[0])
        return known
