"""Storage in one SQLite file: WAL, synchronous=FULL, one writing process, one writing thread.

What is read for decisions is kept in memory as well; the file is the truth, the memory a copy of what was committed. A
commit that fails leaves both as they were.
"""

import fcntl
import os
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import orjson

from tollkeeper.accounts import RECENT_REQUESTS, Account, holding
from tollkeeper.books import Grant
from tollkeeper.limits import AccountId, LimitRef
from tollkeeper_ledger import neighbours
from tollkeeper_ledger.bodies import unpacked
from tollkeeper_ledger.booked import LatelyBooked
from tollkeeper_ledger.chain import GENESIS
from tollkeeper_ledger.errors import LedgerInUse, LedgerUnavailable
from tollkeeper_ledger.files import read_connection, unreadable
from tollkeeper_ledger.linking import Linking
from tollkeeper_ledger.numbering import RowNumbers
from tollkeeper_ledger.packed import LATEST, latest
from tollkeeper_ledger.rows import (
    BALANCE_COLUMNS,
    account_of,
    share_of,
    to_micros,
    to_time,
)
from tollkeeper_ledger.schema import check_no_other, migrate
from tollkeeper_ledger.sqlite_rows import SqliteRows, Written
from tollkeeper_ledger.state import BookedGrant, BookedShare, Holder, Lease
from tollkeeper_ledger.storage import REMEMBERED_ACCOUNTS, REMEMBERED_WORDS, Change
from tollkeeper_ledger.work import Work

_ASKED_AT_ONCE = 500

_NOT_ITS_STATE = (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError)
"""What SQLite says of values and statements, and not of its file: the same again would fail again."""

LOCK_TIMEOUT_SECONDS = 5.0
"""How long a commit waits for another process that has the file locked."""


