"""Booking a report: all usages of one tree of tenants in one transaction, each account changed once.

What comes out is what as many reports of one usage each would come to: balances, holds, overshoot and B3's latch alike.
Where that depends on their order (a lease that has lapsed, a grant whose time is over while something is held of it)
the usages are booked one by one. A window that is closed hands on what it has left once, after the report.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate, chain
from operator import attrgetter, sub

from tollkeeper import accounts as rules
from tollkeeper.accounts import Account
from tollkeeper.amounts import LARGEST
from tollkeeper.errors import InvalidValue
from tollkeeper.identity import new_id
from tollkeeper.limits import Limit
from tollkeeper.policy import PolicySet
from tollkeeper.usage import BUCKETS, UsageRecord
from tollkeeper_ledger.chain import Entry, Transaction, transfer
from tollkeeper_ledger.handing import has_handed_on, settle_carry, settle_late_opening
from tollkeeper_ledger.lending import settle
from tollkeeper_ledger.limiting import limit_of, parse_account
from tollkeeper_ledger.opening import expire_due, open_account
from tollkeeper_ledger.state import Booking, Charged
from tollkeeper_ledger.usagerows import written
from tollkeeper_ledger.work import Work

_account_of, _amount_of, _held_of = attrgetter("account"), attrgetter("amount"), attrgetter("held")
_counts_of = attrgetter(*BUCKETS)


def charge_all(work: Work, policy: PolicySet, records: Sequence[UsageRecord], now: datetime) -> None:
    """Book settled requests on every account they name; one that is booked already changes nothing (I3).

    Raises `InvalidValue` for amounts that fit no column, of a request or of an account that it is charged to.
    """
    once = {record.id: record for record in reversed(records)}
    booked = work.booked_among(once)
    fresh = [record for record in records if once.pop(record.id, None) is record and record.id not in booked]
    whole = _by_account(fresh)
    _check_sizes(fresh, whole)
    for of_one_tree in _by_root(policy, fresh):
        taken = whole if len(of_one_tree) == len(fresh) else _by_account(of_one_tree)
        if len(of_one_tree) > 1 and _order_tells(work, taken, now):
            for record in of_one_tree:
                _book(work, policy, [record], _by_account([record]), now)
        else:
            _book(work, policy, of_one_tree, taken, now)
    settle(work, policy, now)


def _by_root(policy: PolicySet, records: Sequence[UsageRecord]) -> Collection[list[UsageRecord]]:
    """The usages of each tree of tenants: no transaction touches two, so that ledgers can be divided between them."""
    found: dict[str, list[UsageRecord]] = {}
    for record in records:
        tenant = record.caller.tenant
        node = policy.tenants.get(tenant)
        found.setdefault(node.root if node else tenant, []).append(record)
    return found.values()


@dataclass(slots=True)
class _Taken:
    """What a report takes from one account, by column: the usage's number in the report, amount, hold and holder."""

    numbers: Sequence[int]
    amounts: Sequence[int]
    helds: Sequence[int]
    holders: Sequence[str]

    def after(self, start: int) -> "_Taken":
        """The same without the first ones."""
        return _Taken(self.numbers[start:], self.amounts[start:], self.helds[start:], self.holders[start:])


def _by_account(records: Sequence[UsageRecord]) -> dict[str, _Taken]:
    """What is taken from each account. Most reports are charged to the same ones throughout, in the same order."""
    charges = [record.charges for record in records]
    every = list(chain.from_iterable(charges))
    names = list(map(_account_of, every))
    amounts, helds = list(map(_amount_of, every)), list(map(_held_of, every))
    holders = [record.holder for record in records]
    width = len(charges[0]) if charges else 0
    first = names[:width]
    if names == first * len(records) and set(map(len, charges)) <= {width} and len(set(first)) == width:
        numbers = range(len(records))
        return {name: _Taken(numbers, amounts[of::width], helds[of::width], holders) for of, name in enumerate(first)}
    numbers_of = [number for number, of in enumerate(charges) for _ in of]
    positions: dict[str, list[int]] = {}
    for position, name in enumerate(names):
        positions.setdefault(name, []).append(position)
    return {
        name: _Taken(
            [numbers_of[at] for at in where],
            [amounts[at] for at in where],
            [helds[at] for at in where],
            [holders[numbers_of[at]] for at in where],
        )
        for name, where in positions.items()
    }


def _check_sizes(records: Sequence[UsageRecord], taken: Mapping[str, _Taken]) -> None:
    """All at once; one by one only to name what does not fit."""
    columns: list[Sequence[int]] = [column for of in taken.values() for column in (of.amounts, of.helds)]
    columns.append(list(map(sum, map(_counts_of, [record.buckets for record in records]))))
    columns.append([record.cost or 0 for record in records])
    if any(column and (max(column) > LARGEST or min(column) < 0) for column in columns):
        for record in records:
            _check_size(record)


def _check_size(record: UsageRecord) -> None:
    amounts = [record.cost or 0, *(amount for one in record.charges for amount in (one.amount, one.held))]
    greatest, least = max(record.buckets.total, *amounts), min(amounts)
    if least < 0:
        raise InvalidValue(f"request {record.id}: {least} is below 0, and no request uses or holds less than nothing")
    if greatest > LARGEST:
        raise InvalidValue(
            f"request {record.id}: {greatest} is too large: a request uses at most {LARGEST} of any unit"
        )


