"""Recall: who is asked for what it has left over, when an account is short. Pure; times are monotonic seconds.

An account is short for a recall time after a holder was refused what others hold. Meanwhile each holder that has a lease
on it is asked once to give back what it has free there; what it holds for requests in flight stays with it. It answers
with a later call, in which that comes back. Whoever was refused waits while somebody owes an answer.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from tollkeeper.leases import RECALL_SECONDS, LeaseReply, LeaseRequest


@dataclass(slots=True)
class _Shortage:
    """Who has leases on a short account; of those who was asked, has not heard of it yet, and has not answered."""

    until: float
    holders: set[str]
    asked: set[str] = field(default_factory=set)
    untold: set[str] = field(default_factory=set)
    owing: set[str] = field(default_factory=set)


class Recalls:
    """The shortages of one authority. What it remembers ends with them: a recall that got lost is made again."""

    def __init__(self) -> None:
        # In the order of their beginning, which is that of their end.
        self._short: dict[str, _Shortage] = {}

    def heard(self, request: LeaseRequest, reply: LeaseReply, mono: float) -> frozenset[str]:
        """A call was answered like this. Tells which accounts are short from now on: `begin` must follow for them."""
        self._end(mono)
        for account in self._short.keys() & request.answers:
            shortage = self._short[account]
            shortage.owing.discard(request.holder)
            shortage.untold.discard(request.holder)
        for granted in reply.granted:
            if granted.amount and granted.account in self._short:
                self._short[granted.account].holders.add(request.holder)
        return frozenset(short_of(reply) - self._short.keys())

    def begin(self, account: str, holders: Iterable[str], mono: float) -> None:
        """An account is short, and these holders have leases on it."""
        self._short.setdefault(account, _Shortage(mono + RECALL_SECONDS, set(holders)))

    def ask(self, holder: str, reply: LeaseReply) -> tuple[frozenset[str], frozenset[str]]:
        """For a holder that was refused: the holders asked for its sake, and the accounts on which others owe an answer."""
        asked: set[str] = set()
        awaited: set[str] = set()
        for account in self._short.keys() & short_of(reply):
            shortage = self._short[account]
            newly = shortage.holders - shortage.asked - {holder}
            for known in (shortage.asked, shortage.untold, shortage.owing, asked):
                known.update(newly)
            if shortage.owing - {holder}:
                awaited.add(account)
        return frozenset(asked), frozenset(awaited)

    def take(self, holder: str) -> Collection[str]:
        """The accounts that a holder is asked to give back, and was not told of yet; it is told now."""
        accounts = [account for account, shortage in self._short.items() if holder in shortage.untold]
        for account in accounts:
            self._short[account].untold.discard(holder)
        return accounts

    def forget(self, holder: str) -> None:
        """A holder has ended: nobody waits for its answers."""
        for shortage in self._short.values():
            for known in (shortage.holders, shortage.untold, shortage.owing):
                known.discard(holder)

    def _end(self, mono: float) -> None:
        while self._short and mono >= self._short[account := next(iter(self._short))].until:
            del self._short[account]


def short_of(reply: LeaseReply) -> set[str]:
    """The accounts on which a reply refuses what others hold."""
    return {refusal.account for refusal in reply.refused if refusal.held_by_others}
