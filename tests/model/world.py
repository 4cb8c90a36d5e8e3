"""A finite world around the real ledger: holders that crash, a network that loses, doubles and delays, a provider.

Holders, network and provider are the smallest that can go wrong in every way that `docs/leases.tla` names. A call stays in
the network for ever: so it may come late, out of order, as often as one likes, or never.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from tests.model.memory import Memory
from tests.model.spec import Books
from tollkeeper.accounts import Account


class Life(StrEnum):
    """What became of a holder: its spool is left when it crashed, nothing when it vanished."""

    ALIVE = "alive"
    CRASHED = "crashed"
    VANISHED = "vanished"
    ENDED = "ended"


class Stage(StrEnum):
    """How far a request is: forwarded, answered by the provider, settled by its holder."""

    OPEN = "open"
    SERVED = "served"
    SETTLED = "settled"


@dataclass(frozen=True, slots=True)
class Instance:
    """The size of a world, and two faults that holders may be given."""

    holders: int = 2
    requests: int = 2
    cap: int = 3
    hold: int = 2
    uses: tuple[int, ...] = (1, 2)
    wants: tuple[int, ...] = (0, 2)
    calls: int = 2
    restores_returns: bool = False
    """Planted: a holder whose call was not answered takes what it returned as its own again."""

    closes_early: bool = False
    """Planted: a holder is closed although its settled requests are not booked yet."""


class Call(NamedTuple):
    """A lease call in the network; `granted` once it is the answer."""

    holder: int
    sequence: int
    want: int
    returned: int
    granted: int | None = None


class Party(NamedTuple):
    """A holder's own memory: what is free, its last sequence number, and the call that it waits for."""

    life: Life = Life.ALIVE
    free: int = 0
    sequence: int = 0
    pending: Call | None = None


class Request(NamedTuple):
    """One request, in its holder's spool; `used` is what the provider counted."""

    holder: int
    stage: Stage = Stage.OPEN
    used: int = 0


class Ledger:
    """One state of the real ledger and its abstraction, made once for each: so worlds compare by identity."""

    def __init__(self, memory: Memory, holders: int) -> None:
        self.memory = memory
        leases = [memory.leases_of(str(index)).get(memory.known.id) for index in range(holders)]
        known = [memory.holder(str(index)) for index in range(holders)]
        self.books = Books(
            spent=memory.known.spent,
            outstanding=tuple(lease.outstanding if lease else 0 for lease in leases),
            lapsed=tuple(lease.lapsed if lease else False for lease in leases),
            closed=tuple(holder.closed for holder in known),
            heard=tuple(holder.sequence for holder in known),
            booked=memory.booked,
        )


class World(NamedTuple):
    """Everything there is at one moment."""

    ledger: Ledger
    parties: tuple[Party, ...]
    requests: tuple[Request, ...] = ()
    network: frozenset[Call] = frozenset()

    @property
    def account(self) -> Account:
        return self.ledger.memory.known

    @property
    def books(self) -> Books:
        return self.ledger.books

    def with_party(self, index: int, party: Party) -> "World":
        """This world with one holder changed; answers that it does not wait for any more are gone."""
        network = self.network
        if party.pending is None:
            network = frozenset(call for call in network if call.holder != index or call.granted is None)
        return World(self.ledger, (*self.parties[:index], party, *self.parties[index + 1 :]), self.requests, network)

    def with_request(self, number: int, request: Request) -> "World":
        """This world with one request changed."""
        requests = (*self.requests[:number], request, *self.requests[number + 1 :])
        return World(self.ledger, self.parties, requests, self.network)

    def answered(self, answer: Call) -> "World":
        """This world with an answer under way, where its holder waits for it."""
        pending = self.parties[answer.holder].pending
        waits = pending is not None and pending.sequence == answer.sequence
        return World(self.ledger, self.parties, self.requests, self.network | {answer}) if waits else self


class Step(NamedTuple):
    """One thing that can happen; `expected` is what the model says of the books after it, `None` where it is silent."""

    name: str
    world: World
    expected: Books | None = None