class SqliteStore:
    """The committed state of one ledger file; a `State` that can take a `Work`. Not safe for use by several threads.

    Raises `LedgerInUse` when another process has the file open for writing, `LedgerUnavailable` when it cannot be opened,
    of which `NoLedger` is one where it is a database of something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)
        _check_may_be_ours(path)
        with ExitStack() as opened:
            opened.enter_context(_own(path))
            linking = opened.enter_context(closing(Linking()))
            check_no_other(
                path
            )  # again: it may be another file since, and from here on nobody makes a ledger of it but we
            try:
                self._connection = sqlite3.connect(
                    path, timeout=LOCK_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False
                )
                opened.enter_context(closing(self._connection))
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = FULL")
                migrate(self._connection, str(path))
                self._load()
                self._rows = SqliteRows(self._connection, linking, self._numbers, self._holder_numbers, self._words)
            except sqlite3.Error as error:
                raise _unavailable(path, error) from error
            # Whatever else goes wrong before this line lets go of file and lock as well.
            self._opened = opened.pop_all()

    def _load(self) -> None:
        self._accounts: dict[str, tuple[Account, str]] = {}
        self._held: dict[str, int] = {}
        """What is held of remembered accounts, where that changed since the rest of them last did."""
        self._numbers = RowNumbers(self._asked("SELECT number FROM account_rows WHERE id = ?"))
        self._holder_numbers = RowNumbers(self._asked("SELECT number FROM holders WHERE holder = ?"))
        self._shares: dict[str, list[BookedShare]] = {}
        self._leases: dict[str, dict[str, Lease]] = {}
        self._holders: dict[str, Holder] = {}
        self._words: dict[str, int] = {}
        ask = self._connection.execute
        self.id = str(ask("SELECT id FROM identity").fetchone()[0])
        """The ledger's own name, made when it was created."""
        last = ask("SELECT seq, hash FROM transactions ORDER BY seq DESC LIMIT 1").fetchone()
        self._seq, self._head = (int(last[0]), bytes(last[1])) if last else (0, GENESIS)
        (newest,) = ask("SELECT max(id) FROM requests").fetchone()
        marks = ask("SELECT (SELECT min(name) FROM marks), (SELECT max(name) FROM marks)").fetchone()
        self._booked = LatelyBooked(newest or "", marks if marks[0] else None)
        columns = "holder, account, outstanding, lapsed"
        for holder, account, outstanding, lapsed in ask(f"SELECT {columns} FROM leases WHERE outstanding > 0"):  # noqa: S608 - constant columns
            self._leases.setdefault(holder, {})[account] = Lease(holder, account, outstanding, bool(lapsed))
        for number, holder, sequence, closed in ask("SELECT number, holder, sequence, closed FROM holders"):
            self._holder_numbers[holder] = number
            lapsed = any(lease.lapsed for lease in self._leases.get(holder, {}).values())
            self._holders[holder] = Holder(holder, sequence, bool(closed), lapsed)

    def _asked(self, question: str) -> Callable[[str], int]:
        return lambda name: int(self._connection.execute(question, (name,)).fetchone()[0])

    def close(self) -> None:
        """Close the file and let another process have it. What was written stands in that one file then, as far as no reader
        is in the way: a copy of it is the ledger."""
        with suppress(sqlite3.Error):
            self._connection.execute("PRAGMA busy_timeout = 0")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._opened.close()

    # What bookkeeping reads: see `state.State`.

    def account(self, account: str) -> tuple[Account, str] | None:
        """See `State`."""
        known, held = self._remembered(account), self._held.pop(account, None)
        if known is None or held is None:
            return known
        self._accounts[account] = found = holding(known[0], held), known[1]
        return found

    def with_held(self, account: str) -> tuple[Account, str, int] | None:
        """See `State`."""
        known = self._accounts.get(account) or self._remembered(account)
        if known is None:
            return None
        held = self._held.get(account)
        return known[0], known[1], known[0].held if held is None else held

    def _remembered(self, account: str) -> tuple[Account, str] | None:
        known = self._accounts.get(account)
        if known is None and (known := self._load_account(account)):
            self._accounts[account] = known
        return known

    def _load_account(self, account: str) -> tuple[Account, str] | None:
        row = self._connection.execute(
            f"SELECT {BALANCE_COLUMNS}, unit, number FROM accounts WHERE id = ?",  # noqa: S608 - constant columns
            (account,),
        ).fetchone()
        if row is None:
            return None
        number, unit = row[-1], row[-2]
        self._numbers[account] = number
        reports = self._connection.execute(LATEST, (number, RECENT_REQUESTS) * 2)
        return account_of(row, latest([packed for (packed,) in reports], RECENT_REQUESTS)), unit

    def previous_account(self, account: str) -> Account | None:
        """See `State`."""
        return self._first(neighbours.ended_before(account))

    def next_account(self, account: Account) -> Account | None:
        """See `State`."""
        return self._first(neighbours.begin_after(account.id, to_micros(account.window_end)))

    def overlapping(self, account: str, now: datetime) -> Account | None:
        """See `State`."""
        return self._first(neighbours.hold(account, to_micros(now) or 0))

    def _first(self, asked: neighbours.Question) -> Account | None:
        row = self._connection.execute(*asked).fetchone()
        known = self.account(row[0]) if row else None
        return known[0] if known else None

    def held_out_of_loans(self, lender: str) -> Mapping[str, int]:
        """See `State`."""
        sql = "SELECT id, min(held, borrowed) FROM accounts WHERE lender = ? AND lender <> '' AND held > 0"
        return dict(self._connection.execute(sql, (lender,)).fetchall())

    def leases_of(self, holder: str) -> Mapping[str, Lease]:
        """See `State`."""
        return self._leases.get(holder, {})

    def holder(self, holder: str) -> Holder:
        """See `State`."""
        return self._holders.get(holder) or Holder(holder)

    def booked_among(self, names: Collection[str]) -> Collection[str]:
        """See `State`."""
        if (known := self._booked.among(names)) is not None:
            return known
        wanted, booked = list(names), set[str]()
        for start in range(0, len(wanted), _ASKED_AT_ONCE):
            part = wanted[start : start + _ASKED_AT_ONCE]
            signs = ", ".join("?" * len(part))
            found = self._connection.execute(
                f"SELECT id FROM requests WHERE id IN ({signs}) UNION ALL SELECT name FROM marks WHERE name IN ({signs})",  # noqa: S608 - signs alone
                (*part, *part),
            )
            booked.update(name for (name,) in found)
        return booked

    def transaction(self, request: str) -> Mapping[str, Any] | None:
        """See `State`."""
        row = self._connection.execute(
            "SELECT body FROM transactions WHERE seq IN "
            "(SELECT place >> 20 FROM requests WHERE id = ? UNION ALL SELECT seq FROM marks WHERE name = ?)",
            (request, request),
        ).fetchone()
        return orjson.loads(unpacked(row[0])) if row else None

    def grant(self, grant: str) -> BookedGrant | None:
        """See `State`."""
        row = self._connection.execute(
            "SELECT g.*, s.amount, s.account FROM grants g LEFT JOIN shares s ON s.grant_id = g.id WHERE g.id = ?",
            (grant,),
        ).fetchone()
        if row is None:
            return None
        ref = AccountId.parse(row[9]).ref if row[9] else LimitRef("TokenBudget", "", "")
        created = to_time(row[6])
        assert created is not None  # noqa: S101 - the column is NOT NULL
        return BookedGrant(
            Grant(row[0], row[2], ref, row[8] or 0, row[3], row[4], row[5], created, None, to_time(row[7])), row[1]
        )

    def shares_of(self, account: str) -> Sequence[BookedShare]:
        """See `State`."""
        known = self._shares.get(account)
        if known is None:
            rows = self._connection.execute(
                "SELECT s.grant_id, s.amount, s.expired, g.priority, g.created, g.expires_at "
                "FROM shares s JOIN grants g ON g.id = s.grant_id WHERE s.account = ?",
                (account,),
            )
            known = self._shares[account] = [share_of(account, row) for row in rows]
        return known

    def crossed(self, account: str, threshold: int) -> bool:
        """See `State`."""
        found = self._connection.execute(
            "SELECT 1 FROM crossings WHERE account = ? AND threshold = ?", (account, threshold)
        ).fetchone()
        return found is not None

    # What bookkeeping changes.

    def transact(self, change: Change) -> Work:
        """See `Store`; nobody else writes, so it runs once."""
        work = change(self)
        if not work.is_empty:
            self.commit(work)
        return work

    def commit(self, work: Work) -> None:
        """Make a work durable, all of it or nothing; when this raises, memory and file are unchanged.

        Raises `LedgerUnavailable` while the file cannot be written, and anything else for values that it cannot store.
        """
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            written = self._rows.write(work, self._seq, self._head)
            self._connection.execute("COMMIT")
        except Exception as error:
            # What SQLite does not take, such as a number beyond 64 bits, is no `sqlite3.Error`.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._numbers.drop()
            self._holder_numbers.drop()
            if isinstance(error, sqlite3.Error) and not isinstance(error, _NOT_ITS_STATE):
                raise _unavailable(self.path, error) from error
            raise
        if written.chained:
            self._seq, self._head = written.chained[-1].seq, written.chained[-1].hash
        self._remember(work, written)

    def _remember(self, work: Work, written: Written) -> None:
        if len(self._accounts) > REMEMBERED_ACCOUNTS:
            self._accounts.clear()
            self._held.clear()
            self._numbers.clear()
            self._shares.clear()
        for account, _ in work.shares:
            self._shares.pop(account, None)
        if len(self._words) > REMEMBERED_WORDS:
            self._words.clear()
        self._words |= written.words
        self._numbers.keep()
        self._holder_numbers.keep()
        for booking in work.bookings:
            self._booked.add((record.id for record in booking.records), booking.marks)
        # What is new is read when it is asked for, unless its number was needed already.
        self._accounts |= {name: known for name, known in work.accounts.items() if name in self._numbers}
        for name in work.accounts:
            self._held.pop(name, None)
        self._held |= work.held
        for holder in work.forgotten:
            self._holders.pop(holder, None)
            self._leases.pop(holder, None)
        self._holders |= work.holders
        for holder, changed in work.leases.items():
            leases = self._leases.setdefault(holder, {})
            leases.update(changed)
            if written.any_ended:
                for ended in [account for account, lease in changed.items() if lease.outstanding <= 0]:
                    del leases[ended]


