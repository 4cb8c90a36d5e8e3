"""What one commit changes, kept apart from what is durable until it is durable too.

A `Work` reads through to its parent (another work, or the store) and collects changes. Steps share one as long as none
of them fails; else each has one of its own over the batch's, which is dropped or taken over. A commit that fails drops
them all.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from tollkeeper.accounts import Account, holding
from tollkeeper.amounts import LARGEST
from tollkeeper.counters import Counters
from tollkeeper.errors import InvalidValue
from tollkeeper.windows import start_of
from tollkeeper_ledger.chain import canonical
from tollkeeper_ledger.state import BookedGrant, BookedShare, Booking, Holder, Lease, State, Told, limit_and_key


def _ended_by(account: Account, time: datetime | None) -> bool:
    return account.window_end is not None and time is not None and account.window_end <= time


def _window_of(account: str) -> str:
    return account.rsplit("@", 2)[1]


def _numbers_of(account: Account) -> tuple[int, ...]:
    """All that has a column of an account's row, and what rows say of it beside: its credit and its balance."""
    return (
        account.allocation,
        account.rolled_over,
        account.granted,
        account.borrowed,
        account.lent,
        account.spent,
        account.held,
        account.unreconciled,
        account.overshoot,
        account.requests,
        account.minimum,
        account.credit,
        account.balance,
    )


