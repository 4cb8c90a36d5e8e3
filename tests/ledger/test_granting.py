"""The short way of a grant and the whole one: whatever happened before, both give the same."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ledger.builders import NOW, account_of, budget, grant, policy, record
from tests.model.timeline import Nothing
from tollkeeper.accounts import Account
from tollkeeper.leases import LeaseReply, LeaseRequest, Want
from tollkeeper.limits import Enforcement, Limit
from tollkeeper.policy import PolicySet
from tollkeeper.usage import Charge
from tollkeeper.windows import start_of
from tollkeeper_ledger import bookkeeping, granting, opening
from tollkeeper_ledger.state import BookedGrant, BookedShare, Holder, Lease
from tollkeeper_ledger.work import Work

LIMITS = (
    budget("hard", 1000, rollover=300),
    budget("soft", 1000, enforcement=Enforcement.SOFT),
    budget("granted", 500),
)
HOLDERS = ("g1", "g2")


class Committed(Nothing):
    """A ledger's state in memory, after the works that it took."""

    def __init__(self) -> None:
        self.accounts: dict[str, tuple[Account, str]] = {}
        self.leases: dict[str, dict[str, Lease]] = {}
        self.holders: dict[str, Holder] = {}
        self.grants: dict[str, BookedGrant] = {}
        self.shares: dict[tuple[str, str], BookedShare] = {}

    def take(self, work: Work) -> None:
        for name in work.changed_accounts:
            known = work.account(name)
            assert known is not None
            self.accounts[name] = known
        for lease in work.changed_leases():
            self.leases.setdefault(lease.holder, {})[lease.account] = lease
        self.holders |= work.holders
        self.grants |= work.grants
        self.shares |= work.shares

    def account(self, account: str) -> tuple[Account, str] | None:
        return self.accounts.get(account)

    def with_held(self, account: str) -> tuple[Account, str, int] | None:
        known = self.account(account)
        return (*known, known[0].held) if known else None

    def previous_account(self, account: str) -> Account | None:
        begins = start_of(_window(account))
        ended = [one for one in self._beside(account) if one.window_end and begins and one.window_end <= begins]
        return max(ended, key=lambda one: _window(one.id), default=None)

    def next_account(self, account: Account) -> Account | None:
        ends = account.window_end
        later = [one for one in self._beside(account.id) if ends and one.window_start and one.window_start >= ends]
        return min(later, key=lambda one: _window(one.id), default=None)

    def _beside(self, account: str) -> list[Account]:
        limit = account.rsplit("@", 2)[0]
        return [one for name, (one, _) in self.accounts.items() if name.rsplit("@", 2)[0] == limit]

    def leases_of(self, holder: str) -> Mapping[str, Lease]:
        return self.leases.get(holder, {})

    def holder(self, holder: str) -> Holder:
        return self.holders.get(holder, Holder(holder))

    def grant(self, grant: str) -> BookedGrant | None:
        return self.grants.get(grant)

    def shares_of(self, account: str) -> Sequence[BookedShare]:
        return [share for (of, _), share in self.shares.items() if of == account]


def _window(account: str) -> str:
    return account.rsplit("@", 2)[1]


@dataclass
class Ledger:
    """A state, a policy and a time; several steps may stand in one work, as in a batch."""

    state: Committed = field(default_factory=Committed)
    policy: PolicySet = field(default_factory=lambda: policy(*LIMITS))
    now: datetime = NOW
    sequence: int = 0

    def __post_init__(self) -> None:
        self.work = Work(self.state)

    def lease(self, holder: str, wants: Sequence[Want], returns: Mapping[str, int]) -> LeaseReply:
        self.sequence += 1
        request = LeaseRequest(holder, self.sequence, tuple(wants), returns)
        return bookkeeping.lease(self.work, self.policy, request, self.now, self.now)

    def commit(self) -> None:
        self.state.take(self.work)
        self.work = Work(self.state)

    def change(self, limits: Sequence[Limit]) -> None:
        self.policy = policy(*limits)

    def books(self) -> tuple[Any, ...]:
        return self.state.accounts, self.state.leases, self.state.holders, self.state.shares


Happening = Callable[[Ledger], Any]

amounts = st.integers(0, 400)
limits = st.sampled_from(LIMITS)


@st.composite
def leasing(draw: st.DrawFn) -> Happening:
    holder, chosen = draw(st.sampled_from(HOLDERS)), draw(st.lists(limits, min_size=1, unique_by=attrgetter("ref")))
    wants = []
    for limit in chosen:
        need = draw(amounts)
        wants.append(Want(account_of(limit), need, need + draw(amounts), draw(st.integers(0, 5000))))
    returns = {account_of(draw(limits)): draw(amounts)} if draw(st.booleans()) else {}
    return lambda ledger: ledger.lease(holder, wants, returns)


