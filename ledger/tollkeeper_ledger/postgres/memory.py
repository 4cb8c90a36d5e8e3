"""What a writer remembers of accounts and holders, each with the version that it read; the `State` that rules run on.

Nothing here is locked and all of it may be out of date. `check` compares versions under locks before a commit; until then
an answer made from it is a guess. Everything that was looked at is noted, also what was not found.
"""

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson

from tollkeeper.accounts import RECENT_REQUESTS, Account, holding
from tollkeeper.books import Grant
from tollkeeper.limits import AccountId, LimitRef
from tollkeeper_ledger.bodies import unpacked
from tollkeeper_ledger.packed import LATEST, latest
from tollkeeper_ledger.postgres.arrays import integers, texts
from tollkeeper_ledger.postgres.known import KnownAccount, KnownHolder, Neighbour, Numbers, Seen
from tollkeeper_ledger.postgres.session import Fault, Interrupted, Session, Statement
from tollkeeper_ledger.rows import BALANCE_COLUMNS, account_of, share_of, to_micros, to_time
from tollkeeper_ledger.state import BookedGrant, BookedShare, Holder, Lease, limit_and_key
from tollkeeper_ledger.storage import REMEMBERED_ACCOUNTS, REMEMBERED_WORDS
from tollkeeper_ledger.work import Work

