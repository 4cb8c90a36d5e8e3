"""One connection to PostgreSQL: statements, their faults told apart, and a bounded wait for a server that went away."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import Any

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict

from tollkeeper_ledger.errors import LedgerUnavailable, Unstorable
from tollkeeper_ledger.postgres.arrays import Integers, IntegersDumper

PATIENCE_SECONDS = 3.0
"""How long a commit waits for a server that went away before it says so."""

ANSWER_SECONDS = 35.0
"""How long a statement's answer is waited for: longer than the server works on any, but for a commit that waits for its
standby. What is not answered by then is as lost as with the server; see `_what_became` of the store."""

_PAUSE_SECONDS = 0.05
_BOUNDS = (
    "SET lock_timeout = '5s'",
    "SET statement_timeout = '30s'",
    "SET idle_in_transaction_session_timeout = '30s'",
)
_CONTENDED = (
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.UniqueViolation,
    psycopg.errors.DuplicateTable,
    # A table that another writer made between the look for its name and the look for its row type's.
    psycopg.errors.DuplicateObject,
)
_LOST = (
    psycopg.errors.AdminShutdown,
    psycopg.errors.CrashShutdown,
    psycopg.errors.CannotConnectNow,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.IdleInTransactionSessionTimeout,
)

_NOT_ITS_STATE = (
    psycopg.errors.NumericValueOutOfRange,
    psycopg.errors.CharacterNotInRepertoire,
    psycopg.errors.NotNullViolation,
    psycopg.errors.ProgramLimitExceeded,
)
"""What PostgreSQL says of values, and not of itself: the same again would fail again."""

Row = tuple[Any, ...]
Connection = psycopg.Connection[Row]
Cursor = psycopg.Cursor[Row]
Statement = tuple[str, Sequence[Any]]


class Fault(Enum):
    """Why a statement failed: another writer was there, the server is not there, or it refused."""

    CONTENDED = "contended"
    LOST = "lost"
    REFUSED = "refused"


class Interrupted(LedgerUnavailable):
    """A statement failed; the transaction around it is over."""

    def __init__(self, message: str, fault: Fault) -> None:
        super().__init__(message)
        self.fault = fault


def name_of(dsn: str) -> str:
    """Where a database is, without user and password. Raises `LedgerUnavailable` for what is no connection string."""
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.Error as error:
        reason = str(error).strip().splitlines()[0]
        raise LedgerUnavailable(
            f"ledger on PostgreSQL: not a connection string ({reason}); write postgresql://user@host/database"
        ) from error
    host, port = parts.get("host") or "localhost", parts.get("port") or 5432
    return f"postgresql://{host}:{port}/{parts.get('dbname') or ''}"


def one_line(error: Exception) -> str:
    """What a driver's error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


class BoundedConnection(Connection):
    """A connection that is closed where an answer does not come in time: what came after it could not be told apart.

    `patient` takes as long as it takes: for steps that carry a whole database over.
    """

    patient = False

    def wait(self, gen: PQGen[Any], *bounds: Any, **named: Any) -> Any:
        """See `psycopg.Connection`; every wait for the server goes this way."""
        try:
            bound = {} if self.patient else {"timeout": ANSWER_SECONDS}
            return super().wait(gen, *bounds, **(bound | named))
        except psycopg.errors._WaitTimeout as late:  # noqa: SLF001 - it has no public name
            self.close()
            raise psycopg.OperationalError(f"no answer within {ANSWER_SECONDS:g} s") from late


def connect(dsn: str, of: type[Connection] = Connection) -> Connection:
    """A connection on which every statement is its own transaction, unless one is begun."""
    defaults: dict[str, Any] = {"connect_timeout": 3, "application_name": "tollkeeper-ledger"}
    missing = {name: value for name, value in defaults.items() if name not in conninfo_to_dict(dsn)}
    connection = of.connect(dsn, autocommit=True, **missing)
    connection.adapters.register_dumper(Integers, IntegersDumper)
    return connection


