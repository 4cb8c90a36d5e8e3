"""What the ledger needs of a storage, and the two that there are.

A `Store` lets one writer change the ledger, a `LedgerStoreReader` answers questions. `open_store` and `open_reader` choose
by where the ledger lies: a path is a SQLite file, a `PostgresLedger` a database that several writers may share.
"""

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tollkeeper.accounts import Account
from tollkeeper.limits import LimitRef
from tollkeeper.recalls import Ask, Posting
from tollkeeper.views import LedgerReader
from tollkeeper_ledger.errors import LedgerUnavailable
from tollkeeper_ledger.state import Holder, State
from tollkeeper_ledger.work import Work

if TYPE_CHECKING:  # it loads numpy, which `verify` of an export need not wait for
    from tollkeeper_ledger.usages import Asking

REMEMBERED_ACCOUNTS = 20_000
"""A store keeps so many accounts in memory: those of windows long gone must not fill it. Others are read again."""

REMEMBERED_WORDS = 100_000
"""The same for the codes of words."""

Change = Callable[[State], Work]
"""Reads a state and says what to change. It may be run several times, so it has no effect but its answer."""


@dataclass(frozen=True, slots=True)
class PostgresLedger:
    """A ledger in a PostgreSQL database; `dsn` is a libpq connection string or address."""

    dsn: str = field(repr=False)


LedgerAt = Path | PostgresLedger


class Store(Protocol):
    """The committed state of a ledger, for one writing thread."""

    @property
    def name(self) -> str:
        """Where the ledger lies, as messages say it; without secrets."""
        ...

    @property
    def id(self) -> str:
        """The ledger's own name, made when it was created: balances of one cluster must not be kept in two."""
        ...

    def transact(self, change: Change) -> Work:
        """Run `change` over the state and make what it answers durable, all of it or nothing, as if nobody else wrote.

        Answers the work that was committed. Raises `LedgerUnavailable`: nothing was booked; or `OutcomeUnknown`.
        """
        ...

    def close(self) -> None:
        """Let go of the storage."""
        ...


class LedgerStoreReader(LedgerReader, Protocol):
    """A `LedgerReader` that also hands out the chain, and says who holds."""

    def live_holders(self) -> Mapping[str, int]:
        """Holders with leases that have not lapsed, with the last sequence number that was heard of each."""
        ...

    def holders_of(self, accounts: Collection[str], among: Collection[str] | None) -> Mapping[str, Collection[str]]:
        """Who of these, or of all there are, has a lease on each of these accounts that has not lapsed."""
        ...

    def accounts_named(self, ref: LimitRef, key: tuple[str, ...]) -> Sequence[Account]:
        """All accounts that ever counted for a limit and key, in whatever unit, by their windows; needs no policy."""
        ...

    def vanished_holders(self, account: str) -> Sequence[str]:
        """The holders of what stands as unreconciled in an account: they have not been heard of."""
        ...

    def holders_without_leases(self, most: int) -> Sequence[Holder]:
        """Holders that hold nothing, and of whom nothing stands as unreconciled; so many `most`, by name."""
        ...

    def owed(self) -> Sequence[str]:
        """The marks of what closed windows owe to the ones after them: see `handing.settle_owed`."""
        ...

    def counters_over(self, now: datetime, most: int) -> Mapping[str, datetime]:
        """The instances, so many at `most`, whose counters say nothing any more, as all is booked, or long missed; and when
        these were told."""
        ...

    def chain(self) -> Generator[tuple[bytes, bytes]]:
        """Every transaction's canonical text and hash, in chain order, as of one moment."""
        ...

    @property
    def chain_end(self) -> str | None:
        """What to ask a snapshot for the last transaction's place and hash; None where they stand nowhere else."""
        ...

    @property
    def schema(self) -> tuple[str, int]:
        """What to ask a snapshot for its schema's version, and the newest that this release knows."""
        ...

    @property
    def table(self) -> str:
        """What to ask a snapshot with a table's name: it answers a row where the ledger has such a table."""
        ...

    def snapshot(self) -> "AbstractContextManager[Asking]":
        """One moment of the ledger, for who asks several things of it. Raises `LedgerUnavailable`."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...


class RecallBoard(Protocol):
    """Where authorities that share a ledger say what they ask of each other's holders (see `tollkeeper.recalls`)."""

    def exchange(self, posting: Posting) -> Mapping[Ask, int]:
        """Take off what was answered, put up what is asked, and answer what stands there then, and until when.

        Raises `LedgerUnavailable`; whether anything was done is not known then, and it may be done again.
        """
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


def open_store(ledger: LedgerAt) -> Store:
    """The storage of a ledger, made or brought to the present schema if need be. Raises `LedgerUnavailable`, `LedgerInUse`."""
    if isinstance(ledger, Path):
        from tollkeeper_ledger.sqlite import SqliteStore  # it imports this module's types

        return SqliteStore(ledger)
    need_driver()
    from tollkeeper_ledger.postgres.store import PostgresStore

    return PostgresStore(ledger.dsn)


def open_reader(ledger: LedgerAt) -> LedgerStoreReader:
    """Questions to a ledger that `open_store` has opened before."""
    if isinstance(ledger, Path):
        from tollkeeper_ledger.reader import SqliteReader

        return SqliteReader(ledger)
    need_driver()
    from tollkeeper_ledger.postgres.reader import PostgresReader

    return PostgresReader(ledger.dsn)


def open_board(ledger: LedgerAt) -> RecallBoard | None:
    """The board of a ledger that `open_store` has opened before; none where there is one authority."""
    if isinstance(ledger, Path):
        return None
    need_driver()
    from tollkeeper_ledger.postgres.board import PostgresBoard

    return PostgresBoard(ledger.dsn)


def need_driver() -> None:
    """Raise `LedgerUnavailable` where the driver of PostgreSQL cannot be loaded."""
    try:
        import psycopg  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise LedgerUnavailable(
            f"ledger on PostgreSQL: the driver cannot be loaded ({error}); install tollkeeper[postgres]"
        ) from error