@st.composite
def charging(draw: st.DrawFn) -> Happening:
    usage = record(draw(st.sampled_from(HOLDERS)), Charge(account_of(draw(limits)), draw(amounts), 0))
    return lambda ledger: bookkeeping.charge_all(ledger.work, ledger.policy, [usage], ledger.now)


@st.composite
def granting_more(draw: st.DrawFn) -> Happening:
    hours = draw(st.sampled_from((None, 1, 3)))
    top_up = grant(
        draw(st.integers(1, 400)), f"grant-{draw(st.integers(0, 3))}", ref=LIMITS[2].ref,
        expires_at=hours and NOW + timedelta(hours=hours),
    )  # fmt: skip
    return lambda ledger: opening.book_grant(ledger.work, top_up, LIMITS[2], ledger.now).remaining


@st.composite
def changing_limits(draw: st.DrawFn) -> Happening:
    changed = [
        replace(limit, allocation=draw(st.integers(0, 1500)), minimum=-draw(st.sampled_from((0, 100))))
        for limit in LIMITS
        if draw(st.integers(0, 9))
    ]
    return lambda ledger: ledger.change(changed)


def passing(hours: int) -> Happening:
    def pass_time(ledger: Ledger) -> None:
        ledger.now += timedelta(hours=hours)

    return pass_time


happenings = st.one_of(
    leasing(),
    leasing(),
    charging(),
    granting_more(),
    changing_limits(),
    st.sampled_from((1, 300, -600)).map(passing),
    st.sampled_from(HOLDERS).map(
        lambda holder: lambda ledger: bookkeeping.lapse(ledger.work, ledger.policy, holder, ledger.now)
    ),
    st.just(Ledger.commit),
)


def alike(what: Sequence[Happening]) -> list[Any]:
    """What happens, and that it happens alike where no account has terms."""
    short, whole, told = Ledger(), Ledger(), list[Any]()
    for happens in (*what, Ledger.commit):
        told.append(happens(short))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                granting, "_terms", lambda _work, policy, _account, now: granting.Terms(policy.mark, None, now)
            )
            assert happens(whole) == told[-1]
    assert short.books() == whole.books()
    return told


@given(st.lists(happenings, min_size=5, max_size=30))
def test_the_short_way_gives_what_the_whole_one_gives(what: list[Happening]) -> None:
    alike(what)


def asking(need: int, limit: Limit = LIMITS[0]) -> Happening:
    return lambda ledger: ledger.lease("g1", [Want(account_of(limit), need, need)], {})


def test_a_limit_that_was_lowered_grants_by_what_it_is_now() -> None:
    lowered = [replace(LIMITS[0], allocation=100), *LIMITS[1:]]
    before = [asking(30), Ledger.commit, asking(30), Ledger.commit]
    *_, last, _ = alike([*before, lambda ledger: ledger.change(lowered), asking(60)])
    assert (last.granted, last.refused[0].available) == ((), 40)


def test_a_grant_that_expires_is_not_granted_out_of_any_more() -> None:
    top_up = grant(400, ref=LIMITS[2].ref, expires_at=NOW + timedelta(hours=1))

    def booking(ledger: Ledger) -> None:
        opening.book_grant(ledger.work, top_up, LIMITS[2], ledger.now)

    what = [booking, Ledger.commit, asking(600, LIMITS[2]), Ledger.commit, passing(1), asking(250, LIMITS[2])]
    *_, last, _ = alike(what)
    assert (last.granted, last.refused[0].available) == ((), 0)


def test_an_account_with_less_than_a_mean_request_left_grants_nothing_however_little_is_asked() -> None:
    def spending(ledger: Ledger) -> None:
        usage = record("g1", Charge(account_of(LIMITS[0]), 900, 900), request="r1")
        bookkeeping.charge_all(ledger.work, ledger.policy, [usage], ledger.now)

    *_, last, _ = alike([asking(900), spending, Ledger.commit, asking(10)])
    assert (last.granted, last.refused[0].available) == ((), 100)


def test_a_grant_out_of_a_steady_account_changes_what_is_held_and_nothing_else() -> None:
    ledger, account = Ledger(), account_of(LIMITS[0])
    ledger.lease("g1", [Want(account, 10, 10)], {})
    ledger.commit()
    for holder in HOLDERS:
        ledger.lease(holder, [Want(account, 10, 20, 16)], {})
    assert (ledger.work.accounts, ledger.work.held) == ({}, {account: 10 + 2 * (20 + 16)})
    assert [lease.outstanding for lease in ledger.work.changed_leases()] == [10 + 20 + 16, 20 + 16]


def test_an_account_keeps_no_policy_alive_that_is_no_longer_in_force() -> None:
    ledger = Ledger()
    for _ in range(2):
        asking(30)(ledger)
        ledger.commit()
    account, _ = ledger.state.accounts[account_of(LIMITS[0])]
    assert not [part for part in vars(account)["terms"] if isinstance(part, PolicySet)]
