"""Who is asked for leftovers, how often, and for how long somebody waits for the answers (H4)."""

from dataclasses import replace

from tests.core.test_accounts import budget, opened
from tests.core.test_leases import NOW
from tests.model.board import Board
from tollkeeper.leases import RECALL_SECONDS, Granted, LeaseReply, LeaseRequest, Refusal, Want, decide, too_late
from tollkeeper.recalls import Recalls

LIMIT = budget(1000)


def refusal(account: str = "a", *, held: int = 950, spent: int = 0) -> LeaseReply:
    verdict = decide(LIMIT, opened(LIMIT, id=account, held=held, spent=spent), Want(account, 100, 100), NOW)
    assert isinstance(verdict, Refusal)
    return LeaseReply(refused=(verdict,))


class Office:
    """Recalls of an authority on which these holders have leases. `news` is who was to be told since it was asked last."""

    def __init__(self, *holders: str) -> None:
        self.recalls, self.holders, self.looked_up = Recalls(), holders, 0

    def refuse(self, holder: str, reply: LeaseReply, mono: float) -> tuple[frozenset[str], frozenset[str]]:
        self.recalls.heard(LeaseRequest(holder, 1), reply, mono)
        self.looked_up += len(self.recalls.unknown)
        self.recalls.known(dict.fromkeys(self.recalls.unknown, self.holders))
        return self.recalls.news(), self.recalls.awaited(holder, reply)

    def answer(self, holder: str, mono: float, *accounts: str) -> None:
        self.recalls.heard(LeaseRequest(holder, 2, answers=frozenset(accounts)), LeaseReply(), mono)

    def look(self, board: Board, mono: float, *listening: str) -> frozenset[str]:
        """Say what there is to say, and hear who of these is to be told."""
        posting = self.recalls.posting(listening, mono)
        self.recalls.looked(posting, board.exchange(posting, mono), mono)
        return self.recalls.news() & set(listening)


def test_each_holder_of_a_short_account_is_asked_once_in_a_recall_time_however_many_are_refused() -> None:
    office = Office("g1", "g2", "g3")
    assert office.refuse("g1", refusal(), 0.0)[0] == {"g2", "g3"}
    assert [office.refuse("g1", refusal(), moment / 10)[0] for moment in range(1, 20)] == [frozenset()] * 19
    assert office.looked_up == 1
    assert office.refuse("g1", refusal(), RECALL_SECONDS)[0] == {"g2", "g3"}


def test_nobody_is_asked_for_what_comes_when_nobody_waits_any_longer() -> None:
    office, last = Office("g1", "g2"), LeaseRequest("g1", 1, last=frozenset("a"))
    office.recalls.heard(last, refusal(), 0.0)
    assert (office.recalls.unknown, office.recalls.news()) == (frozenset(), frozenset())
    assert office.refuse("g1", refusal(), 0.1)[0] == {"g2"}, "it is asked for whoever waits"


def test_nobody_is_asked_for_what_is_leased_ahead_of_need() -> None:
    blocked = decide(LIMIT, opened(LIMIT, id="a", spent=1000), Want("a", 0, 0, 50), NOW, lendable=100)
    assert isinstance(blocked, Refusal)
    assert Office("g1", "g2").refuse("g1", LeaseReply(refused=(blocked,)), 0.0) == (frozenset(), frozenset())


def test_nobody_is_asked_for_leftovers_of_a_window_that_has_ended() -> None:
    """What is left there counts in the next one."""
    late = too_late(LIMIT, opened(LIMIT, id="a", held=950), Want("a", 100, 100))
    office = Office("g1", "g2")
    assert office.refuse("g1", LeaseReply(refused=(late,)), 0.0) == (frozenset(), frozenset())
    assert office.looked_up == 0


def lacking_a_loan(*lent_to: str) -> LeaseReply:
    verdict = decide(LIMIT, opened(LIMIT, id="a", spent=1000), Want("a", 100, 100), NOW, lendable=100)
    assert isinstance(verdict, Refusal)
    return LeaseReply(refused=(replace(verdict, lent_to=lent_to),))


def test_for_a_loan_those_are_asked_that_hold_what_others_borrowed_whoever_was_refused() -> None:
    office = Office("g1")
    assert office.refuse("g1", lacking_a_loan("sibling"), 0.0) == (frozenset({"g1"}), frozenset("a"))
    assert office.recalls.take("g1") == {"sibling"}
    office.answer("g1", 0.1, "sibling")
    assert office.refuse("g1", lacking_a_loan("sibling"), 0.2) == (frozenset(), frozenset())


def test_for_a_loan_those_are_asked_too_that_were_refused_there_themselves() -> None:
    office = Office("g1")
    assert office.refuse("g1", refusal("sibling"), 0.0)[0] == frozenset()
    assert office.refuse("g2", lacking_a_loan("sibling"), 0.1) == (frozenset({"g1"}), frozenset("a"))


def test_for_the_loan_of_a_caller_that_gives_up_nobody_is_asked() -> None:
    office = Office("g1")
    office.recalls.heard(LeaseRequest("g1", 1, last=frozenset("a")), lacking_a_loan("sibling"), 0.0)
    assert office.recalls.unknown == frozenset()


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