class Session:
    """A connection that is made when it is needed. Not safe for use by several threads."""

    def __init__(self, dsn: str) -> None:
        self.name = name_of(dsn)
        self._dsn = dsn
        self._connection: Connection | None = None

    def ask(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """Run a statement and answer its rows. Raises `Interrupted`, and `Unstorable` for values that fit no column."""
        return self._rows(self._run(sql, values))

    def change(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Run a statement and answer how many rows it changed. Raises as `ask` does."""
        return self._run(sql, values).rowcount

    def ask_all(self, statements: Sequence[Statement]) -> list[list[Row]]:
        """Run statements one after the other on one journey to the server and back; the rows of each. Raises as `ask` does."""
        return [self._rows(cursor) for cursor in self._run_all(statements)]

    def change_all(self, statements: Sequence[Statement]) -> list[int]:
        """As `ask_all`, but how many rows each changed."""
        return [cursor.rowcount for cursor in self._run_all(statements)]

    def check_all_written(self, written: int, wanted: int, what: str) -> None:
        """Raise `Interrupted` (contended) where fewer rows changed than were wanted: another writer was first."""
        if written != wanted:
            raise Interrupted(
                f"ledger {self.name}: other writers were there first ({what} of this was written meanwhile)",
                Fault.CONTENDED,
            )

    @contextmanager
    def journey(self) -> Iterator[Callable[[str, Sequence[Any]], Cursor]]:
        """What is sent with the answered function goes to the server at once; all of it is answered when the block ends.

        So the server works on the first statements while the next are written. Raises as `ask` does, and not before its end.
        """
        with self._faults(), self._connected().pipeline():
            yield self._run

    def _run(self, sql: str, values: Sequence[Any]) -> Cursor:
        with self._faults():
            return self._connected().execute(sql.encode(), values or None)

    def _run_all(self, statements: Sequence[Statement]) -> list[Cursor]:
        if len(statements) <= 1:
            return [self._run(sql, values) for sql, values in statements]
        with self._faults(), self._connected().pipeline():
            return [self._run(sql, values) for sql, values in statements]

    def _rows(self, cursor: Cursor) -> list[Row]:
        return cursor.fetchall() if cursor.description else []

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except _NOT_ITS_STATE as error:
            raise Unstorable(f"ledger {self.name}: {one_line(error)}; nothing of this was booked") from error
        except psycopg.Error as error:
            raise self.interrupted(error) from error

    def interrupted(self, error: psycopg.Error) -> Interrupted:
        """The error of a statement, told apart."""
        connection = self._connection
        if isinstance(error, psycopg.errors.LockNotAvailable):
            return Interrupted(
                f"ledger {self.name}: {one_line(error)}; another session holds what this needs; see pg_stat_activity",
                Fault.CONTENDED,
            )
        if isinstance(error, _CONTENDED):
            return Interrupted(f"ledger {self.name}: {one_line(error)}", Fault.CONTENDED)
        if connection is None or connection.closed or connection.broken or isinstance(error, _LOST):
            return Interrupted(
                f"ledger {self.name}: the server cannot be reached ({one_line(error)}); see that it runs", Fault.LOST
            )
        remedy = "free some space" if isinstance(error, psycopg.errors.DiskFull) else "see the server's log"
        return Interrupted(
            f"ledger {self.name}: {one_line(error)}; {remedy}; nothing of this was booked", Fault.REFUSED
        )

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            connection = connect(self._dsn, BoundedConnection)
            try:
                for bound in _BOUNDS:
                    connection.execute(bound)
                # What is answered is durable: a server that does not wait for its disk by itself does so for us.
                connection.execute(
                    "SELECT set_config('synchronous_commit', 'on', false) "
                    "WHERE current_setting('synchronous_commit') = 'off'"
                )
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    @contextmanager
    def patient(self) -> Iterator[None]:
        """Wait without a bound for what is asked meanwhile: a step that carries a whole database over takes its time."""
        connection = self._connected()
        assert isinstance(connection, BoundedConnection)  # noqa: S101 - the only kind that it makes
        connection.patient = True
        try:
            yield
        finally:
            connection.patient = False

    def rollback(self) -> None:
        """End a transaction that failed; a connection that cannot even do that is dropped."""
        if self._connection is None:
            return
        try:
            if not self._connection.closed:
                self._connection.rollback()
        except psycopg.Error:
            self.drop()

    def drop(self) -> None:
        """Close the connection; the next statement makes another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def wait_for_server(self, deadline: float) -> None:
        """Come back when the server answers again. Raises `Interrupted` at the deadline (monotonic seconds)."""
        self.drop()
        while True:
            try:
                self.ask("SELECT 1")
            except Interrupted as interrupted:
                self.drop()
                if interrupted.fault is not Fault.LOST or time.monotonic() >= deadline:
                    raise
                time.sleep(_PAUSE_SECONDS)
            else:
                return
