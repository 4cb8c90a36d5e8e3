"""Recall: who is asked for what it has left over, when an account is short. Pure; times are monotonic seconds.

An account is short for a recall time after a holder was refused what others hold. Meanwhile each holder that has a lease
on it is asked once to give back what it has free there; what it holds for requests in flight stays with it. It answers
with a later call, in which that comes back. Whoever was refused waits while somebody owes an answer. For those who would
wait no longer, and in a window that has ended, nobody is asked. An account that lacks a loan is short together with those
that have borrowed of its lender for what is held there: what comes back to them is lent to it (`Refusal.lent_to`).

Authorities that share a ledger also share a board. An authority puts on it what it asks of holders that do not listen to
it, and looks at it again and again: what stands there for its own holders it tells them, and what they have answered it
takes off. What is gone from the board was answered.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tollkeeper.leases import RECALL_SECONDS, LeaseReply, LeaseRequest, Refusal

LOOK_SECONDS = 0.25
"""How often an authority looks at the board when it has nothing to say."""

PAUSE_SECONDS = 0.05
"""How long it pauses after each look, however much it has to say."""


class Ask(NamedTuple):
    """A holder is asked for what it has left over on an account."""

    account: str
    holder: str


@dataclass(frozen=True, slots=True)
class Posting:
    """What an authority has to say on the board: what it asks, and what its holders have answered.

    What was asked anew since is not answered: each answer names until when the ask stood that it is for.
    """

    asks: frozenset[Ask] = frozenset()
    answers: Mapping[Ask, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.asks or self.answers)


@dataclass(slots=True)
class _Shortage:
    """Who was refused on a short account, and who has leases on it; of those who was asked, has not heard of it yet, has
    not answered, and is asked on the board. `is_lent`: another account lacks the loan that stands for what is held here."""

    until: float
    is_known: bool = False
    is_lent: bool = False
    refused: set[str] = field(default_factory=set)
    holders: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    untold: set[str] = field(default_factory=set)
    owing: set[str] = field(default_factory=set)
    posted: set[str] = field(default_factory=set)

    def ask(self) -> set[str]:
        """Ask whoever was not asked yet, but not for its own sake; who that is."""
        for_itself = self.refused if len(self.refused) == 1 and not self.is_lent else set[str]()
        newly = self.holders - self.asked - for_itself
        for known in (self.asked, self.untold, self.owing):
            known.update(newly)
        return newly

    def answered(self, holder: str) -> None:
        """A holder has answered, or has ended."""
        self.untold.discard(holder)
        self.owing.discard(holder)


class Recalls:
    """The shortages of one authority. What it remembers ends with them: a recall that got lost is made again."""

    def __init__(self) -> None:
        # In the order of their beginning, which is that of their end.
        self._short: dict[str, _Shortage] = {}
        self._unknown: set[str] = set()
        self._news: set[str] = set()
        # What stood on the board last, by holder; what of it was told here, and what of that was answered.
        self._board: dict[str, dict[Ask, int]] = {}
        self._told: dict[Ask, int] = {}
        self._answers: dict[Ask, int] = {}
        self._posting: list[tuple[_Shortage, Ask]] = []

    def heard(self, request: LeaseRequest, reply: LeaseReply, mono: float) -> None:
        """A call was answered like this."""
        self._end(mono)
        for account in request.answers:
            self._answered(Ask(account, request.holder))
        for granted in reply.granted:
            if granted.amount and granted.account in self._short:
                self._short[granted.account].holders.add(request.holder)
        for refusal in _contended(reply):
            if refusal.account in request.last:
                continue
            self._make_short(refusal.account, mono).refused.add(request.holder)
            self._news |= self._short[refusal.account].ask()
            # Whoever was refused may hold itself what others' loans stand for: it is asked as all are.
            for account in refusal.lent_to:
                self._make_short(account, mono).is_lent = True
                self._news |= self._short[account].ask()

    def _make_short(self, account: str, mono: float) -> _Shortage:
        if account not in self._short:
            self._short[account] = _Shortage(mono + RECALL_SECONDS)
            self._unknown.add(account)
        return self._short[account]

    @property
    def unknown(self) -> frozenset[str]:
        """Short accounts of which nobody has looked up who has leases on them: `known` or `not_known` must follow."""
        return frozenset(self._unknown)

    def known(self, holders: Mapping[str, Iterable[str]]) -> None:
        """Who has leases on these accounts."""
        self._unknown -= holders.keys()
        for account in self._short.keys() & holders.keys():
            shortage = self._short[account]
            shortage.is_known = True
            shortage.holders.update(holders[account])
            self._news |= shortage.ask()

    def not_known(self, accounts: Iterable[str]) -> None:
        """Nobody can tell: the next refusal tries again."""
        for account in self._unknown.intersection(accounts):
            self._unknown.discard(account)
            self._short.pop(account, None)

    def awaited(self, holder: str, reply: LeaseReply) -> frozenset[str]:
        """For a holder that was refused: the accounts on which others owe an answer, or may."""
        return frozenset(
            refusal.account
            for refusal in _contended(reply)
            if self._is_owed(refusal.account, {holder}) or any(self._is_owed(one, set()) for one in refusal.lent_to)
        )

    def _is_owed(self, account: str, by_others_than: set[str]) -> bool:
        shortage = self._short.get(account)
        return shortage is not None and (not shortage.is_known or bool(shortage.owing - by_others_than))

    def news(self) -> frozenset[str]:
        """The holders that have something to be told since this was asked last: `take` says what."""
        news, self._news = frozenset(self._news), set()
        return news

    def take(self, holder: str) -> Collection[str]:
        """The accounts that a holder is asked to give back, and was not told of yet; it is told now."""
        accounts = {account for account, shortage in self._short.items() if holder in shortage.untold}
        for account in accounts:
            self._short[account].untold.discard(holder)
        asked_elsewhere = self._untold_of(holder)
        self._told |= asked_elsewhere
        return accounts | {ask.account for ask in asked_elsewhere}

    def forget(self, holder: str) -> None:
        """A holder has ended: nobody waits for its answers."""
        for shortage in self._short.values():
            shortage.holders.discard(holder)
            shortage.answered(holder)
        self._answers |= self._board.get(holder, {})

    # With a board.

    @property
    def has_answers(self) -> bool:
        """Whether something is to be taken off the board."""
        return bool(self._answers)

    def posting(self, listening: Collection[str], mono: float) -> Posting:
        """What is to be put on the board for holders that do not listen here, and taken off it; `looked` must follow when
        that is done."""
        self._end(mono)
        self._posting = [
            (shortage, Ask(account, holder))
            for account, shortage in self._short.items()
            for holder in shortage.untold - shortage.posted
            if holder not in listening
        ]
        return Posting(frozenset(ask for _, ask in self._posting), dict(self._answers))

    def looked(self, posted: Posting, board: Mapping[Ask, int], mono: float) -> None:
        """This was posted, and stands on the board now: each ask, and a number for the time until which it stands."""
        for shortage, ask in self._posting:
            shortage.posted.add(ask.holder)
        self._posting = []
        self._end(mono)
        for account, shortage in self._short.items():
            for holder in shortage.posted:
                if Ask(account, holder) not in board:
                    shortage.answered(holder)
        self._answers = {ask: until for ask, until in self._answers.items() if posted.answers.get(ask) != until}
        self._told = {ask: until for ask, until in self._told.items() if board.get(ask) == until}
        self._board = {}
        for ask, until in board.items():
            self._board.setdefault(ask.holder, {})[ask] = until
        self._news.update(holder for holder in self._board if self._untold_of(holder))

    def _untold_of(self, holder: str) -> dict[Ask, int]:
        """What the board asks of a holder that it was not told of here."""
        return {ask: until for ask, until in self._board.get(holder, {}).items() if self._told.get(ask) != until}

    def _answered(self, ask: Ask) -> None:
        if ask.account in self._short:
            self._short[ask.account].answered(ask.holder)
        if (until := self._told.get(ask)) is not None:
            self._answers[ask] = until

    def _end(self, mono: float) -> None:
        while self._short and mono >= self._short[account := next(iter(self._short))].until:
            del self._short[account]
            self._unknown.discard(account)


def _contended(reply: LeaseReply) -> Iterable[Refusal]:
    """The refusals of what others hold."""
    return (refusal for refusal in reply.refused if refusal.held_by_others)
