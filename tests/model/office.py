"""One authority of a timeline: the real recalls, and what `tollkeeper_webhook.recalling` does with tasks done by events."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Protocol

from tests.model.board import Board
from tollkeeper.leases import LeaseReply, LeaseRequest
from tollkeeper.recalls import LOOK_SECONDS, PAUSE_SECONDS, Ask, Posting, Recalls


class World(Protocol):
    """Where it stands: the time, the database, and the holders."""

    mono: float

    def at(self, time: float, happens: Callable[[], None]) -> None:
        """Let something happen at a time."""

    def question(self, happens: Callable[[], None]) -> None:
        """Let something happen when a message to the database, or from it, has arrived."""

    def holders_of(self, accounts: Collection[str]) -> Mapping[str, Collection[str]]:
        """Who has leases on these accounts."""
        ...

    def tell(self, holder: str) -> None:
        """Let a holder hear what there is to hear, when the message has arrived."""


class Office:
    """`board` is what it shares with others, `listening` are the holders that talk to it; one that is `dead` does nothing."""

    def __init__(self, world: World, board: Board | None) -> None:
        self.recalls = Recalls()
        self.listening: set[str] = set()
        self.dead = False
        self._world = world
        self._board = board
        self._looking_up = False
        self._looking = False
        self._to_say = False
        self._may_look_at = 0.0
        self._look_due = 0.0
        self._look_at(LOOK_SECONDS)

    def answered(self, request: LeaseRequest, reply: LeaseReply) -> LeaseReply:
        """The reply to a call, with the accounts on which others owe an answer."""
        self.recalls.heard(request, reply, self._world.mono)
        self._tell()
        self._look_up()
        return replace(reply, recalling=self.recalls.awaited(request.holder, reply))

    def _tell(self) -> None:
        if self._wake() or self.recalls.has_answers:
            self._to_say = True
            if not self._looking:
                self._look_at(max(self._world.mono, self._may_look_at))

    def _wake(self) -> frozenset[str]:
        news = self.recalls.news()
        for holder in sorted(news & self.listening):
            self._world.tell(holder)
        return news - self.listening

    def _look_up(self) -> None:
        if (accounts := self.recalls.unknown) and not self._looking_up:
            self._looking_up = True
            self._world.question(lambda: self._find(accounts))

    def _find(self, accounts: Collection[str]) -> None:
        holders = self._world.holders_of(accounts)
        self._world.question(lambda: self._found(holders))

    def _found(self, holders: Mapping[str, Collection[str]]) -> None:
        self._looking_up = False
        self.recalls.known(holders)
        self._tell()
        self._look_up()

    def _look_at(self, time: float) -> None:
        self._look_due = time
        self._world.at(time, lambda: self._look() if self._look_due == time else None)

    def _look(self) -> None:
        board = self._board
        if self.dead or board is None:
            return
        self._looking, self._to_say = True, False
        posting = self.recalls.posting(self.listening, self._world.mono)
        self._world.question(lambda: self._exchange(board, posting))

    def _exchange(self, board: Board, posting: Posting) -> None:
        stands = board.exchange(posting, self._world.mono)
        self._world.question(lambda: self._looked(posting, stands))

    def _looked(self, posting: Posting, stands: Mapping[Ask, int]) -> None:
        self._looking = False
        self.recalls.looked(posting, stands, self._world.mono)
        self._wake()
        self._may_look_at = self._world.mono + PAUSE_SECONDS
        self._look_at(self._may_look_at + (0.0 if self._to_say else LOOK_SECONDS))
