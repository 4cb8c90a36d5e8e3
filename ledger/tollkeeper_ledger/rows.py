"""Values to rows and back: the one place that knows how accounts and times lie in a database."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from tollkeeper.accounts import Account
from tollkeeper.grants import Share
from tollkeeper_ledger.limiting import parse_account
from tollkeeper_ledger.state import BookedGrant, BookedShare, Booking

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

ACCOUNT_COLUMNS = (
    "id, kind, namespace, name, limit_name, key, window, unit, window_start, window_end, allocation, rolled_over, "
    "granted, spent, unreconciled, overshoot, requests, blocked, last_usage, minimum, borrowed, lent, lender, held"
)
BALANCE_COLUMNS = (
    "id, window_start, window_end, allocation, rolled_over, granted, spent, held, unreconciled, overshoot, requests, "
    "blocked, last_usage, minimum, borrowed, lent, lender"
)


def to_micros(time: datetime | None) -> int | None:
    """Microseconds since the Unix epoch, exact."""
    return None if time is None else (time - EPOCH) // _MICROSECOND


def to_time(micros: int | None) -> datetime | None:
    """The instant of `to_micros`."""
    return None if micros is None else EPOCH + timedelta(microseconds=micros)


def account_row(account: Account, unit: str) -> tuple[Any, ...]:
    """An account as `ACCOUNT_COLUMNS`."""
    identity = parse_account(account.id)
    ref = identity.ref
    return (
        account.id,
        ref.kind,
        ref.namespace,
        ref.name,
        ref.limit,
        identity.key_text,
        identity.window,
        unit,
        to_micros(account.window_start),
        to_micros(account.window_end),
        account.allocation,
        account.rolled_over,
        account.granted,
        account.spent,
        account.unreconciled,
        account.overshoot,
        account.requests,
        int(account.blocked),
        to_micros(account.last_usage),
        account.minimum,
        account.borrowed,
        account.lent,
        account.lender,
        account.held,
    )


def account_of(row: Sequence[Any], recent: tuple[int, ...] = ()) -> Account:
    """The account of `BALANCE_COLUMNS`."""
    return Account(
        id=row[0],
        window_start=to_time(row[1]),
        window_end=to_time(row[2]),
        allocation=row[3],
        rolled_over=row[4],
        granted=row[5],
        spent=row[6],
        held=row[7],
        unreconciled=row[8],
        overshoot=row[9],
        requests=row[10],
        blocked=bool(row[11]),
        last_usage=to_time(row[12]),
        minimum=row[13],
        borrowed=row[14],
        lent=row[15],
        lender=row[16],
        recent=recent,
    )


def share_of(account: str, row: Sequence[Any]) -> BookedShare:
    """A grant's part in an account: grant, amount, expired, priority, created, expires_at."""
    grant, amount, expired, priority, created, expires_at = row
    made = to_time(created)
    assert made is not None  # noqa: S101 - the column is NOT NULL
    return BookedShare(account, Share(grant, amount, priority, made, to_time(expires_at)), bool(expired))


def booked_at(booking: Booking) -> int:
    """The booking time of a transaction, in microseconds: its own text, read back."""
    return to_micros(datetime.fromisoformat(booking.transaction.time)) or 0


def grant_row(booked: BookedGrant) -> tuple[Any, ...]:
    """A booked grant as the columns of its table."""
    one = booked.grant
    times = to_micros(one.created), to_micros(one.expires_at)
    return (one.id, booked.transaction, one.name, one.reason, one.reference, one.priority, *times)