def _order_tells(work: Work, taken: dict[str, _Taken], now: datetime) -> bool:
    for name, of in taken.items():
        if any(work.lease(holder, name).lapsed for holder in set(of.holders)):
            return True
        known = work.account(name)
        if known and known[0].granted:
            alive = (booked.share for booked in work.shares_of(name) if not booked.expired)
            if any(share.is_over(now) for share in alive):
                return True
    return False


def _book(work: Work, policy: PolicySet, records: list[UsageRecord], taken: dict[str, _Taken], now: datetime) -> None:
    entries: list[Entry] = []
    charges: list[Charged] = []
    late: list[tuple[Limit, Account | None, Account]] = []
    opens = not all(work.account(name) for name in taken)
    for name, asked in _oldest_first(taken) if opens else taken.items():
        known = work.account(name)
        opened = _opened(work, policy, name, asked, records, now)
        if opened is None:
            continue
        (account, unit), of = opened
        limit = limit_of(policy, name, account, unit)
        before = expire_due(work, limit, account, now)
        after, freed, balances = _charge(work, limit, before, of, now)
        work.put(after, unit)
        if has_handed_on(work, limit, after, now):
            late.append((limit, before if known else None, after))
        if opens:
            # The next one may be opened out of what this one has left, and is given nothing of it twice.
            _hand_on_late(work, late, now)
            late.clear()
        if used := sum(of.amounts):
            entries += transfer(name, unit, used, source="balance", target="spent")
        if freed:
            entries += transfer(name, unit, freed, source="unreconciled", target="balance")
        charges.append(Charged(name, of.numbers, of.amounts, balances))
    transaction = Transaction(new_id(), now.isoformat(), "usage", tuple(entries), rows=written(records))
    work.book(Booking(transaction, tuple(records), tuple(charges)))
    _hand_on_late(work, late, now)


def _hand_on_late(work: Work, late: Iterable[tuple[Limit, Account | None, Account]], now: datetime) -> None:
    for limit, changed, after in late:
        if changed is None:
            settle_late_opening(work, limit, after, now)
        else:
            settle_carry(work, limit, changed, after, now)


def _oldest_first(taken: dict[str, _Taken]) -> Iterable[tuple[str, _Taken]]:
    """The accounts in an order in which they can be opened: each window before those that it hands on to."""
    return sorted(taken.items(), key=lambda of: of[0].rsplit("@", 2)[-2:-1])


def _opened(
    work: Work, policy: PolicySet, name: str, of: _Taken, records: Sequence[UsageRecord], now: datetime
) -> tuple[tuple[Account, str], _Taken] | None:
    """An account with its unit, and what is charged to it: where nobody leased from it, the account of a soft limit in
    the window in which a request was admitted (B6)."""
    if known := work.account(name):
        return known, of
    identity = parse_account(name)
    limit = policy.limit(identity.ref)
    for start, number in enumerate(of.numbers if limit else ()):
        admitted = records[number].admitted_at
        account, window = limit.account_at(identity.key, admitted) if limit else (None, None)
        if limit and account and window and account.text == name:
            is_over = window.end is not None and window.end <= now
            opened = open_account(work, limit, identity.key, admitted, cuts=not is_over)
            return (opened, limit.unit), of.after(start)
    return None


def _charge(work: Work, limit: Limit, account: Account, of: _Taken, now: datetime) -> tuple[Account, int, list[int]]:
    """The account after the usages, how much of them stood as unreconciled, and the balance after each."""
    leases = {holder: work.lease(holder, account.id) for holder in dict.fromkeys(of.holders)}
    if not any(lease.lapsed for lease in leases.values()):
        outstanding = {holder: lease.outstanding for holder, lease in leases.items()}
        used = _by_holder(of)
        stood = {holder: min(amount, outstanding[holder]) for holder, amount in used.items()}
        charged = rules.charge_all(account, limit, of.amounts, from_held=sum(stood.values()), now=now)
        if charged is not None:
            for holder, amount in stood.items():
                if amount:
                    work.put_lease(leases[holder].grown(-amount))
            return charged, 0, list(accumulate(of.amounts, sub, initial=account.balance))[1:]
    return _charge_each(work, limit, account, of, now)


def _by_holder(of: _Taken) -> dict[str, int]:
    if of.holders.count(of.holders[0]) == len(of.holders):
        return {of.holders[0]: sum(of.amounts)}
    used: dict[str, int] = {}
    for holder, amount in zip(of.holders, of.amounts, strict=True):
        used[holder] = used.get(holder, 0) + amount
    return used


def _charge_each(
    work: Work, limit: Limit, account: Account, of: _Taken, now: datetime
) -> tuple[Account, int, list[int]]:
    freed, balances = 0, []
    for amount, held, holder in zip(of.amounts, of.helds, of.holders, strict=True):
        lease = work.lease(holder, account.id)
        # A holder that lives gives back by itself what a request did not use; one that has ended no longer can.
        ended = lease.lapsed and work.holder(holder).closed
        stood = min(held if ended else amount, lease.outstanding)
        from_held, unreconciled = (0, stood) if lease.lapsed else (stood, 0)
        account = rules.charge(account, limit, amount, from_held=from_held, from_unreconciled=unreconciled, now=now)
        balances.append(account.balance)
        freed += unreconciled
        if stood:
            work.put_lease(lease.grown(-stood))
    return account, freed, balances
