"""The lease desk against the core's own lease algebra: whatever happens in whatever order, nothing is handed out twice."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.sidecar.builders import NOW, account_of, limit
from tests.sidecar.desks import demand
from tests.sidecar.reference import ReferenceAuthority
from tollkeeper.amounts import Unit
from tollkeeper.leases import LeaseReply, LeaseRequest
from tollkeeper_sidecar.demand import Demand, Hold
from tollkeeper_sidecar.desk import PATIENCE_SECONDS, Desk
from tollkeeper_sidecar.waiting import Refused, Stale, Waiting


class Desks(RuleBasedStateMachine):
    """Two gateways on the same accounts, calls under way, reports late or lost authority: in any order."""

    @initialize(cap=st.integers(0, 4000), money=st.integers(0, 40_000_000))
    def start(self, cap: int, money: int) -> None:
        self.limits = (limit("tokens", cap, Unit.TOKENS), limit("money", money))
        self.authority = ReferenceAuthority(self.limits)
        self.desks = [Desk("one", 50), Desk("two", 50)]
        self.calls: list[LeaseRequest | None] = [None, None]
        self.replies: list[LeaseReply | None] = [None, None]
        self.flying: list[tuple[int, Demand, Hold]] = []
        self.waiting: list[tuple[int, Waiting]] = []
        self.unbooked: list[tuple[int, dict[str, int]]] = []
        self.time = 1000.0
        self.admitted = self.settled = 0

    @rule(which=st.integers(0, 1), prompt=st.integers(1, 400), output=st.integers(1, 600), both=st.booleans())
    def arrive(self, which: int, prompt: int, output: int, both: bool) -> None:
        wanted = demand(prompt, output, *(self.limits if both else self.limits[:1]))
        place = self.desks[which].arrive(wanted, self.time)
        if isinstance(place, Hold):
            self.admit(which, wanted, place)
        else:
            self.waiting.append((which, place))
        self.collect(which)

    @rule(which=st.integers(0, 1))
    def call(self, which: int) -> None:
        if self.calls[which] is None:
            request = self.desks[which].next_request(NOW, self.time)
            self.calls[which] = request
            self.replies[which] = self.authority.lease_now(request, NOW) if request else None

    @rule(which=st.integers(0, 1))
    def reply(self, which: int) -> None:
        answer = self.replies[which]
        if answer is not None:
            self.calls[which] = self.replies[which] = None
            self.desks[which].answered(answer, NOW, self.time)
            self.collect(which)

    @rule(which=st.integers(0, 1))
    def lose_the_authority(self, which: int) -> None:
        if self.calls[which] is None:
            request = self.desks[which].next_request(NOW, self.time)
            if request is not None:
                self.desks[which].unavailable(self.time)
                self.collect(which)

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), share=st.floats(0, 1))
    def end_a_request(self, data: st.DataObject, share: float) -> None:
        position = data.draw(st.integers(0, len(self.flying) - 1))
        which, _, hold = self.flying.pop(position)
        each = tuple(int(amount * share) for amount in hold.each)
        used = hold.hard.by_account(each)
        self.desks[which].settle(hold, each, self.time)
        self.unbooked.append((which, used))
        self.settled += 1
        self.collect(which)

    @precondition(lambda self: self.unbooked)
    @rule()
    def book(self) -> None:
        which, used = self.unbooked.pop(0)
        self.authority.book_now(f"{'one' if which == 0 else 'two'}", used, NOW)
        self.desks[which].pools.booked(used)

    @rule(which=st.integers(0, 1), both=st.booleans())
    def hear_of_a_recall(self, which: int, both: bool) -> None:
        self.desks[which].recalled([account_of(one) for one in self.limits[: 1 + both]], self.time)

    @rule(seconds=st.sampled_from([0.01, 0.3, 0.6, 5.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.time += seconds

    def admit(self, which: int, wanted: Demand, hold: Hold) -> None:
        self.flying.append((which, wanted, hold))
        self.admitted += 1
        assert wanted.least <= hold.output_limit <= wanted.most
        fits = {need.id: hold.amounts[need.id] for need in wanted.needs}
        assert wanted.within(fits) == hold

    def collect(self, which: int) -> None:
        for waiting in self.desks[which].resolved:
            self.waiting.remove((which, waiting))
            if isinstance(waiting.outcome, Hold):
                self.admit(which, waiting.demand, waiting.outcome)
            else:
                assert isinstance(waiting.outcome, Refused | Stale)
        self.desks[which].resolved.clear()

    @invariant()
    def what_is_out_is_what_the_authority_thinks_is_out(self) -> None:
        for which, desk in enumerate(self.desks) if hasattr(self, "desks") else ():
            for one in self.limits:
                account = account_of(one)
                pool = desk.pools.of(account)
                here = pool.outstanding if pool else 0
                answer = self.replies[which]
                granted = sum(g.amount for g in answer.granted if g.account == account) if answer else 0
                assert here + granted == self.authority.outstanding(("one", "two")[which], account)
                assert here >= 0

    @invariant()
    def what_is_held_is_the_sum_of_the_holds(self) -> None:
        for which, desk in enumerate(self.desks) if hasattr(self, "desks") else ():
            for account, pool in desk.pools:
                assert pool.held == sum(hold.amounts.get(account, 0) for own, _, hold in self.flying if own == which)
                assert pool.free >= 0

    @invariant()
    def no_cap_is_passed(self) -> None:
        for one in self.limits if hasattr(self, "limits") else ():
            account = self.authority.accounts[account_of(one)]
            assert account.spent + account.held + account.unreconciled <= account.cap(one)
            assert account.overshoot == 0

    def teardown(self) -> None:
        """Whoever waits gets an answer, and in the end nothing is left out."""
        if not hasattr(self, "desks"):
            return
        for which in (0, 1):
            self.reply(which)
        for _ in range(200):
            for which in (0, 1):
                self.call(which)
                self.reply(which)
            self.time += PATIENCE_SECONDS
            if not self.waiting:
                break
        assert self.waiting == []
        while self.flying:
            which, _, hold = self.flying.pop()
            self.desks[which].settle(hold, hold.unused, self.time)
        while self.unbooked:
            self.book()
        for _ in range(8):
            self.time += 1.0
            for which in (0, 1):
                self.call(which)
                self.reply(which)
        assert all(account.held == 0 for account in self.authority.accounts.values())


Desks.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestDesks = Desks.TestCase
