"""The store: one writing thread's commits to a database that other writers share. See the package for how they agree."""

import time

from tollkeeper.errors import OutcomeUnknown
from tollkeeper.identity import new_id
from tollkeeper_ledger.linking import Linking
from tollkeeper_ledger.postgres.arrays import integers, texts
from tollkeeper_ledger.postgres.known import Seen
from tollkeeper_ledger.postgres.lease_commit import LeaseCommit, standing_of
from tollkeeper_ledger.postgres.memory import Memory
from tollkeeper_ledger.postgres.schema import MONTHS_AHEAD, make_partitions, migrate, month_of
from tollkeeper_ledger.postgres.session import PATIENCE_SECONDS, Fault, Interrupted, Session
from tollkeeper_ledger.postgres.writes import Commit
from tollkeeper_ledger.rows import booked_at
from tollkeeper_ledger.storage import Change
from tollkeeper_ledger.work import Work

MOST_ATTEMPTS = 12
"""How often a commit is done over because other writers were first."""

LONGEST_CONTENTION_SECONDS = 10.0
"""How long a commit is done over; what another session keeps locked for longer must not keep all of a writer's callers."""

WRITERS_LOOKED_AT_SECONDS = 3600.0
"""How often a writer looks for others that are gone: those that committed nothing since it looked before."""

_FORGET_WRITERS = (
    "DELETE FROM writers WHERE writer IN (SELECT w.writer FROM writers w, unnest(%s::text[], %s::bigint[]) AS u (writer, batch) "
    "WHERE w.writer = u.writer AND w.batch = u.batch FOR UPDATE OF w SKIP LOCKED)"
)

_NUMBER_BATCH = "INSERT INTO writers VALUES (%s, %s) ON CONFLICT (writer) DO UPDATE SET batch = excluded.batch"

_LAST_BATCH = (
    "INSERT INTO writers VALUES (%s, 0) ON CONFLICT (writer) DO UPDATE SET batch = writers.batch RETURNING batch"
)