@dataclass(slots=True)
class Work:
    """Changes over a `State`, readable as one.

    `held` is what is held in all on accounts of which nothing else changed: so it is after a lease, and most changes of
    accounts are leases. All others that changed are in `accounts`. `touched` are those that the present step has put.
    """

    below: State
    accounts: dict[str, tuple[Account, str]] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)
    leases: dict[str, dict[str, Lease]] = field(default_factory=dict)
    """By holder and account."""
    holders: dict[str, Holder] = field(default_factory=dict)
    grants: dict[str, BookedGrant] = field(default_factory=dict)
    shares: dict[tuple[str, str], BookedShare] = field(default_factory=dict)
    crossings: set[tuple[str, int]] = field(default_factory=set)
    bookings: list[Booking] = field(default_factory=list)
    booked: set[str] = field(default_factory=set)
    forgotten: set[str] = field(default_factory=set)
    """Holders of whom nothing needs to be known any more."""
    counters: dict[tuple[str, str], Told] = field(default_factory=dict)
    """What instances told, by instance and series: no rule reads it."""
    uncounted: set[str] = field(default_factory=set)
    """Instances whose counters say nothing any more."""
    _windows: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """The changed accounts by limit and key: thousands of windows may be opened in one work."""

    def account(self, account: str) -> tuple[Account, str] | None:
        """See `State`."""
        known = self.accounts.get(account) or self.below.account(account)
        held = self.held.get(account)
        return known if held is None or known is None else (holding(known[0], held), known[1])

    def with_held(self, account: str) -> tuple[Account, str, int] | None:
        """See `State`."""
        if own := self.accounts.get(account):
            return (*own, own[0].held)
        below, held = self.below.with_held(account), self.held.get(account)
        return below if below is None or held is None else (*below[:2], held)

    @property
    def changed_accounts(self) -> frozenset[str]:
        """The accounts of which anything changed."""
        return frozenset(self.accounts.keys() | self.held.keys())

    def previous_account(self, account: str) -> Account | None:
        """See `State`."""
        window = _window_of(account)
        begins = start_of(window)
        previous = self.below.previous_account(account)
        found = {previous.id} if previous else set[str]()
        found.update(own.id for own in self._beside(account) if _window_of(own.id) < window and _ended_by(own, begins))
        ended = [known[0] for identity in found if (known := self.account(identity)) and _ended_by(known[0], begins)]
        return max(ended, key=lambda one: (one.window_end, _window_of(one.id)), default=None)

    def next_account(self, account: Account) -> Account | None:
        """See `State`."""
        window = _window_of(account.id)
        below = self.below.next_account(account)
        later = [below.id] if below else []
        beside = [own for own in self._beside(account.id) if _window_of(own.id) > window]
        later += [own.id for own in beside if _ended_by(account, own.window_start)]
        first = min(later, key=_window_of, default=None)
        known = None if first is None else self.account(first)
        return known[0] if known else None

    def overlapping(self, account: str, now: datetime) -> Account | None:
        """See `State`."""
        own = [one for one in self._beside(account) if one.id != account and one.holds(now)]
        if opened := [one for one in own if self.below.account(one.id) is None]:
            return opened[-1]
        found = self.below.overlapping(account, now)
        known = self.account(found.id) if found else None
        if known and known[0].holds(now):
            return known[0]
        return own[-1] if own else None

    def held_out_of_loans(self, lender: str) -> Mapping[str, int]:
        """See `State`."""
        found = {name: held for name, held in self.below.held_out_of_loans(lender).items() if name not in self.accounts}
        own = (account for account, _ in self.accounts.values() if account.lender == lender)
        return found | {account.id: min(account.held, account.borrowed) for account in own}

    def _beside(self, account: str) -> list[Account]:
        """The accounts of the same limit, key and unit that changed, in the order in which they first did."""
        return [self.accounts[name][0] for name in self._windows.get(limit_and_key(account), ())]

    def _note_window(self, account: str) -> None:
        if account not in self.accounts:
            self._windows.setdefault(limit_and_key(account), []).append(account)

    def leases_of(self, holder: str) -> Mapping[str, Lease]:
        """See `State`."""
        below, own = self.below.leases_of(holder), self.leases.get(holder)
        return {**below, **own} if own else below

    def lease(self, holder: str, account: str) -> Lease:
        """A holder's lease on one account, an empty one if there is none."""
        own = self.leases.get(holder)
        lease = own.get(account) if own else None
        return lease or self.below.leases_of(holder).get(account) or Lease(holder, account, 0)

    def holder(self, holder: str) -> Holder:
        """See `State`."""
        if own := self.holders.get(holder):
            return own
        return Holder(holder) if holder in self.forgotten else self.below.holder(holder)

    def booked_among(self, names: Collection[str]) -> Collection[str]:
        """See `State`."""
        return self.booked.intersection(names).union(self.below.booked_among(names))

    def transaction(self, request: str) -> Mapping[str, Any] | None:
        """See `State`; what is booked in this work has no place in the chain yet."""
        for booking in self.bookings if request in self.booked else ():
            if request in booking.names:
                mapping: dict[str, Any] = orjson.loads(canonical(0, booking.transaction))
                return mapping
        return self.below.transaction(request)

    def grant(self, grant: str) -> BookedGrant | None:
        """See `State`."""
        return self.grants.get(grant) or self.below.grant(grant)

    def shares_of(self, account: str) -> Sequence[BookedShare]:
        """See `State`."""
        shares = {share.share.grant: share for share in self.below.shares_of(account)}
        shares |= {grant: share for (of, grant), share in self.shares.items() if of == account}
        return tuple(shares.values())

    def crossed(self, account: str, threshold: int) -> bool:
        """See `State`."""
        return (account, threshold) in self.crossings or self.below.crossed(account, threshold)

    def put(self, account: Account, unit: str) -> None:
        """Change an account. Raises `InvalidValue`, and changes nothing, when an amount of it fits no column."""
        numbers = _numbers_of(account)
        if max(numbers) > LARGEST or min(numbers) < -LARGEST:
            raise InvalidValue(
                f"{account.id}: {max(numbers, key=abs)} is too large: an account holds at most {LARGEST} nano-dollars or tokens"
            )
        self._note_window(account.id)
        self.accounts[account.id] = (account, unit)
        self.held.pop(account.id, None)
        self.touched.add(account.id)

    def put_held(self, account: str, held: int) -> None:
        """Change what is held of an account: no more than its cap, so it fits its column."""
        if known := self.accounts.get(account):
            self.accounts[account] = (holding(known[0], held), known[1])
        else:
            self.held[account] = held

    def put_lease(self, lease: Lease) -> None:
        """Change a lease."""
        self.leases.setdefault(lease.holder, {})[lease.account] = lease

    def forget(self, holder: str) -> None:
        """A holder without leases: nothing needs to be known of it any more."""
        self.holders.pop(holder, None)
        self.leases.pop(holder, None)
        if self.below.holder(holder) != Holder(holder):
            self.forgotten.add(holder)

    def changed_holders(self) -> set[str]:
        """The holders of which anything changed, leases included."""
        return self.holders.keys() | {holder for holder, leases in self.leases.items() if leases}

    def changed_leases(self) -> list[Lease]:
        """All leases that changed."""
        return [lease for of_one in self.leases.values() for lease in of_one.values()]

    def count(self, counters: Counters, now: datetime) -> None:
        """Take what an instance has counted so far; of what was told of a series the largest value stays (I3)."""
        for series, value in counters.values.items():
            self._count((counters.instance, series), Told(value, now))

    def _count(self, counter: tuple[str, str], told: Told) -> None:
        known = self.counters.get(counter)
        if known is None or told.value > known.value:
            self.counters[counter] = told

    def book(self, booking: Booking) -> None:
        """Append a transaction."""
        self.bookings.append(booking)
        self.booked.update(booking.names)

    def absorb(self, step: "Work") -> None:
        """Take over the changes of a step that succeeded."""
        for account, held in step.held.items():
            self.put_held(account, held)
        for account in step.accounts:
            self.held.pop(account, None)
            self._note_window(account)
        self.accounts |= step.accounts
        self.touched |= step.touched
        for holder in step.forgotten:
            self.forget(holder)
        for lease in step.changed_leases():
            self.put_lease(lease)
        self.holders |= step.holders
        self.grants |= step.grants
        self.shares |= step.shares
        self.crossings |= step.crossings
        for counter, told in step.counters.items():
            self._count(counter, told)
        self.uncounted |= step.uncounted
        self.bookings += step.bookings
        self.booked |= step.booked

    @property
    def only_leases(self) -> bool:
        """Whether nothing changes but leases, their holders, and what is held."""
        others = (self.accounts, self.grants, self.shares, self.crossings, self.bookings, self.forgotten, self.counters)
        return not any((*others, self.uncounted))

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to commit."""
        state = (self.accounts, self.held, self.holders, self.forgotten, self.counters, self.uncounted)
        return not any((*state, *self.leases.values(), self.grants, self.shares, self.crossings, self.bookings))
