"""All that can happen in a world. The authority's steps are the real ones (`bookkeeping`), beside each the model's."""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace

from tests.ledger.builders import NOW, policy, record
from tests.model import spec
from tests.model.memory import Memory
from tests.model.world import Call, Instance, Ledger, Life, Party, Request, Stage, Step, World
from tollkeeper.accounts import Account
from tollkeeper.amounts import Unit
from tollkeeper.leases import LeaseReply, LeaseRequest, Want
from tollkeeper.limits import Limit, LimitRef
from tollkeeper.usage import Charge
from tollkeeper.windows import Calendar
from tollkeeper_ledger import bookkeeping
from tollkeeper_ledger.work import Work

LIMIT = Limit(LimitRef("TokenQuota", "team", "model", "all"), frozenset({"team"}), Unit.TOKENS, Calendar.FOREVER, 0)


class Steps:
    """The steps of all worlds of one size."""

    def __init__(self, size: Instance) -> None:
        self.size = size
        self.limit = replace(LIMIT, allocation=size.cap)
        self.policy = policy(self.limit)
        self.account = self.limit.account_at((), NOW)[0].text
        self._ledgers: dict[Memory, Ledger] = {}
        self._taken: dict[tuple[Ledger, Hashable], tuple[Ledger, object]] = {}

    def start(self) -> World:
        account = Account(self.account, None, None, self.size.cap)
        return World(self._ledger(Memory(account, Unit.TOKENS)), (Party(),) * self.size.holders)

    def _ledger(self, memory: Memory) -> Ledger:
        if memory not in self._ledgers:
            self._ledgers[memory] = Ledger(memory, self.size.holders)
        return self._ledgers[memory]

    def _take(self, before: Ledger, told: Hashable, step: Callable[[Work], object]) -> tuple[Ledger, object]:
        """What a real step makes of a ledger, and its answer; taken once from each ledger. `told` tells it from others."""
        if (before, told) not in self._taken:
            work = Work(before.memory)
            answer = step(work)
            self._taken[before, told] = self._ledger(before.memory.after(work)), answer
        return self._taken[before, told]

    def of(self, world: World) -> Iterator[Step]:
        """Every step that is possible."""
        for index, party in enumerate(world.parties):
            if party.life is Life.ALIVE:
                yield from self._calls(world, index, party)
                yield from self._begins(world, index, party)
                for life in (Life.CRASHED, Life.VANISHED):
                    yield Step(f"{index} {life.value}", world.with_party(index, Party(life)))
            yield from self._lapses(world, index)
            yield from self._closes(world, index, party)
        for number, request in enumerate(world.requests):
            yield from self._advances(world, number, request)
        for message in world.network:
            yield self._hears(world, message) if message.granted is not None else self._arrives(world, message)

    def _calls(self, world: World, index: int, party: Party) -> Iterator[Step]:
        if party.pending is not None:
            # Whether the call was booked it cannot know, so what it returned stays returned.
            back = party.pending.returned if self.size.restores_returns else 0
            alone = party._replace(pending=None, free=party.free + back)
            yield Step(f"{index} gives up waiting", world.with_party(index, alone))
        elif party.sequence < self.size.calls:
            for want in self.size.wants:
                for returned in {0, party.free}:
                    call = Call(index, party.sequence + 1, want, returned)
                    calling = Party(party.life, party.free - returned, call.sequence, call)
                    sent = world.with_party(index, calling)._replace(network=world.network | {call})
                    yield Step(f"{index} asks {want} and returns {returned}", sent)

    def _begins(self, world: World, index: int, party: Party) -> Iterator[Step]:
        if party.free >= self.size.hold and len(world.requests) < self.size.requests:
            begun = world.with_party(index, party._replace(free=party.free - self.size.hold))
            yield Step(
                f"{index} begins r{len(world.requests)}", begun._replace(requests=(*world.requests, Request(index)))
            )

    def _advances(self, world: World, number: int, request: Request) -> Iterator[Step]:
        party = world.parties[request.holder]
        if request.stage is Stage.OPEN:
            for used in self.size.uses:
                served = request._replace(stage=Stage.SERVED, used=used)
                yield Step(f"r{number} uses {used}", world.with_request(number, served))
        elif request.stage is Stage.SETTLED:
            yield self._reported(world, number, request)
        elif party.life is not Life.CRASHED:
            settled = world.with_request(number, request._replace(stage=Stage.SETTLED))
            if party.life is Life.ALIVE:
                free = party.free + self.size.hold - request.used
                settled = settled.with_party(request.holder, party._replace(free=free))
            yield Step(f"r{number} settled" if party.life is Life.ALIVE else f"r{number} found out later", settled)

    def _reported(self, world: World, number: int, request: Request) -> Step:
        name = f"r{number}"
        one = record(str(request.holder), Charge(self.account, request.used, self.size.hold), request=name)
        after, _ = self._take(
            world.ledger, (name, request), lambda work: bookkeeping.charge_all(work, self.policy, [one], NOW)
        )
        expected = spec.report(world.books, request.holder, name, request.used, self.size.hold)
        return Step(f"{name} reported", world._replace(ledger=after), expected)

    def _lapses(self, world: World, index: int) -> Iterator[Step]:
        """At any moment, whatever the holder does: clocks may be wrong."""
        if world.books.outstanding[index] and not world.books.lapsed[index]:
            after, _ = self._take(
                world.ledger, ("lapse", index), lambda work: bookkeeping.lapse(work, self.policy, str(index), NOW)
            )
            yield Step(f"{index} lapses", world._replace(ledger=after), spec.lapse(world.books, index))

    def _closes(self, world: World, index: int, party: Party) -> Iterator[Step]:
        """In order, or by whoever reads a crashed holder's spool; both only once what is settled is booked."""
        own = [(f"r{n}", request) for n, request in enumerate(world.requests) if request.holder == index]
        unbooked = any(one.stage is Stage.SETTLED and name not in world.books.booked for name, one in own)
        kept = self.size.hold * sum(one.stage is not Stage.SETTLED for _, one in own)
        in_order = party.life is Life.ALIVE and party.pending is None and not kept
        if not (party.life is Life.CRASHED or in_order) or (unbooked and not self.size.closes_early):
            return
        after, _ = self._take(
            world.ledger,
            ("close", index, kept),
            lambda work: bookkeeping.close(work, self.policy, str(index), {self.account: kept}, NOW),
        )
        # Its calls that are still under way are refused from now on.
        network = frozenset(call for call in world.network if call.holder != index)
        ended = world.with_party(index, Party(Life.ENDED))._replace(ledger=after, network=network)
        yield Step(f"{index} closed, {kept} kept", ended, spec.close(world.books, index, kept))

    def _hears(self, world: World, message: Call) -> Step:
        party = world.parties[message.holder]
        heard = party._replace(free=party.free + (message.granted or 0), pending=None)
        return Step(f"{message.holder} hears of {message.granted}", world.with_party(message.holder, heard))

    def _arrives(self, world: World, call: Call) -> Step:
        wants = (Want(self.account, call.want, call.want),) if call.want else ()
        returns = {self.account: call.returned} if call.returned else {}
        asked = LeaseRequest(str(call.holder), call.sequence, wants, returns)
        after, reply = self._take(
            world.ledger, call, lambda work: bookkeeping.lease(work, self.policy, asked, NOW, NOW)
        )
        assert isinstance(reply, LeaseReply)
        granted = sum(one.amount for one in reply.granted)
        expected = spec.lease(world.books, call.holder, call.sequence, call.returned, granted)
        name = f"call {call.sequence} of {call.holder} arrives: {granted} granted"
        return Step(name, world._replace(ledger=after).answered(call._replace(granted=granted)), expected)
