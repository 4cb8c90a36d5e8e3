"""The rows of one commit on SQLite, a few statements for each table."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tollkeeper.amounts import LARGEST
from tollkeeper.errors import InvalidValue
from tollkeeper_ledger import rollups
from tollkeeper_ledger.columns import columns_of
from tollkeeper_ledger.counting import MERGE, add_to_tallies, counter_rows
from tollkeeper_ledger.filters import COUNT_OCCURRENCES
from tollkeeper_ledger.lines import lines_of, shares_of, sums_of
from tollkeeper_ledger.linking import Linked, Linking
from tollkeeper_ledger.numbering import RowNumbers
from tollkeeper_ledger.rows import ACCOUNT_COLUMNS, account_row, grant_row
from tollkeeper_ledger.state import Holder
from tollkeeper_ledger.wide import write_rows
from tollkeeper_ledger.work import Work

_ACCOUNT_COLUMNS = ACCOUNT_COLUMNS.split(", ")[:-1]
"""Without what is held, which lies in rows of its own."""
_CHANGING = _ACCOUNT_COLUMNS[_ACCOUNT_COLUMNS.index("window_end") :]

ADD_TO_MINUTE = (
    "INSERT INTO minutes VALUES {rows} ON CONFLICT (account, minute) DO UPDATE SET "
    "amount = amount + excluded.amount, requests = requests + excluded.requests, "
    "tokens = tokens + excluded.tokens, cost = cost + excluded.cost, unpriced = unpriced + excluded.unpriced "
    # SQLite makes a float of a sum beyond 64 bits, in silence: such a row is left as it is, which the count of rows tells.
    "WHERE typeof(amount + excluded.amount) = 'integer' AND typeof(tokens + excluded.tokens) = 'integer' "
    "AND typeof(cost + excluded.cost) = 'integer'"
)
_UPSERT_ACCOUNT = (
    f"INSERT INTO account_rows ({', '.join(_ACCOUNT_COLUMNS)}) VALUES ({', '.join('?' * len(_ACCOUNT_COLUMNS))}) "  # noqa: S608 - constants
    f"ON CONFLICT (id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _CHANGING)}"
)
_PUT_HELD = "INSERT OR REPLACE INTO held VALUES {rows}"
# To replace a row would be to write its place in the index anew.
_PUT_LEASES = (
    "INSERT INTO lease_rows VALUES {rows} ON CONFLICT (holder, account) DO UPDATE SET "
    "outstanding = excluded.outstanding, lapsed = excluded.lapsed"
)
_ADD_HOLDERS = "INSERT INTO holders (holder, sequence, closed) VALUES {rows}"
_UPDATE_HOLDERS = (
    "UPDATE holders SET sequence = new.column2, closed = new.column3 "
    "FROM (VALUES {rows}) AS new WHERE number = new.column1"
)
_PUT_COUNTERS = f"INSERT INTO counters VALUES {{rows}} {MERGE}"  # noqa: S608 - constants
_ADD_TO_TALLIES = f"INSERT INTO tallies VALUES {{rows}} {add_to_tallies('min')}"  # noqa: S608 - constants


def _adding(table: str) -> str:
    return (
        f"INSERT INTO {table} VALUES {{rows}} "  # noqa: S608 - constants
        f"ON CONFLICT ({', '.join(rollups.KEY)}) DO UPDATE SET {rollups.add_up('min')}"
    )


_ADD_TO_HOUR, _ADD_TO_DAY = _adding("hours"), _adding("days")


class Written(NamedTuple):
    """What a commit came to, for whoever remembers: new words' codes, the chain's new rows, and whether any lease ended."""

    words: dict[str, int]
    chained: list[Linked]
    any_ended: bool


class SqliteRows:
    """Writes works to one connection, each within a transaction of the caller's.

    `accounts` and `holders` are their row numbers; all holders that have a row are known. `words` are the codes known.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        linking: Linking,
        accounts: RowNumbers,
        holders: RowNumbers,
        words: Mapping[str, int],
    ) -> None:
        self._connection = connection
        self._linking = linking
        self._accounts = accounts
        self._holders = holders
        self._words = words

    def write(self, work: Work, seq: int, head: bytes) -> Written:
        """Write a work, which continues the chain after `seq` and `head`. Raises for values that no column holds."""
        chained = self._linking.begin(work.bookings, seq, head)
        self._write_accounts(work)
        self._write_holders(work)
        any_ended = self._write_leases(work)
        self._write_grants(work)
        self._write_counters(work)
        words = self._write_lines(work, range(seq + 1, seq + 1 + len(work.bookings))) if work.bookings else {}
        rows = chained()
        self._connection.executemany("INSERT INTO transactions VALUES (?, ?, ?, ?, ?)", rows)
        return Written(words, rows, any_ended)

    def _write_accounts(self, work: Work) -> None:
        numbers = self._accounts
        known = work.accounts.values()
        self._connection.executemany(_UPSERT_ACCOUNT, [account_row(*one)[:-1] for one in known])
        # An account without a number is new, for its number comes with what is read of it: where nothing is held it has no row.
        held = [(numbers[one.id], one.held) for one, _ in known if one.held or one.id in numbers]
        held += [(numbers[name], amount) for name, amount in work.held.items()]
        write_rows(self._connection, _PUT_HELD, held)

    def _write_holders(self, work: Work) -> None:
        numbers = self._holders
        self._connection.executemany("DELETE FROM holders WHERE holder = ?", [(holder,) for holder in work.forgotten])
        numbers.forget(work.forgotten)
        known = [
            (numbers[name], one.sequence, int(one.closed)) for name, one in work.holders.items() if name in numbers
        ]
        write_rows(self._connection, _UPDATE_HOLDERS, known)
        new = [work.holders.get(name) or Holder(name) for name in work.changed_holders() if name not in numbers]
        write_rows(self._connection, _ADD_HOLDERS, [(one.holder, one.sequence, int(one.closed)) for one in new])
        numbers.find(one.holder for one in new)

    def _write_leases(self, work: Work) -> bool:
        """A lease of nothing is no lease: its row goes. Whether there was one."""
        numbers, rows = self._accounts, list[tuple[int, ...]]()
        for holder, leases in work.leases.items():
            if leases:
                number = self._holders[holder]
                # By their places: names of columns cost as much as the rest of it.
                rows += [(number, numbers[name], one[2], one[3]) for name, one in leases.items()]
        ended = [row[:2] for row in rows if row[2] <= 0]
        write_rows(self._connection, _PUT_LEASES, [row for row in rows if row[2] > 0] if ended else rows)
        self._connection.executemany("DELETE FROM lease_rows WHERE holder = ? AND account = ?", ended)
        return bool(ended)

    def _write_grants(self, work: Work) -> None:
        many = self._connection.executemany
        many("INSERT OR IGNORE INTO crossings VALUES (?, ?)", list(work.crossings))
        many("INSERT INTO grants VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [grant_row(one) for one in work.grants.values()])
        many(
            "INSERT OR REPLACE INTO shares VALUES (?, ?, ?, ?)",
            [(s.account, s.share.grant, s.share.amount, int(s.expired)) for s in work.shares.values()],
        )

    def _write_counters(self, work: Work) -> None:
        over = [(instance,) for instance in work.uncounted]
        self._connection.executemany("DELETE FROM counters WHERE instance = ?", over)
        write_rows(self._connection, _PUT_COUNTERS, counter_rows(work.counters))

    def _write_lines(self, work: Work, seqs: Sequence[int]) -> dict[str, int]:
        """Write what stands on the transactions; the codes of words that were new."""
        numbers = self._accounts
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
        write_rows(connection, _ADD_TO_TALLIES, sums.tallies)
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
