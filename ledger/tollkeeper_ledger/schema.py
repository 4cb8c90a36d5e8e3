"""The tables of the ledger on SQLite, and the steps that bring an older database to them.

`transactions` is the truth; the other tables are what it adds up to, written in the same commit, so that pages and
decisions need no replay. Times of rows are microseconds since the Unix epoch.
"""

import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from tollkeeper_ledger import version_5, version_7, version_9
from tollkeeper_ledger.errors import LedgerUnavailable, NoLedger
from tollkeeper_ledger.files import is_database, read_connection

VERSION_1 = """
CREATE TABLE transactions (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  time INTEGER NOT NULL,
  body BLOB NOT NULL,
  hash BLOB NOT NULL
);
CREATE TABLE accounts (
  number INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, limit_name TEXT NOT NULL, key TEXT NOT NULL,
  window TEXT NOT NULL,
  unit TEXT NOT NULL,
  window_start INTEGER, window_end INTEGER,
  allocation INTEGER NOT NULL, rolled_over INTEGER NOT NULL, granted INTEGER NOT NULL, spent INTEGER NOT NULL,
  held INTEGER NOT NULL, unreconciled INTEGER NOT NULL, overshoot INTEGER NOT NULL, requests INTEGER NOT NULL,
  blocked INTEGER NOT NULL, last_usage INTEGER
);
CREATE INDEX accounts_by_limit ON accounts (kind, namespace, name, limit_name, window);
CREATE TABLE leases (
  holder TEXT NOT NULL,
  account TEXT NOT NULL,
  outstanding INTEGER NOT NULL,
  lapsed INTEGER NOT NULL,
  PRIMARY KEY (holder, account)
) WITHOUT ROWID;
CREATE TABLE holders (
  holder TEXT PRIMARY KEY,
  sequence INTEGER NOT NULL,
  closed INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE requests (
  id TEXT PRIMARY KEY,
  seq INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE charges (
  account INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  amount INTEGER NOT NULL,
  balance INTEGER NOT NULL,
  PRIMARY KEY (account, seq)
) WITHOUT ROWID;
CREATE TABLE payments (
  account INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  grant_id TEXT NOT NULL,
  amount INTEGER NOT NULL,
  balance INTEGER NOT NULL,
  PRIMARY KEY (account, seq)
) WITHOUT ROWID;
CREATE TABLE grants (
  id TEXT PRIMARY KEY,
  transaction_id TEXT NOT NULL,
  name TEXT NOT NULL,
  reason TEXT NOT NULL,
  reference TEXT,
  priority INTEGER NOT NULL,
  created INTEGER NOT NULL,
  expires_at INTEGER
) WITHOUT ROWID;
CREATE TABLE shares (
  account TEXT NOT NULL,
  grant_id TEXT NOT NULL,
  amount INTEGER NOT NULL,
  expired INTEGER NOT NULL,
  PRIMARY KEY (account, grant_id)
) WITHOUT ROWID;
CREATE INDEX shares_by_grant ON shares (grant_id);
CREATE TABLE minutes (
  account INTEGER NOT NULL,
  minute INTEGER NOT NULL,
  amount INTEGER NOT NULL,
  requests INTEGER NOT NULL,
  tokens INTEGER NOT NULL,
  cost INTEGER NOT NULL,
  unpriced INTEGER NOT NULL,
  PRIMARY KEY (account, minute)
) WITHOUT ROWID;
CREATE TABLE crossings (
  account TEXT NOT NULL,
  threshold INTEGER NOT NULL,
  PRIMARY KEY (account, threshold)
) WITHOUT ROWID;
"""

VERSION_2 = "ALTER TABLE accounts ADD COLUMN minimum INTEGER NOT NULL DEFAULT 0;"

# The window before a key's own is found at once, however many keys and windows a limit has.
VERSION_3 = "CREATE INDEX accounts_by_key ON accounts (kind, namespace, name, limit_name, key, unit, window);"

# Which ledger this is: balances of one cluster must not be kept in two.
VERSION_4 = """
CREATE TABLE identity (id TEXT NOT NULL);
INSERT INTO identity VALUES (lower(hex(randomblob(8))));
"""

# Under which names corrections are booked once, as usages are under their requests' ids.
VERSION_6 = "CREATE TABLE marks (name TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;"

# What an account borrowed and of whom, and what it lent.
VERSION_8 = """
ALTER TABLE accounts ADD COLUMN borrowed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN lent INTEGER NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN lender TEXT NOT NULL DEFAULT '';
"""

# Who borrows of an account, of all that there ever were: few do at a time.
VERSION_10 = "CREATE INDEX accounts_by_lender ON accounts (lender) WHERE lender <> '';"

