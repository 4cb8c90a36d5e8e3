"""Who is asked for leftovers, how often, and for how long somebody waits for the answers (H4)."""

from tests.core.test_accounts import budget, opened
from tests.core.test_leases import NOW
from tollkeeper.leases import RECALL_SECONDS, Granted, LeaseReply, LeaseRequest, Refusal, Want, decide
from tollkeeper.recalls import Recalls

LIMIT = budget(1000)


def refusal(account: str = "a", *, held: int = 950, spent: int = 0) -> LeaseReply:
    verdict = decide(LIMIT, opened(LIMIT, id=account, held=held, spent=spent), Want(account, 100, 100), NOW)
    assert isinstance(verdict, Refusal)
    return LeaseReply(refused=(verdict,))


class Office:
    """Recalls of an authority on which these holders have leases."""

    def __init__(self, *holders: str) -> None:
        self.recalls, self.holders, self.looked_up = Recalls(), holders, 0

    def refuse(self, holder: str, reply: LeaseReply, mono: float) -> tuple[frozenset[str], frozenset[str]]:
        for account in self.recalls.heard(LeaseRequest(holder, 1), reply, mono):
            self.looked_up += 1
            self.recalls.begin(account, self.holders, mono)
        return self.recalls.ask(holder, reply)

    def answer(self, holder: str, mono: float, *accounts: str) -> None:
        self.recalls.heard(LeaseRequest(holder, 2, answers=frozenset(accounts)), LeaseReply(), mono)


def test_each_holder_of_a_short_account_is_asked_once_in_a_recall_time_however_many_are_refused() -> None:
    office = Office("g1", "g2", "g3")
    assert office.refuse("g1", refusal(), 0.0)[0] == {"g2", "g3"}
    assert [office.refuse("g1", refusal(), moment / 10)[0] for moment in range(1, 20)] == [frozenset()] * 19
    assert office.looked_up == 1
    assert office.refuse("g1", refusal(), RECALL_SECONDS)[0] == {"g2", "g3"}


def test_whoever_was_refused_first_is_asked_when_another_is_refused() -> None:
    office = Office("g1", "g2")
    office.refuse("g1", refusal(), 0.0)
    assert office.refuse("new", refusal(), 0.1)[0] == {"g1"}


def test_somebody_waits_until_all_have_answered() -> None:
    office = Office("g1", "g2", "g3")
    assert office.refuse("g1", refusal(), 0.0)[1] == {"a"}
    office.answer("g2", 0.1, "a")
    assert office.refuse("g1", refusal(), 0.2)[1] == {"a"}
    office.answer("g3", 0.3, "a", "another")
    assert office.refuse("g1", refusal(), 0.4)[1] == frozenset()


def test_nobody_is_asked_and_nobody_waits_where_others_hold_nothing() -> None:
    assert Office("g1").refuse("g1", refusal(), 0.0) == (frozenset(), frozenset())
    assert Office("g1", "g2").refuse("g1", refusal(held=0, spent=950), 0.0) == (frozenset(), frozenset())


def test_a_holder_that_gets_a_lease_on_a_short_account_is_asked_too() -> None:
    office = Office("g1", "g2")
    office.refuse("g1", refusal(), 0.0)
    office.recalls.heard(LeaseRequest("new", 1), LeaseReply(granted=(Granted("a", 10, NOW),)), 0.1)
    assert office.refuse("g1", refusal(), 0.2)[0] == {"new"}


def test_a_holder_is_told_once_of_all_accounts_that_it_is_asked_for() -> None:
    office = Office("g1", "g2")
    office.refuse("g1", refusal("a"), 0.0)
    office.refuse("g1", refusal("b"), 0.0)
    assert set(office.recalls.take("g2")) == {"a", "b"}
    assert not office.recalls.take("g2")
    assert not office.recalls.take("g1")


def test_nobody_waits_for_a_holder_that_has_ended() -> None:
    office = Office("g1", "g2")
    office.refuse("g1", refusal(), 0.0)
    office.recalls.forget("g2")
    assert office.refuse("g1", refusal(), 0.1) == (frozenset(), frozenset())
