"""The rows of one commit, a statement for each table. Whoever calls has locked and checked what the work changes.

A name that must be free (an account, a request, a grant, a crossing) is inserted unless it is there; fewer rows than names
mean that another writer was first, and the commit must be done over.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

from tollkeeper_ledger import rollups
from tollkeeper_ledger.columns import columns_of
from tollkeeper_ledger.counting import MERGE, add_to_tallies, counter_rows
from tollkeeper_ledger.lines import Lines, Share, lines_of, shares_of, sums_of
from tollkeeper_ledger.linking import Linking
from tollkeeper_ledger.postgres.arrays import Column, integers, texts
from tollkeeper_ledger.postgres.known import KnownHolder, Numbers
from tollkeeper_ledger.postgres.lease_rows import Counted, held_rows, holder_row, holder_rows, lease_rows
from tollkeeper_ledger.postgres.memory import Memory
from tollkeeper_ledger.postgres.session import Session, Statement
from tollkeeper_ledger.rows import ACCOUNT_COLUMNS, account_row, booked_at, grant_row
from tollkeeper_ledger.state import Lease
from tollkeeper_ledger.work import Work

_COLUMNS = ACCOUNT_COLUMNS.replace(" window,", ' "window",').removesuffix(", held")
_TEXT, _INTEGER, _BYTES = "text", "bigint", "bytea"
_ACCOUNT_TYPES = (*[_TEXT] * 8, *[_INTEGER] * 14, _TEXT)
_ROLLUP_TYPES = (_TEXT, _TEXT, _INTEGER, _TEXT, *[_INTEGER] * len(rollups.SUMS))
_CHANGING = (
    "window_end", "allocation", "rolled_over", "granted", "spent", "unreconciled", "overshoot", "requests", "blocked",
    "last_usage", "minimum", "borrowed", "lent", "lender",
)  # fmt: skip


def _arrays(types: Sequence[str]) -> str:
    return "unnest(" + ", ".join(f"%b::{of}[]" for of in types) + ")"


def _array_texts(types: Sequence[str]) -> str:
    """The same for columns that `_literals` wrote."""
    return "unnest(" + ", ".join(f"%s::{of}[]" for of in types) + ")"


def _literals(types: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[Column]:
    """Rows by column, as literals of arrays of these types; without texts that are missing."""
    columns = zip(*rows, strict=True)
    return [texts(column) if of == _TEXT else integers(column) for of, column in zip(types, columns, strict=True)]


_INSERT_ACCOUNTS = (
    f"INSERT INTO account_rows ({_COLUMNS}) SELECT * FROM {_arrays(_ACCOUNT_TYPES)} "  # noqa: S608 - constants
    "ON CONFLICT (id) DO NOTHING RETURNING id, number"
)
_INSERT_HELD = (
    "INSERT INTO held SELECT account, amount, 1 FROM unnest(%s::bigint[], %s::bigint[]) AS u (account, amount)"
)
_UPDATE_ACCOUNTS = (
    "UPDATE account_rows a SET "  # noqa: S608 - constants
    + ", ".join(f"{column} = u.{column}" for column in _CHANGING)
    + f" FROM {_arrays((_TEXT, *_ACCOUNT_TYPES[-len(_CHANGING) :]))} AS u (id, {', '.join(_CHANGING)}) WHERE a.id = u.id"
)

_INSERT_HOLDERS = (
    "INSERT INTO holders (holder, sequence, closed, version) "
    "SELECT * FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %s::bigint[]) "
    "ON CONFLICT (holder) DO NOTHING RETURNING holder, number"
)
_ADD_TO_MINUTES = (
    f"INSERT INTO minutes SELECT * FROM {_array_texts((_INTEGER,) * 7)} ON CONFLICT (account, minute) DO UPDATE SET "  # noqa: S608 - constants
    "amount = minutes.amount + excluded.amount, requests = minutes.requests + excluded.requests, "
    "tokens = minutes.tokens + excluded.tokens, cost = minutes.cost + excluded.cost, "
    "unpriced = minutes.unpriced + excluded.unpriced"
)
_ADD_TO = {
    table: f"INSERT INTO {table} SELECT * FROM {_array_texts(_ROLLUP_TYPES)} "  # noqa: S608 - constants
    f"ON CONFLICT ({', '.join(rollups.KEY)}) DO UPDATE SET {rollups.add_up('LEAST', f'{table}.')}"
    for table in ("hours", "days")
}
_ADD_TO_TALLIES = (
    f"INSERT INTO tallies SELECT * FROM {_array_texts((_TEXT, *[_INTEGER] * 3))} {add_to_tallies('LEAST')}"  # noqa: S608 - constants
)
_PUT_COUNTERS = f"INSERT INTO counters SELECT * FROM {_array_texts((_TEXT, _TEXT, _INTEGER, _INTEGER))} {MERGE}"  # noqa: S608 - constants
_INSERT_REQUESTS = (
    f"INSERT INTO requests (id, place) SELECT * FROM {_array_texts((_TEXT, _INTEGER))} ON CONFLICT (id) DO NOTHING"  # noqa: S608 - constants
)
_INSERT_MARKS = f"INSERT INTO marks SELECT * FROM {_array_texts((_TEXT, _INTEGER))} ON CONFLICT (name) DO NOTHING"  # noqa: S608 - constants
_INSERT_REPORTS = f"INSERT INTO reports SELECT * FROM {_arrays((*[_INTEGER] * 4, _BYTES))}"  # noqa: S608 - constants
_INSERT_CHARGES = f"INSERT INTO charges SELECT * FROM {_arrays((*[_INTEGER] * 4, _BYTES))}"  # noqa: S608 - constants
_INSERT_WORDS = "INSERT INTO words (word) SELECT unnest(%s::text[]) RETURNING word, code"
_COUNT_OCCURRENCES = (
    f"INSERT INTO occurrences SELECT * FROM {_array_texts((_INTEGER, _TEXT, _TEXT, _INTEGER))} "  # noqa: S608 - constants
    "ON CONFLICT (account, dimension, value) DO UPDATE SET usages = occurrences.usages + excluded.usages"
)


class Commit:
    """Writes one work, in the order in which rows of several writers may meet: accounts, holders, then the chain's end."""

    def __init__(self, session: Session, memory: Memory, linking: Linking, work: Work) -> None:
        self._session = session
        self._linking = linking
        self._memory = memory
        self._work = work
        self._columns = columns_of(())
        self._shares: list[Share] = []
        self.words: dict[str, int] = {}
        """Codes that the usages' words have once this is committed."""
        self._accounts: dict[str, int] = {}
        self._holders: dict[str, int] = {}
        """Row numbers, by name."""
        self._standing: Mapping[str, KnownHolder] = {}
        """The changed holders that have a row."""
        self.opened: Set[str] = frozenset()

    @property
    def numbers(self) -> Numbers:
        """The row numbers of all that it changed, once its state is written."""
        return Numbers(self._accounts, self._holders)

    def write_state(self, *also: Statement) -> None:
        """Accounts, holders and what belongs to them, and on the same journey to the server what else is to be done."""
        self._open_accounts()
        self._forget_holders()
        self._open_holders()
        leases = lease_rows(self._work, self._holders, self._leases_before, self._number_of)
        counted = [*self._changed_accounts(), *holder_rows(self._work, self._standing), *leases.known]
        self._write_all(counted, [*leases.new, *leases.ended, *self._counters(), *also])
        self._write_grants()
        crossings = sorted(self._work.crossings)
        self._insert("crossings", (_TEXT, _INTEGER), crossings, free="(account, threshold)", what="a crossing")
        if self._work.bookings:
            self._columns = columns_of(self._work.bookings)
            self._shares = shares_of(self._work.bookings, self._columns)
            self._write_all(self._sums())

    def _sums(self) -> Iterator[Counted]:
        """What usages add to sums that accounts and tenants have; several writers may add to one."""
        sums = sums_of(self._columns, self._shares, self._accounts)
        if sums.minutes:
            yield Counted(_ADD_TO_MINUTES, _literals((_INTEGER,) * 7, sums.minutes), len(sums.minutes), "a minute")
        for table, rows in (("hours", sums.hours), ("days", sums.days)):
            if rows:
                yield Counted(_ADD_TO[table], _literals(_ROLLUP_TYPES, rows), len(rows), "a sum")
        if sums.tallies:
            yield Counted(
                _ADD_TO_TALLIES, _literals((_TEXT, *[_INTEGER] * 3), sums.tallies), len(sums.tallies), "a tally"
            )

    def _counters(self) -> Iterator[Statement]:
        """Those that are told, after those that go; of several writers' values the largest stays, whoever is first."""
        if over := sorted(self._work.uncounted):
            yield "DELETE FROM counters WHERE instance = ANY(%s::text[])", [texts(over)]
        if rows := counter_rows(self._work.counters):
            yield _PUT_COUNTERS, _literals((_TEXT, _TEXT, _INTEGER, _INTEGER), rows)

    def write_chain(self) -> None:
        """Append the transactions and what stands on them; from here to the end of the commit, writers pass one by one."""
        bookings = self._work.bookings
        if not bookings:
            return
        seq, head = self._session.ask("SELECT seq, hash FROM chain_head WHERE chain = 'ledger' FOR UPDATE")[0]
        self._memory.check_neighbours(self.opened)
        chained = self._linking.begin(bookings, seq, bytes(head))
        times = {place: booked_at(booking) for place, booking in enumerate(bookings, start=seq + 1)}
        lines = lines_of(bookings, self._columns, list(times), self._accounts, self._codes(), self._shares)
        self._write_all(self._lines(lines, times))
        rows = chained()
        stored = [(row.time, row.seq, row.id, row.stored, row.hash) for row in rows]
        self._insert("transactions", (_INTEGER, _INTEGER, _TEXT, _BYTES, _BYTES), stored)
        payments = [(account, seq, times[seq], *rest) for account, seq, *rest in lines.payments]
        self._insert("payments", (_INTEGER, _INTEGER, _INTEGER, _TEXT, _INTEGER, _INTEGER), payments)
        self._session.change(
            "UPDATE chain_head SET seq = %s, hash = %s WHERE chain = 'ledger'", (rows[-1].seq, rows[-1].hash)
        )

    def _lines(self, lines: Lines, times: Mapping[int, int]) -> Iterator[Counted]:
        """The rows of usages and marks, those whose names must be free first."""
        requests, marks, occurrences = sorted(lines.requests), sorted(lines.marks), sorted(lines.occurrences)
        if requests:
            yield Counted(_INSERT_REQUESTS, _literals((_TEXT, _INTEGER), requests), len(requests), "a request")
        if marks:
            yield Counted(_INSERT_MARKS, _literals((_TEXT, _INTEGER), marks), len(marks), "a correction")
        if lines.reports:
            yield Counted(_INSERT_REPORTS, _by_column(lines.reports), len(lines.reports), "a report")
        if lines.charges:
            charges = [(account, seq, times[seq], *rest) for account, seq, *rest in lines.charges]
            yield Counted(_INSERT_CHARGES, _by_column(charges), len(charges), "a charge")
        if occurrences:
            types = (_INTEGER, _TEXT, _TEXT, _INTEGER)
            yield Counted(_COUNT_OCCURRENCES, _literals(types, occurrences), len(occurrences), "a value")

    def _codes(self) -> dict[str, int]:
        """The codes of the usages' words. New ones are made at the chain's end, where writers pass one by one."""
        words, known = self._columns.words, self._memory.words
        codes = {word: known[word] for word in words if word in known}
        if unknown := [word for word in words if word not in codes]:
            codes |= self._session.ask("SELECT word, code FROM words WHERE word = ANY(%s)", (unknown,))
        if new := [word for word in unknown if word not in codes]:
            codes |= self._session.ask(_INSERT_WORDS, (new,))
        self.words = codes
        return codes

    def _open_accounts(self) -> None:
        known = {name: self._memory.known_account(name) for name in self._work.changed_accounts}
        self._accounts = {name: account.number for name, account in known.items() if account.version}
        self.opened = known.keys() - self._accounts.keys()
        if self.opened:
            rows = [account_row(*self._work.accounts[name])[:-1] for name in sorted(self.opened)]
            opened = self._session.ask(_INSERT_ACCOUNTS, _by_column(rows))
            self._accounts |= {name: int(number) for name, number in opened}
            self._session.check_all_written(len(opened), len(rows), "an account")

    def _changed_accounts(self) -> Iterator[Counted]:
        """In any order: all that has a row is locked."""
        accounts, numbers = self._work.accounts, self._accounts
        if self.opened:
            new = [(numbers[name], accounts[name][0].held) for name in sorted(self.opened)]
            yield Counted(_INSERT_HELD, _literals((_INTEGER,) * 2, new), len(new), "an account")
        changed = accounts.keys() - self.opened
        yield from held_rows({**self._work.held, **{name: accounts[name][0].held for name in changed}}, numbers)
        if changed:
            rows = [account_row(*accounts[name]) for name in changed]
            yield Counted(_UPDATE_ACCOUNTS, _by_column([(row[0], *row[9:-1]) for row in rows]), len(rows), "an account")

    def _open_holders(self) -> None:
        known = {name: self._memory.known_holder(name) for name in sorted(self._work.changed_holders())}
        stand = {name: one for name, one in known.items() if one.version and name not in self._work.forgotten}
        self._holders = {name: one.number for name, one in stand.items()}
        rows = [holder_row(name, self._work, one) for name, one in known.items() if name not in stand]
        if rows:
            names, *counts = zip(*rows, strict=True)
            opened = self._session.ask(_INSERT_HOLDERS, [texts(names), *map(integers, counts)])
            self._holders |= {name: int(number) for name, number in opened}
            self._session.check_all_written(len(opened), len(rows), "a holder")
        self._standing = stand

    def _forget_holders(self) -> None:
        names = sorted(self._work.forgotten)
        if names:
            gone = self._session.change("DELETE FROM holders WHERE holder = ANY(%s::text[])", [texts(names)])
            self._session.check_all_written(gone, len(names), "a holder")

    def _leases_before(self, holder: str) -> Mapping[str, Lease]:
        return self._memory.known_holder(holder).leases

    def _number_of(self, account: str) -> int:
        """A lease may end without a change of its account, where nothing was left of it."""
        number = self._accounts.get(account)
        return self._memory.known_account(account).number if number is None else number

    def _write_grants(self) -> None:
        grants = [grant_row(booked) for _, booked in sorted(self._work.grants.items())]
        types = (*[_TEXT] * 5, *[_INTEGER] * 3)
        self._insert("grants", types, grants, free="(id)", what="a grant")
        shares = [(*key, s.share.amount, int(s.expired)) for key, s in sorted(self._work.shares.items())]
        if shares:
            self._session.change(
                f"INSERT INTO shares SELECT * FROM {_arrays((_TEXT, _TEXT, _INTEGER, _INTEGER))} "  # noqa: S608 - constants
                "ON CONFLICT (account, grant_id) DO UPDATE SET amount = excluded.amount, expired = excluded.expired",
                _by_column(shares),
            )

    def _write_all(self, rows: Iterable[Counted], besides: Sequence[Statement] = ()) -> None:
        """Write rows of several tables on one journey to the server, and what is `besides` to be done."""
        counted = list(rows)
        written = self._session.change_all([*((one.sql, one.values) for one in counted), *besides])
        for one, count in zip(counted, written, strict=False):
            self._session.check_all_written(count, one.wanted, one.what)

    def _insert(
        self, table: str, types: Sequence[str], rows: Sequence[Sequence[Any]], *, free: str = "", what: str = "a row"
    ) -> None:
        """Insert rows whose columns have these types; those that must be `free` are another writer's if they are there."""
        if rows:
            unless = f" ON CONFLICT {free} DO NOTHING" if free else ""
            sql = f"INSERT INTO {table} SELECT * FROM {_arrays(types)}{unless}"  # noqa: S608 - constants
            self._session.check_all_written(self._session.change(sql, _by_column(rows)), len(rows), what)


def _by_column(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