class PostgresStore:
    """See `Store`. Raises `LedgerUnavailable` when the database cannot be opened. Not safe for use by several threads."""

    def __init__(self, dsn: str) -> None:
        self._session = Session(dsn)
        self.name = self._session.name
        self._memory = Memory(self._session)
        self._linking = Linking()
        self._writer = new_id()
        self._batch = 0
        self._sent: Work | None = None
        self._months: set[int] = set()
        try:
            migrate(self._session)
            self._make_partitions_ahead()
            self._others = self._other_writers()
            self._looked = time.monotonic()
            self.id = str(self._session.ask("SELECT id FROM identity")[0][0])
            """The ledger's own name, made when it was created."""
        except BaseException:
            # Also what no caller expects: a session that nobody closes would keep its locks.
            self._session.drop()
            self._linking.close()
            raise

    def close(self) -> None:
        """Close the connection. What other writers do goes on."""
        try:
            self._session.change("DELETE FROM writers WHERE writer = %s", (self._writer,))
        except Interrupted:
            pass  # the row only says what became of the last commit, which nobody asks any more
        finally:
            self._session.drop()
            self._linking.close()

    def transact(self, change: Change) -> Work:
        """See `Store`. A server that went away is waited for, for a few seconds; what was booked then is found out."""
        expected = Seen()
        began = time.monotonic()
        deadline = began + PATIENCE_SECONDS
        for attempt in range(1, MOST_ATTEMPTS + 1):
            self._sent = None
            try:
                work = self._attempt(change, expected)
            except Interrupted as interrupted:
                self._session.rollback()
                expected |= self._memory.seen
                if interrupted.fault is Fault.REFUSED or attempt == MOST_ATTEMPTS:
                    self._memory.forget()
                    raise
                if interrupted.fault is Fault.CONTENDED and time.monotonic() - began > LONGEST_CONTENTION_SECONDS:
                    self._memory.forget()
                    raise
                if interrupted.fault is Fault.LOST and (found := self._found_after(deadline)):
                    return found
            except BaseException:
                self._session.rollback()
                self._memory.forget()
                raise
            else:
                self._forget_writers()
                return work
        raise AssertionError("unreachable")

    def _attempt(self, change: Change, expected: Seen) -> Work:
        if expected:
            self._session.change("BEGIN")
        self._memory.begin(expected)
        work = change(self._memory)
        if work.is_empty and not expected:
            self._memory.check_unlocked()
            self._check_free(work)
            self._memory.forget_absent()
            return work
        if not expected and (standing := standing_of(self._memory, work)):
            self._commit_leases(LeaseCommit(self._session, self._memory, work, standing), work)
            return work
        if not expected:
            self._make_partitions_for(work)
        elif not self._has_partitions_for(work):
            self._session.change("ROLLBACK")
            self._make_partitions_for(work)
            raise Interrupted(f"ledger {self.name}: a month began", Fault.CONTENDED)
        self._memory.check(begin=not expected)
        self._check_free(work)
        commit = Commit(self._session, self._memory, self._linking, work)
        self._batch += 1
        commit.write_state((_NUMBER_BATCH, (self._writer, self._batch)))
        commit.write_chain()
        self._sent = work
        self._session.change("COMMIT")
        self._memory.remember(work, commit.numbers, self._memory.held_after(work))
        self._memory.forget_absent()
        self._memory.words |= commit.words
        return work

    def _commit_leases(self, commit: LeaseCommit, work: Work) -> None:
        self._batch += 1
        commit.write((_NUMBER_BATCH, (self._writer, self._batch)))
        self._sent = work
        self._session.change("COMMIT")
        commit.remember()

    def _other_writers(self) -> dict[str, int]:
        rows = self._session.ask("SELECT writer, batch FROM writers WHERE writer <> %s", (self._writer,))
        return {str(writer): int(batch) for writer, batch in rows}

    def _forget_writers(self) -> None:
        """Now and then forget the rows of writers that are gone. One that only had nothing to do loses nothing: its next
        commit makes its row again, and asked for a lost one before, no row says as truly that it was not booked."""
        if time.monotonic() - self._looked < WRITERS_LOOKED_AT_SECONDS:
            return
        self._looked = time.monotonic()
        try:
            now = self._other_writers()
            gone = {writer: batch for writer, batch in now.items() if self._others.get(writer) == batch}
            if gone:
                self._session.change(_FORGET_WRITERS, (texts(list(gone)), integers(list(gone.values()))))
        except Interrupted as interrupted:
            # The commit stands; the rows are for the next time.
            self._session.rollback()
            if interrupted.fault is Fault.LOST:
                self._memory.forget_all()
                self._months.clear()
        else:
            self._others = {writer: batch for writer, batch in now.items() if writer not in gone}

    def _check_free(self, work: Work) -> None:
        """Names that were said to be free and are not booked now; the ones that are, the commit finds out by inserting."""
        booked = {name for booking in work.bookings for name in booking.names}
        if taken := self._memory.taken_meanwhile(booked):
            raise Interrupted(f"ledger {self.name}: {len(taken)} requests were booked before", Fault.CONTENDED)

    def _found_after(self, deadline: float) -> Work | None:
        """After a connection was lost: the work whose commit was sent, if it is booked. See `_what_became`.

        Whatever answers next may be another server, which lacks the last of what this one had: nothing is remembered.
        Raises `OutcomeUnknown` when nobody can tell in time.
        """
        self._memory.forget_all()
        self._months.clear()
        try:
            return self._what_became(deadline)
        except Interrupted as away:
            if self._sent is None:
                raise
            raise OutcomeUnknown(
                f"{away}; it went away in the middle of a commit, which may be booked or not"
            ) from away

    def _what_became(self, deadline: float) -> Work | None:
        """Wait for the server; answer the work whose commit was sent if it is booked, nothing if it is not.

        Every commit writes its number into the writer's own row. To write that row is to wait until the lost commit has
        ended, also where the row was not there before it, so the answer is final. Raises `Interrupted` when the server
        stays away, or the commit goes on waiting for a standby that is.
        """
        self._session.wait_for_server(deadline)
        if self._sent is None:
            return None
        rows = self._session.ask(_LAST_BATCH, (self._writer,))
        return self._sent if rows[0][0] == self._batch else None

    def _make_partitions_ahead(self) -> None:
        now = int(self._session.ask("SELECT (extract(epoch FROM now()) * 1000000)::bigint")[0][0])
        months = {month_of(now) + ahead for ahead in range(MONTHS_AHEAD)}
        make_partitions(self._session, months)
        self._months |= months

    def _has_partitions_for(self, work: Work) -> bool:
        return {month_of(booked_at(booking)) for booking in work.bookings} <= self._months

    def _make_partitions_for(self, work: Work) -> None:
        """The months that a work books in, and those after them: made before they are needed, once a month."""
        booked = {month_of(booked_at(booking)) for booking in work.bookings}
        if booked <= self._months:
            return
        months = {month + ahead for month in booked for ahead in range(MONTHS_AHEAD)}
        make_partitions(self._session, months - self._months)
        self._months |= months
