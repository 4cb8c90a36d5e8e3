# ruff: noqa: ARG002 - a world has one account and no past: most questions have one answer
"""A ledger's state as one immutable value: what `bookkeeping` reads, without a database. It is compared and hashed."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from tollkeeper.accounts import Account
from tollkeeper_ledger.state import BookedGrant, BookedShare, Holder, Lease
from tollkeeper_ledger.work import Work


@dataclass(frozen=True, slots=True)
class Memory:
    """A `State` of one account. `after` is what a commit would have made of it, restarts included: empty leases are gone."""

    known: Account
    unit: str
    leases: frozenset[Lease] = frozenset()
    holders: frozenset[Holder] = frozenset()
    booked: frozenset[str] = frozenset()

    def after(self, work: Work) -> "Memory":
        leases = {(lease.holder, lease.account): lease for lease in (*self.leases, *work.changed_leases())}
        holders = {holder.holder: holder for holder in self.holders} | work.holders
        return replace(
            self,
            known=(work.account(self.known.id) or (self.known, ""))[0],
            leases=frozenset(lease for lease in leases.values() if lease.outstanding > 0),
            holders=frozenset(holders.values()),
            booked=self.booked | work.booked,
        )

    def account(self, account: str) -> tuple[Account, str] | None:
        return (self.known, self.unit) if account == self.known.id else None

    def with_held(self, account: str) -> tuple[Account, str, int] | None:
        return (self.known, self.unit, self.known.held) if account == self.known.id else None

    def previous_account(self, account: str) -> Account | None:
        return None

    def overlapping(self, account: str, now: datetime) -> Account | None:
        return None

    def held_out_of_loans(self, lender: str) -> Mapping[str, int]:
        return {}

    def next_account(self, account: Account) -> Account | None:
        return None

    def leases_of(self, holder: str) -> Mapping[str, Lease]:
        return {lease.account: lease for lease in self.leases if lease.holder == holder}

    def holder(self, holder: str) -> Holder:
        return next((one for one in self.holders if one.holder == holder), Holder(holder))

    def booked_among(self, names: Collection[str]) -> Collection[str]:
        return self.booked.intersection(names)

    def transaction(self, request: str) -> Mapping[str, Any] | None:
        return None

    def grant(self, grant: str) -> BookedGrant | None:
        return None

    def shares_of(self, account: str) -> Sequence[BookedShare]:
        return ()

    def crossed(self, account: str, threshold: int) -> bool:
        return False
