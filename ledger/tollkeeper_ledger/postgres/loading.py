"""What a writer reads of the database where it remembers nothing: what rules ask of a `State`, as values."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from tollkeeper.accounts import RECENT_REQUESTS
from tollkeeper.books import Grant
from tollkeeper.limits import AccountId, LimitRef
from tollkeeper_ledger.bodies import unpacked
from tollkeeper_ledger.packed import LATEST, latest
from tollkeeper_ledger.postgres.known import KnownAccount, KnownHolder
from tollkeeper_ledger.postgres.session import Session
from tollkeeper_ledger.rows import BALANCE_COLUMNS, account_of, share_of, to_time
from tollkeeper_ledger.state import BookedGrant, BookedShare, Holder, Lease


def load_account(session: Session, account: str) -> KnownAccount:
    """An account as of its version; one of version 0 where there is none."""
    rows = session.ask(
        f"SELECT {BALANCE_COLUMNS}, unit, version, number FROM accounts WHERE id = %s",  # noqa: S608 - constant columns
        (account,),
    )
    if not rows:
        return KnownAccount(None)
    row = rows[0]
    unit, version, number = row[-3:]
    recent = session.ask(LATEST.replace("?", "%s"), (number, RECENT_REQUESTS) * 2)
    amounts = latest([packed for (packed,) in recent], RECENT_REQUESTS)
    found = account_of(row, amounts)
    return KnownAccount(found, unit, version, number, found.held)


def load_holder(session: Session, holder: str) -> KnownHolder:
    """A holder with its leases, as of its version; one of version 0 where there is none."""
    rows = session.ask("SELECT sequence, closed, version, number FROM holders WHERE holder = %s", (holder,))
    sequence, closed, version, number = rows[0] if rows else (0, 0, 0, 0)
    first = time.time_ns() // 1000
    # The version is read first: leases that are newer than it make the check fail, never pass.
    leases = session.ask(
        "SELECT account, outstanding, lapsed FROM leases WHERE holder = %s AND outstanding > 0", (holder,)
    )
    by_account = {account: Lease(holder, account, outstanding, bool(lapsed)) for account, outstanding, lapsed in leases}
    lapsed = any(lease.lapsed for lease in by_account.values())
    return KnownHolder(Holder(holder, sequence, bool(closed), lapsed), by_account, version, first, number)


def load_held_out_of_loans(session: Session, lender: str) -> Mapping[str, int]:
    """What is held of loans of this lender, by borrowing account."""
    sql = "SELECT id, least(held, borrowed) FROM accounts WHERE lender = %s AND lender <> '' AND held > 0"
    return {str(account): int(held) for account, held in session.ask(sql, (lender,))}


def load_transaction(session: Session, name: str) -> Mapping[str, Any] | None:
    """The transaction that booked a request or set a mark."""
    rows = session.ask(
        "SELECT body FROM transactions WHERE seq IN "
        "(SELECT place >> 20 FROM requests WHERE id = %s UNION ALL SELECT seq FROM marks WHERE name = %s)",
        (name, name),
    )
    if not rows:
        return None
    body: Mapping[str, Any] = orjson.loads(unpacked(rows[0][0]))
    return body


def load_grant(session: Session, grant: str) -> BookedGrant | None:
    """A grant that is booked."""
    rows = session.ask(
        "SELECT g.id, g.transaction_id, g.name, g.reason, g.reference, g.priority, g.created, g.expires_at, "
        "s.amount, s.account FROM grants g LEFT JOIN shares s ON s.grant_id = g.id WHERE g.id = %s "
        "ORDER BY s.account LIMIT 1",
        (grant,),
    )
    if not rows:
        return None
    id_, transaction, name, reason, reference, priority, created, expires_at, amount, account = rows[0]
    ref = AccountId.parse(account).ref if account else LimitRef("TokenBudget", "", "")
    made = to_time(created)
    assert made is not None  # noqa: S101 - the column is NOT NULL
    booked = Grant(id_, name, ref, amount or 0, reason, reference, priority, made, None, to_time(expires_at))
    return BookedGrant(booked, transaction)


def load_shares(session: Session, account: str) -> Sequence[BookedShare]:
    """The grants' parts in an account."""
    rows = session.ask(
        "SELECT s.grant_id, s.amount, s.expired, g.priority, g.created, g.expires_at "
        "FROM shares s JOIN grants g ON g.id = s.grant_id WHERE s.account = %s ORDER BY s.grant_id",
        (account,),
    )
    return [share_of(account, row) for row in rows]
