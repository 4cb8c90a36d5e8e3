"""What a writer on PostgreSQL knows of accounts and holders, as of the versions that it read, and what its rules looked at."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from tollkeeper.accounts import Account
from tollkeeper_ledger import neighbours
from tollkeeper_ledger.postgres.session import Statement
from tollkeeper_ledger.state import Holder, Lease


class KnownAccount(NamedTuple):
    """An account as of a version; version 0 is an account that did not exist.

    What is `held` of it changes with every lease, and stands beside the value that says all else.
    """

    account: Account | None
    unit: str = ""
    version: int = 0
    number: int = 0
    held: int = 0


class KnownHolder(NamedTuple):
    """A holder and its leases as of a version; every change of a lease counts its holder's version up.

    A holder that was forgotten may come again: its versions go on beyond all that it had (`first` is the time), so that
    what another writer remembers of it is not taken for what is known now.
    """

    holder: Holder
    leases: dict[str, Lease]
    version: int = 0
    first: int = 1
    number: int = 0

    @property
    def next_version(self) -> int:
        """The version that its next change has."""
        return self.version + 1 if self.version else self.first


class Numbers(NamedTuple):
    """The row numbers of what a commit changed, by name."""

    accounts: Mapping[str, int]
    holders: Mapping[str, int]


class Standing(NamedTuple):
    """Accounts and holders that have rows: their numbers, each with the version that was read of it."""

    accounts: Mapping[int, int]
    holders: Mapping[int, int]


class Neighbour(NamedTuple):
    """A window that is looked for next to an account's: that ended before it began, or begins after or holds an instant."""

    account: str
    where: Literal["before", "after", "at"]
    instant: int | None = None
    """In microseconds."""

    def question(self, besides: Collection[str] = ()) -> Statement:
        """What to ask the database, which does not look at some accounts of the same limit and key."""
        sql, values = self._asked(besides)
        return sql.replace("?", "%s"), values

    @staticmethod
    def found_in(rows: Sequence[tuple[Any, ...]]) -> str | None:
        """The account that an answer to the question names."""
        return str(rows[0][0]) if rows else None

    def _asked(self, besides: Collection[str]) -> neighbours.Question:
        if self.where == "before":
            return neighbours.ended_before(self.account, besides)
        if self.where == "after":
            return neighbours.begin_after(self.account, self.instant, besides)
        return neighbours.hold(self.account, self.instant or 0, besides)


@dataclass(slots=True)
class Seen:
    """What the rules looked at."""

    accounts: set[str] = field(default_factory=set)
    holders: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    """Requests and marks that were asked for, and said to be free without asking the database."""
    neighbours: dict[Neighbour, str | None] = field(default_factory=dict)
    """Windows that were looked for next to others, and which account was found."""

    def __bool__(self) -> bool:
        return bool(self.accounts or self.holders or self.names or self.neighbours)

    def __or__(self, other: "Seen") -> "Seen":
        return Seen(self.accounts | other.accounts, self.holders | other.holders, self.names | other.names)
