"""The commit of a work that leases and does nothing else, which most are: on two journeys to the server.

The first begins the transaction, locks and changes; the server compares the versions that it locks with those that were
read, and works on each statement while the next are written. Only what it answers decides whether the second, `COMMIT`,
follows. All other works take the way of `writes`.
"""

from collections.abc import Iterator

from tollkeeper_ledger.postgres.arrays import integers
from tollkeeper_ledger.postgres.known import Numbers, Standing
from tollkeeper_ledger.postgres.lease_rows import Counted, held_rows, holder_rows, lease_rows
from tollkeeper_ledger.postgres.memory import Memory
from tollkeeper_ledger.postgres.session import Session, Statement
from tollkeeper_ledger.work import Work

_LOCK = (
    "SELECT count(*) FILTER (WHERE is_as_read) FROM (SELECT t.version = u.version AS is_as_read "
    "FROM {table} t JOIN unnest(%s::bigint[], %s::bigint[]) AS u (number, version) ON t.{number} = u.number "
    "ORDER BY t.{order} FOR UPDATE OF t) AS locked"
)
_LOCK_ACCOUNTS = _LOCK.format(table="held", number="account", order="account")
_LOCK_HOLDERS = _LOCK.format(table="holders", number="number", order="holder")


def standing_of(memory: Memory, work: Work) -> Standing | None:
    """What such a commit locks; None where the work needs more than that."""
    if not work.only_leases:
        return None
    accounts = (work.held.keys(), *(leases.keys() for leases in work.leases.values()))
    looked_at = work.changed_holders() <= memory.seen.holders and all(one <= memory.seen.accounts for one in accounts)
    return memory.standing() if looked_at else None


class LeaseCommit:
    """One such commit: `write`, then `COMMIT`, then `remember`."""

    def __init__(self, session: Session, memory: Memory, work: Work, standing: Standing) -> None:
        self._session = session
        self._memory = memory
        self._work = work
        self._standing = standing

    def write(self, also: Statement) -> None:
        """Everything up to `COMMIT`, and what is `also` to be written. Raises `Interrupted` (contended) where another writer
        was first."""
        work, memory = self._work, self._memory
        with self._session.journey() as send:
            send("BEGIN", ())
            locks = [(one, send(one.sql, one.values)) for one in self._locks()]
            accounts = memory.numbers_of_accounts()
            changes = [(one, send(one.sql, one.values)) for one in held_rows(work.held, accounts)]
            holders = {name: memory.known_holder(name) for name in work.changed_holders()}
            changes += [(one, send(one.sql, one.values)) for one in holder_rows(work, holders)]
            numbers = {name: one.number for name, one in holders.items()}
            leases = lease_rows(work, numbers, lambda holder: holders[holder].leases, accounts.__getitem__)
            changes += [(one, send(one.sql, one.values)) for one in leases.known]
            for sql, values in (*leases.new, *leases.ended, also):
                send(sql, values)
            self._numbers = Numbers(accounts, numbers)
            self._held = memory.held_after(work)
        for one, cursor in locks:
            (as_read,) = cursor.fetchall()[0]
            self._session.check_all_written(as_read, one.wanted, one.what)
        for one, cursor in changes:
            self._session.check_all_written(cursor.rowcount, one.wanted, one.what)

    def remember(self) -> None:
        """It was committed."""
        self._memory.remember(self._work, self._numbers, self._held)

    def _locks(self) -> Iterator[Counted]:
        """In the order of all writers: accounts, then holders."""
        for sql, versions, what in (
            (_LOCK_ACCOUNTS, self._standing.accounts, "an account"),
            (_LOCK_HOLDERS, self._standing.holders, "a holder"),
        ):
            if versions:
                yield Counted(sql, [integers(versions), integers(versions.values())], len(versions), what)