def test_until_it_is_looked_up_who_has_leases_somebody_may_owe_an_answer() -> None:
    recalls = Recalls()
    recalls.heard(LeaseRequest("g1", 1), refusal(), 0.0)
    assert recalls.unknown == recalls.awaited("g1", refusal()) == {"a"}
    recalls.known({"a": ["g1"]})
    assert (recalls.unknown, recalls.awaited("g1", refusal())) == (frozenset(), frozenset())


def test_a_holder_that_gets_a_lease_while_others_are_looked_up_is_asked_too() -> None:
    recalls = Recalls()
    recalls.heard(LeaseRequest("g1", 1), refusal(), 0.0)
    recalls.heard(LeaseRequest("new", 1), LeaseReply(granted=(Granted("a", 10, NOW),)), 0.1)
    recalls.known({"a": ["g2"]})
    assert recalls.news() == {"g2", "new"}


def test_a_recall_time_begins_with_the_refusal_however_long_it_takes_to_look_up_who_has_leases() -> None:
    recalls = Recalls()
    recalls.heard(LeaseRequest("g1", 1), refusal(), 0.0)
    recalls.known({"a": ["g2"]})
    recalls.heard(LeaseRequest("g1", 2), refusal(), RECALL_SECONDS)
    assert recalls.unknown == {"a"}


def test_where_nobody_can_tell_who_has_leases_the_next_refusal_tries_again() -> None:
    recalls = Recalls()
    recalls.heard(LeaseRequest("g1", 1), refusal(), 0.0)
    recalls.not_known(recalls.unknown)
    assert (recalls.unknown, recalls.awaited("g1", refusal())) == (frozenset(), frozenset())
    recalls.heard(LeaseRequest("g1", 2), refusal(), 0.1)
    assert recalls.unknown == {"a"}


def two_offices() -> tuple[Office, Office, Board]:
    """`here` a holder was refused and is told that "far", which listens `there`, has a lease."""
    here, there, board = Office("far"), Office(), Board()
    here.refuse("g1", refusal(), 0.0)
    here.look(board, 0.1, "g1")
    return here, there, board


def test_a_holder_that_listens_elsewhere_is_asked_there_once_and_its_answer_is_heard_here() -> None:
    here, there, board = two_offices()
    assert there.look(board, 0.2, "far", "another") == {"far"}
    assert set(there.recalls.take("far")) == {"a"}
    assert there.look(board, 0.3, "far", "another") == frozenset()
    here.look(board, 0.4, "g1")
    assert here.recalls.awaited("g1", refusal()) == {"a"}
    there.answer("far", 0.5, "a")
    there.look(board, 0.6, "far", "another")
    here.look(board, 0.7, "g1")
    assert here.recalls.awaited("g1", refusal()) == frozenset()
    assert board.until == {}


def test_what_is_asked_of_holders_that_listen_here_does_not_go_to_the_board() -> None:
    here, board = Office("near"), Board()
    here.refuse("g1", refusal(), 0.0)
    here.look(board, 0.1, "g1", "near")
    assert board.until == {}


def test_an_ask_is_put_on_the_board_once_in_a_recall_time() -> None:
    here, _, board = two_offices()
    assert not here.recalls.posting(("g1",), 0.3)
    here.refuse("g1", refusal(), RECALL_SECONDS)
    assert here.recalls.posting(("g1",), RECALL_SECONDS).asks == board.until.keys()


def test_what_could_not_be_put_on_the_board_is_put_there_with_the_next_look() -> None:
    here, board = Office("far"), Board()
    here.refuse("g1", refusal(), 0.0)
    assert here.recalls.posting(("g1",), 0.1).asks
    here.look(board, 0.4, "g1")
    assert board.until.keys() == {("a", "far")}


def test_an_answer_is_not_one_to_what_was_asked_anew_since() -> None:
    _, there, board = two_offices()
    there.look(board, 0.2, "far")
    there.recalls.take("far")
    there.answer("far", 0.3, "a")
    third = Office("far")
    third.refuse("g3", refusal(), 0.4)
    third.look(board, 0.4, "g3")
    assert there.look(board, 0.5, "far") == {"far"}
    third.look(board, 0.6, "g3")
    assert third.recalls.awaited("g3", refusal()) == {"a"}


def test_nobody_waits_for_a_holder_that_has_ended_elsewhere() -> None:
    here, there, board = two_offices()
    there.look(board, 0.2, "far")
    there.recalls.forget("far")
    there.look(board, 0.3)
    here.look(board, 0.4, "g1")
    assert here.recalls.awaited("g1", refusal()) == frozenset()


def test_what_nobody_answers_is_awaited_until_the_recall_time_is_over() -> None:
    here, _, board = two_offices()
    here.look(board, RECALL_SECONDS - 0.01, "g1")
    assert here.recalls.awaited("g1", refusal()) == {"a"}
    here.look(board, RECALL_SECONDS, "g1")
    assert here.recalls.awaited("g1", refusal()) == frozenset()


def test_a_holder_that_moved_is_told_wherever_it_listens_now() -> None:
    here, _, board = two_offices()
    here.look(board, 0.2, "g1", "far")
    assert set(here.recalls.take("far")) == {"a"}
    here.answer("far", 0.3, "a")
    here.look(board, 0.4, "g1", "far")
    assert board.until == {}