_VERSIONS = "SELECT {column}, version FROM {table} WHERE {column} = ANY(%s::text[])"
_LOCK_BY_NUMBER = "SELECT number, version FROM accounts WHERE number = ANY(%s::bigint[]) ORDER BY number"


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
            self._taken = self.taken(expected.names)

    def taken(self, names: Collection[str]) -> frozenset[str]:
        """Which of these requests and marks are booked."""
        if not names:
            return frozenset()
        wanted = sorted(names)
        rows = self._session.ask(
            "SELECT id FROM requests WHERE id = ANY(%s) UNION ALL SELECT name FROM marks WHERE name = ANY(%s)",
            (wanted, wanted),
        )
        return frozenset(row[0] for row in rows)

    def taken_meanwhile(self, but: Collection[str]) -> frozenset[str]:
        """Which names that were said to be free are booked, but for those whose insertion will tell."""
        return self.taken(self.seen.names - self._taken - set(but))

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
            known = self._accounts[account] = self._load_account(account)
        return known

    def _load_account(self, account: str) -> KnownAccount:
        rows = self._session.ask(
            f"SELECT {BALANCE_COLUMNS}, unit, version, number FROM accounts WHERE id = %s",  # noqa: S608 - constant columns
            (account,),
        )
        if not rows:
            return KnownAccount(None)
        row = rows[0]
        unit, version, number = row[-3:]
        recent = self._session.ask(LATEST.replace("?", "%s"), (number, RECENT_REQUESTS) * 2)
        amounts = latest([packed for (packed,) in recent], RECENT_REQUESTS)
        found = account_of(row, amounts)
        return KnownAccount(found, unit, version, number, found.held)

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
        found = self.seen.neighbours[wanted] = _first(rows)
        known = self.account(found) if found else None
        return known[0] if known else None

    def held_out_of_loans(self, lender: str) -> Mapping[str, int]:
        """See `State`; as of now, and not noted as looked at."""
        sql = "SELECT id, least(held, borrowed) FROM accounts WHERE lender = %s AND lender <> '' AND held > 0"
        return {str(account): int(held) for account, held in self._session.ask(sql, (lender,))}

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
            known = self._holders[holder] = self._load_holder(holder)
        return known

    def _load_holder(self, holder: str) -> KnownHolder:
        rows = self._session.ask("SELECT sequence, closed, version, number FROM holders WHERE holder = %s", (holder,))
        sequence, closed, version, number = rows[0] if rows else (0, 0, 0, 0)
        first = time.time_ns() // 1000
        # The version is read first: leases that are newer than it make the check fail, never pass.
        leases = self._session.ask(
            "SELECT account, outstanding, lapsed FROM leases WHERE holder = %s AND outstanding > 0", (holder,)
        )
        by_account = {
            account: Lease(holder, account, outstanding, bool(lapsed)) for account, outstanding, lapsed in leases
        }
        lapsed = any(lease.lapsed for lease in by_account.values())
        return KnownHolder(Holder(holder, sequence, bool(closed), lapsed), by_account, version, first, number)

    def booked_among(self, names: Collection[str]) -> Collection[str]:
        """See `State`. A name that nothing is known of is taken to be free; the commit finds out."""
        self.seen.names.update(names)
        return self._taken.intersection(names)

    def transaction(self, request: str) -> Mapping[str, Any] | None:
        """See `State`."""
        rows = self._session.ask(
            "SELECT body FROM transactions WHERE seq IN "
            "(SELECT place >> 20 FROM requests WHERE id = %s UNION ALL SELECT seq FROM marks WHERE name = %s)",
            (request, request),
        )
        if not rows:
            self.seen.names.add(request)
            return None
        body: Mapping[str, Any] = orjson.loads(unpacked(rows[0][0]))
        return body

    def grant(self, grant: str) -> BookedGrant | None:
        """See `State`."""
        rows = self._session.ask(
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

    def shares_of(self, account: str) -> Sequence[BookedShare]:
        """See `State`; they change only together with their account, whose version is noted."""
        now = self.known_account(account).version
        version, known = self._shares.get(account, (0, ()))
        if version == now:
            return known
        rows = self._session.ask(
            "SELECT s.grant_id, s.amount, s.expired, g.priority, g.created, g.expires_at "
            "FROM shares s JOIN grants g ON g.id = s.grant_id WHERE s.account = %s ORDER BY s.grant_id",
            (account,),
        )
        known = [share_of(account, row) for row in rows]
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

    def check_neighbours(self, opened: Collection[str]) -> None:
        """Look again for the windows that were looked for, apart from those that this commit `opened`.

        At the end of the chain, where commits pass one by one, two writers cannot each miss what the other opens.
        """
        own = defaultdict[tuple[str, str], list[str]](list)
        for account in opened:
            own[limit_and_key(account)].append(account)
        looked = list(self.seen.neighbours.items())
        answers = self._session.ask_all(
            [wanted.question(own.get(limit_and_key(wanted.account), ())) for wanted, _ in looked]
        )
        for (wanted, found), rows in zip(looked, answers, strict=True):
            now = _first(rows)
            if now != found and not (wanted.where == "at" and self._is_older(now, found)):
                raise self._outdated(f"a window next to {wanted.account} was opened")

    def _is_older(self, now: str | None, found: str | None) -> bool:
        """Whether what overlaps now does so only because this commit, which has `found` locked, cut that off: the one that was
        opened last is what is looked for, so only a newer one is news."""
        if now is None or found is None:
            return now is None
        sql = "SELECT number FROM accounts WHERE id = ANY(%s::text[]) ORDER BY id = %s DESC"
        (of_found,), (of_now,) = self._session.ask(sql, (texts([found, now]), found))
        return bool(of_now < of_found)

    def check_unlocked(self) -> None:
        """Compare in one snapshot, for a run that changes nothing."""
        rows = self._session.ask(
            "SELECT 0, id, version FROM accounts WHERE id = ANY(%s) "
            "UNION ALL SELECT 1, holder, version FROM holders WHERE holder = ANY(%s)",
            (sorted(self.seen.accounts), sorted(self.seen.holders)),
        )
        found: tuple[dict[str, int], dict[str, int]] = ({}, {})
        for which, name, version in rows:
            found[which][name] = version
        self._compare(self.seen.accounts, self.seen.holders, *found, outdated_is_fine=False)

    def _lock(
        self, accounts: set[str], holders: set[str], *, wait: bool, outdated_is_fine: bool, begin: bool = False
    ) -> Seen:
        suffix = "FOR UPDATE" if wait else "FOR UPDATE NOWAIT"
        numbers = self._numbers_of(accounts)
        locks: list[Statement] = []
        if numbers:
            locks.append((f"{_LOCK_BY_NUMBER} {suffix}", (integers(numbers),)))
        elif accounts:
            by_id = _VERSIONS.format(table="accounts", column="id")
            locks.append((f"{by_id} ORDER BY number {suffix}", (texts(sorted(accounts)),)))
        if holders:
            by_name = _VERSIONS.format(table="holders", column="holder")
            locks.append((f"{by_name} ORDER BY holder {suffix}", (texts(sorted(holders)),)))
        answers = iter(self._session.ask_all([("BEGIN", ()), *locks])[1:] if begin else self._session.ask_all(locks))
        found = [dict[str, int](next(answers) if names else ()) for names in (accounts, holders)]
        if numbers:
            found[0] = {numbers[number]: version for number, version in found[0].items()}
        locked = Seen(set(found[0]), set(found[1]))
        wanted = (("accounts", "id", accounts), ("holders", "holder", holders))
        for (table, column, names), versions in zip(wanted, found, strict=True):
            if absent := names - versions.keys():
                # What another writer made while this one waited for a lock is not in that statement's snapshot.
                sql = _VERSIONS.format(table=table, column=column)
                versions.update(dict[str, int](self._session.ask(sql, (texts(sorted(absent)),))))
        self._compare(accounts, holders, *found, outdated_is_fine=outdated_is_fine)
        return locked

    def _numbers_of(self, accounts: Iterable[str]) -> dict[Any, str]:
        """Accounts by their row numbers, which are faster to find than their names; none where one of them has none yet."""
        known = [(self._accounts.get(name), name) for name in accounts]
        found: dict[Any, str] = {of.number: name for of, name in known if of and of.version}
        return found if len(found) == len(known) else {}

    def _compare(
        self,
        accounts: Iterable[str],
        holders: Iterable[str],
        now: Mapping[str, int],
        holders_now: Mapping[str, int],
        *,
        outdated_is_fine: bool,
    ) -> None:
        """Forget what has another version than it had when it was read."""
        changed = 0
        for name in accounts:
            known = self._accounts.get(name)
            if known is not None and known.version != now.get(name, 0):
                del self._accounts[name]
                changed += 1
        for name in holders:
            held = self._holders.get(name)
            if held is not None and held.version != holders_now.get(name, 0):
                del self._holders[name]
                changed += 1
        if changed and not outdated_is_fine:
            raise self._outdated(f"{changed} of its accounts and holders changed meanwhile")

    def _outdated(self, why: str) -> Interrupted:
        return Interrupted(f"ledger {self._session.name}: other writers were there first ({why})", Fault.CONTENDED)

    # What becomes of it.

    def remember(self, work: Work, numbers: Numbers) -> None:
        """A work was committed: know its accounts and holders at their new versions."""
        granted = {name for name, _ in work.shares}
        for name, (account, unit) in work.accounts.items():
            version = self.known_account(name).version
            self._accounts[name] = KnownAccount(account, unit, version + 1, numbers.accounts[name], account.held)
            if name in granted:
                self._shares.pop(name, None)
            else:
                self._keep_shares(name, version)
        for name, held in work.held.items():
            before, unit, version, number, _ = self._accounts[name]
            self._accounts[name] = _row(KnownAccount, (before, unit, version + 1, number, held))
            if name in self._shares:
                self._keep_shares(name, version)
        self._remember_holders(work, numbers.holders)
        self.forget_absent()
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


def _first(rows: Sequence[tuple[Any, ...]]) -> str | None:
    return str(rows[0][0]) if rows else None