def _unavailable(path: Path, error: sqlite3.Error) -> LedgerUnavailable:
    if damaged := unreadable(path, error):
        return damaged
    text = str(error)
    remedy = {
        "database or disk is full": "free some space; nothing of this was booked",
        "database is locked": "another program holds the file; end it",
    }.get(text, "see that the folder exists and can be written")
    return LedgerUnavailable(f"ledger {path}: {text}; {remedy}")


def _check_may_be_ours(path: Path) -> None:
    """Raise `NoLedger` or `LedgerUnreadable` for a file that is no ledger and can become none, before a lock is left beside it.

    A lock cannot be taken away again: who opened it meanwhile would lock a file that others no longer find. What may be wrong
    else, such as that nothing can be written here, is for whoever opens the ledger to say.
    """
    if not os.access(Path(os.path.realpath(path)).parent, os.W_OK):
        return
    check_no_other(path)
    try:
        with closing(read_connection(path, wait_seconds=0.0)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        if wrong := unreadable(path, error):
            raise wrong from error


def _own(path: Path) -> IO[bytes]:
    """Lock the ledger for this process until it ends, by whichever of its names it is opened."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        real = Path(os.path.realpath(path))
        lock = real.with_name(real.name + ".lock").open("a+b", buffering=0)
    except OSError as error:
        raise LedgerUnavailable(f"ledger {path}: {error.strerror}; choose a folder that can be written") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock.truncate(0)
        lock.write(b"process %d" % os.getpid())
    except BlockingIOError as error:
        lock.seek(0)
        owner = lock.read().decode(errors="replace").strip() or "another process"
        lock.close()
        raise LedgerInUse(f"ledger {path}: {owner} writes it; end that process or name another ledger") from error
    except OSError as error:
        lock.close()
        raise LedgerUnavailable(f"ledger {path}: {error.strerror}; free some space") from error
    return lock