# What changes with every lease lies in narrow rows that name others by number: a thousand of them are on few pages. `accounts`
# and `leases` are what is read, under the names that they have on PostgreSQL too.
VERSION_11 = """
ALTER TABLE holders RENAME TO holders_before;
CREATE TABLE holders (
  number INTEGER PRIMARY KEY,
  holder TEXT NOT NULL UNIQUE,
  sequence INTEGER NOT NULL,
  closed INTEGER NOT NULL
);
INSERT INTO holders (holder, sequence, closed) SELECT holder, sequence, closed FROM holders_before ORDER BY holder;
INSERT OR IGNORE INTO holders (holder, sequence, closed) SELECT DISTINCT holder, 0, 0 FROM leases ORDER BY holder;
CREATE TABLE lease_rows (
  holder INTEGER NOT NULL,
  account INTEGER NOT NULL,
  outstanding INTEGER NOT NULL,
  lapsed INTEGER NOT NULL,
  PRIMARY KEY (holder, account)
) WITHOUT ROWID;
INSERT INTO lease_rows SELECT h.number, a.number, l.outstanding, l.lapsed
  FROM leases l JOIN holders h ON h.holder = l.holder JOIN accounts a ON a.id = l.account;
CREATE INDEX leases_by_account ON lease_rows (account);
DROP TABLE leases;
DROP TABLE holders_before;
CREATE TABLE held (account INTEGER PRIMARY KEY, amount INTEGER NOT NULL);
INSERT INTO held SELECT number, held FROM accounts WHERE held <> 0;
CREATE TABLE account_rows (
  number INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, limit_name TEXT NOT NULL, key TEXT NOT NULL,
  window TEXT NOT NULL,
  unit TEXT NOT NULL,
  window_start INTEGER, window_end INTEGER,
  allocation INTEGER NOT NULL, rolled_over INTEGER NOT NULL, granted INTEGER NOT NULL, spent INTEGER NOT NULL,
  unreconciled INTEGER NOT NULL, overshoot INTEGER NOT NULL, requests INTEGER NOT NULL,
  blocked INTEGER NOT NULL, last_usage INTEGER, minimum INTEGER NOT NULL,
  borrowed INTEGER NOT NULL, lent INTEGER NOT NULL, lender TEXT NOT NULL
);
INSERT INTO account_rows SELECT number, id, kind, namespace, name, limit_name, key, window, unit, window_start, window_end,
  allocation, rolled_over, granted, spent, unreconciled, overshoot, requests, blocked, last_usage, minimum, borrowed, lent,
  lender FROM accounts ORDER BY number;
DROP TABLE accounts;
CREATE INDEX accounts_by_limit ON account_rows (kind, namespace, name, limit_name, window);
CREATE INDEX accounts_by_key ON account_rows (kind, namespace, name, limit_name, key, unit, window);
CREATE INDEX accounts_by_lender ON account_rows (lender) WHERE lender <> '';
CREATE VIEW accounts AS
  SELECT a.*, coalesce(h.amount, 0) AS held FROM account_rows a LEFT JOIN held h ON h.account = a.number;
CREATE VIEW leases AS
  SELECT h.holder, a.id AS account, l.outstanding, l.lapsed
  FROM lease_rows l JOIN holders h ON h.number = l.holder JOIN account_rows a ON a.number = l.account;
"""

# What instances count themselves, and how much is booked of each, from the transaction after `since` on.
VERSION_12 = """
CREATE TABLE counters (
  instance TEXT NOT NULL,
  series TEXT NOT NULL,
  value INTEGER NOT NULL,
  told INTEGER NOT NULL,
  PRIMARY KEY (instance, series)
) WITHOUT ROWID;
CREATE TABLE tallies (
  instance TEXT PRIMARY KEY,
  requests INTEGER NOT NULL,
  tokens INTEGER NOT NULL,
  cost INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE tallied (since INTEGER NOT NULL);
INSERT INTO tallied SELECT coalesce(max(seq), 0) FROM transactions;
"""

_LOG = logging.getLogger("tollkeeper.ledger")

Step = str | Callable[[sqlite3.Connection], None]
"""Statements of SQL, or a function that executes some."""

OLDEST_SQLITE = (3, 33)
"""The first that has `UPDATE … FROM`."""

MIGRATIONS: tuple[Step, ...] = (
    VERSION_1,
    VERSION_2,
    VERSION_3,
    VERSION_4,
    version_5.apply,
    VERSION_6,
    version_7.apply,
    VERSION_8,
    version_9.apply,
    VERSION_10,
    VERSION_11,
    VERSION_12,
)
"""Step N brings a database from version N to N + 1; steps are only ever added."""


def holds_ledger(connection: sqlite3.Connection) -> bool:
    """Whether the tables of a ledger, of whatever version, stand in a database."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    columns = {row[1] for row in connection.execute("PRAGMA table_info(transactions)")}
    return version > 0 and columns >= {"seq", "id", "time", "body", "hash"}


def check_no_other(path: Path) -> None:
    """Raise `NoLedger` for a database in which something else stands than a ledger; nothing of it is changed."""
    if not is_database(path):
        return
    with suppress(sqlite3.Error), closing(read_connection(path)) as connection:
        is_new = connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
        if not is_new and not holds_ledger(connection):
            raise NoLedger(
                f"ledger {path}: it holds no ledger, but tables of something else; name another folder with --data-dir"
            )


def migrate(connection: sqlite3.Connection, path: str) -> None:
    """Bring the database to the version in use, each step in a transaction of its own.

    Raises `LedgerUnavailable` for a database that a newer release wrote, for one whose rows cannot be carried over, and
    where Python has a SQLite that is too old; it then stays at the version it had.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise LedgerUnavailable(
            f"ledger {path}: this Python has SQLite {sqlite3.sqlite_version}, and {'.'.join(map(str, OLDEST_SQLITE))} or newer "
            "is needed: use another Python, or PostgreSQL"
        )
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > len(MIGRATIONS):
        raise LedgerUnavailable(
            f"ledger {path}: it has schema version {version} and this release knows {len(MIGRATIONS)}; "
            "use the release that wrote it, or a newer one"
        )
    for number, step in enumerate(MIGRATIONS[version:], start=version + 1):
        if version:
            _LOG.info("ledger %s: bringing it from schema version %d to %d", path, number - 1, number)
        connection.execute("BEGIN IMMEDIATE")
        try:
            _take(connection, step)
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except LedgerUnavailable as error:
            raise LedgerUnavailable(f"ledger {path}: {error}") from error
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def _take(connection: sqlite3.Connection, step: Step) -> None:
    if callable(step):
        step(connection)
        return
    for statement in filter(str.strip, step.split(";")):
        connection.execute(statement)
