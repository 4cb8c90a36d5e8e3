"""What a writer remembers of accounts and holders, each with the version that it read; the `State` that rules run on.

Nothing here is locked and all of it may be out of date. `check` compares versions under locks before a commit; until then
an answer made from it is a guess. Everything that was looked at is noted, also what was not found.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from tollkeeper.accounts import Account, holding
from tollkeeper_ledger.postgres.known import KnownAccount, KnownHolder, Neighbour, Numbers, Seen, Standing
from tollkeeper_ledger.postgres.loading import (
    load_account,
    load_grant,
    load_held_out_of_loans,
    load_holder,
    load_shares,
    load_transaction,
)
from tollkeeper_ledger.postgres.locks import Versions, changed_neighbour, locked_versions, taken, versions
from tollkeeper_ledger.postgres.session import Fault, Interrupted, Session
from tollkeeper_ledger.rows import to_micros
from tollkeeper_ledger.state import BookedGrant, BookedShare, Holder, Lease
from tollkeeper_ledger.storage import REMEMBERED_ACCOUNTS, REMEMBERED_WORDS
from tollkeeper_ledger.work import Work

_row = tuple.__new__
"""What a named tuple's own constructor does, without its call."""


class Memory:
    """See the module. `begin` forgets what was noted and takes over what the next run may rely on."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._accounts: dict[str, KnownAccount] = {}
        self._holders: dict[str, KnownHolder] = {}
        self._shares: dict[str, tuple[int, Sequence[BookedShare]]] = {}
        """By account, as of its version."""
        self._locked = Seen()
        self._taken: frozenset[str] = frozenset()
        self.words: dict[str, int] = {}
        """Codes of words, of commits that were made."""
        self.seen = Seen()

    def begin(self, expected: Seen) -> None:
        """Begin a run. What is `expected` is locked first, in order, and what is known of it brought up to date."""
        self.seen = Seen()
        self._locked = Seen()
        self._taken = frozenset()
        if expected:
            self._locked = self._lock(expected.accounts, expected.holders, wait=True, outdated_is_fine=True)
            self._taken = taken(self._session, expected.names)

    def taken_meanwhile(self, but: Collection[str]) -> frozenset[str]:
        """Which names that were said to be free are booked, but for those whose insertion will tell."""
        return taken(self._session, self.seen.names - self._taken - set(but))

    # What bookkeeping reads: see `state.State`.

    def account(self, account: str) -> tuple[Account, str] | None:
        """See `State`."""
        known = self.known_account(account)
        found = known.account
        if found is None:
            return None
        if found.held != known.held:
            found = holding(found, known.held)
            self._accounts[account] = known._replace(account=found)
        return found, known.unit

    def with_held(self, account: str) -> tuple[Account, str, int] | None:
        """See `State`."""
        known = self.known_account(account)
        return (known.account, known.unit, known.held) if known.account else None

    def known_account(self, account: str) -> KnownAccount:
        """An account with its version and row number."""
        self.seen.accounts.add(account)
        known = self._accounts.get(account)
        if known is None:
            known = self._accounts[account] = load_account(self._session, account)
        return known

    def previous_account(self, account: str) -> Account | None:
        """See `State`."""
        return self._neighbour(Neighbour(account, "before"))

    def next_account(self, account: Account) -> Account | None:
        """See `State`."""
        ends = to_micros(account.window_end)
        return None if ends is None else self._neighbour(Neighbour(account.id, "after", ends))

    def overlapping(self, account: str, now: datetime) -> Account | None:
        """See `State`."""
        return self._neighbour(Neighbour(account, "at", to_micros(now)))

    def _neighbour(self, wanted: Neighbour) -> Account | None:
        (rows,) = self._session.ask_all([wanted.question()])
        found = self.seen.neighbours[wanted] = wanted.found_in(rows)
        known = self.account(found) if found else None
        return known[0] if known else None

    def held_out_of_loans(self, lender: str) -> Mapping[str, int]:
        """See `State`; as of now, and not noted as looked at."""
        return load_held_out_of_loans(self._session, lender)

    def leases_of(self, holder: str) -> Mapping[str, Lease]:
        """See `State`."""
        return self.known_holder(holder).leases

    def holder(self, holder: str) -> Holder:
        """See `State`."""
        return self.known_holder(holder).holder

    def known_holder(self, holder: str) -> KnownHolder:
        """A holder with its leases and its version."""
        self.seen.holders.add(holder)
        known = self._holders.get(holder)
        if known is None:
            known = self._holders[holder] = load_holder(self._session, holder)
        return known

    def booked_among(self, names: Collection[str]) -> Collection[str]:
        """See `State`. A name that nothing is known of is taken to be free; the commit finds out."""
        self.seen.names.update(names)
        return self._taken.intersection(names)

    def transaction(self, request: str) -> Mapping[str, Any] | None:
        """See `State`."""
        found = load_transaction(self._session, request)
        if found is None:
            self.seen.names.add(request)
        return found

    def grant(self, grant: str) -> BookedGrant | None:
        """See `State`."""
        return load_grant(self._session, grant)

    def shares_of(self, account: str) -> Sequence[BookedShare]:
        """See `State`; they change only together with their account, whose version is noted."""
        now = self.known_account(account).version
        version, known = self._shares.get(account, (0, ()))
        if version == now:
            return known
        known = load_shares(self._session, account)
        self._shares[account] = now, known
        return known

    def crossed(self, account: str, threshold: int) -> bool:
        """See `State`."""
        return bool(
            self._session.ask("SELECT 1 FROM crossings WHERE account = %s AND threshold = %s", (account, threshold))
        )

    # Whether what was read still holds.

    def check(self, *, begin: bool) -> None:
        """Lock all that was looked at and not locked before, in a transaction that may `begin` with it, and compare.

        Raises `Interrupted` (contended) where it differs.

        Locks that come after others are not waited for: to wait out of order is how writers block each other.
        """
        accounts = self.seen.accounts - self._locked.accounts
        holders = self.seen.holders - self._locked.holders
        self._lock(accounts, holders, wait=not self._locked, outdated_is_fine=False, begin=begin)

    def standing(self) -> Standing | None:
        """All that was looked at, where each has a row and nothing was looked for that may be made meanwhile."""
        accounts = [self._accounts[name] for name in self.seen.accounts]
        holders = [self._holders[name] for name in self.seen.holders]
        has_rows = all(one.version for one in accounts) and all(one.version for one in holders)
        if self.seen.names or self.seen.neighbours or not has_rows:
            return None
        return Standing({one.number: one.version for one in accounts}, {one.number: one.version for one in holders})

    def numbers_of_accounts(self) -> dict[str, int]:
        """The row numbers of all accounts that were looked at."""
        known = self._accounts
        return {name: known[name].number for name in self.seen.accounts}

    def check_neighbours(self, opened: Collection[str]) -> None:
        """Look again for the windows that were looked for, apart from those that this commit `opened`.

        At the end of the chain, where commits pass one by one, two writers cannot each miss what the other opens.
        """
        if changed := changed_neighbour(self._session, self.seen.neighbours, opened):
            raise self._outdated(f"a window next to {changed} was opened")

    def check_unlocked(self) -> None:
        """Compare in one snapshot, for a run that changes nothing."""
        now = versions(self._session, self.seen.accounts, self.seen.holders)
        self._compare(self.seen.accounts, self.seen.holders, now, outdated_is_fine=False)

    def _lock(
        self, accounts: set[str], holders: set[str], *, wait: bool, outdated_is_fine: bool, begin: bool = False
    ) -> Seen:
        """Lock these and compare them. Answers those that were there to be locked."""
        numbers = self._numbers_of(accounts)
        found, locked = locked_versions(self._session, accounts, holders, numbers, wait=wait, begin=begin)
        self._compare(accounts, holders, found, outdated_is_fine=outdated_is_fine)
        return locked

    def _numbers_of(self, accounts: Iterable[str]) -> dict[Any, str]:
        """Accounts by their row numbers, which are faster to find than their names; none where one of them has none yet."""
        known = [(self._accounts.get(name), name) for name in accounts]
        found: dict[Any, str] = {of.number: name for of, name in known if of and of.version}
        return found if len(found) == len(known) else {}

    def _compare(
        self, accounts: Iterable[str], holders: Iterable[str], now: Versions, *, outdated_is_fine: bool
    ) -> None:
        """Forget what has another version than it had when it was read."""
        changed = 0
        for name in accounts:
            known = self._accounts.get(name)
            if known is not None and known.version != now.accounts.get(name, 0):
                del self._accounts[name]
                changed += 1
        for name in holders:
            held = self._holders.get(name)
            if held is not None and held.version != now.holders.get(name, 0):
                del self._holders[name]
                changed += 1
        if changed and not outdated_is_fine:
            raise self._outdated(f"{changed} of its accounts and holders changed meanwhile")

    def _outdated(self, why: str) -> Interrupted:
        return Interrupted(f"ledger {self._session.name}: other writers were there first ({why})", Fault.CONTENDED)

    # What becomes of it.

    def held_after(self, work: Work) -> Mapping[str, KnownAccount]:
        """What is known of accounts of which a work changes what is held alone, once it is committed."""
        known = self._accounts
        after = {}
        for name, held in work.held.items():
            account, unit, version, number, _ = known[name]
            after[name] = _row(KnownAccount, (account, unit, version + 1, number, held))
        return after

    def remember(self, work: Work, numbers: Numbers, held: Mapping[str, KnownAccount]) -> None:
        """A work was committed: know its accounts and holders at their new versions. `held` is `held_after` of it."""
        granted = {name for name, _ in work.shares}
        for name, (account, unit) in work.accounts.items():
            version = self.known_account(name).version
            self._accounts[name] = KnownAccount(account, unit, version + 1, numbers.accounts[name], account.held)
            if name in granted:
                self._shares.pop(name, None)
            else:
                self._keep_shares(name, version)
        for name in held.keys() & self._shares.keys():
            self._keep_shares(name, held[name].version - 1)
        self._accounts |= held
        self._remember_holders(work, numbers.holders)
        if len(self.words) > REMEMBERED_WORDS:
            self.words.clear()
        if len(self._accounts) > REMEMBERED_ACCOUNTS:
            self._accounts.clear()
            self._shares.clear()
        if len(self._holders) > REMEMBERED_ACCOUNTS:
            self._holders.clear()

    def _remember_holders(self, work: Work, numbers: Mapping[str, int]) -> None:
        for name in work.changed_holders():
            known = self.known_holder(name)
            leases, changed = known.leases, work.leases.get(name, {})
            leases.update(changed)
            for ended in [account for account, lease in changed.items() if lease.outstanding <= 0]:
                del leases[ended]
            holder = work.holders.get(name, known.holder)
            self._holders[name] = KnownHolder(holder, leases, known.next_version, known.first, numbers[name])
        for name in work.forgotten - work.changed_holders():
            self._holders.pop(name, None)

    def _keep_shares(self, account: str, before: int) -> None:
        """The shares of an account that went on by one version are what they were."""
        version, shares = self._shares.pop(account, (0, ()))
        if version == before:
            self._shares[account] = before + 1, shares

    def forget_absent(self) -> None:
        """Drop what was looked for and is not there: it would grow with every wrong question."""
        for name in self.seen.accounts:
            if name in self._accounts and self._accounts[name].account is None:
                del self._accounts[name]
        for name in self.seen.holders:
            if name in self._holders and self._holders[name].version == 0:
                del self._holders[name]

    def forget(self) -> None:
        """Forget everything that was looked at in this run."""
        for name in self.seen.accounts:
            self._accounts.pop(name, None)
        for name in self.seen.holders:
            self._holders.pop(name, None)

    def forget_all(self) -> None:
        """Forget everything: versions of one server say nothing of another's."""
        self.words.clear()
        self._accounts.clear()
        self._shares.clear()
        self._holders.clear()
