"""Borrowing and lending: a budget goes beyond its own credit by what a budget above lends, and no further."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial

import orjson
import pytest

from tests.ledger.builders import NOW, grant, record
from tests.ledger.families import DAILY, Family, of_tenant
from tests.ledger.test_replay import as_table
from tollkeeper.accounts import Phase
from tollkeeper.leases import LeaseReply, Reason, Refusal, Want
from tollkeeper.limits import Dimension, Enforcement
from tollkeeper.loans import MOST_ASKED
from tollkeeper.usage import Charge
from tollkeeper_ledger import corrections, lending
from tollkeeper_ledger.corrections import Change
from tollkeeper_ledger.export import verify
from tollkeeper_ledger.storage import LedgerAt

TOP = of_tenant("top", 1000, lending=300)
ONE = of_tenant("one", 100, borrowing=200)
TWO = of_tenant("two", 100, borrowing=200)
TOMORROW = NOW + timedelta(days=1)

Make = Callable[..., Family]


@pytest.fixture
def make(ledger: LedgerAt) -> Iterator[Make]:
    made: list[Family] = []

    def family(*limits: object) -> Family:
        made.append(Family(ledger, *(limits or (TOP, ONE, TWO))))  # type: ignore[arg-type]
        return made[0]

    yield family
    made[0].desk.store.close()


def ask(
    family: Family, tenant: str, need: int, desired: int = 0, *, holder: str = "g", now: datetime = NOW
) -> LeaseReply:
    """A request of a tenant on both levels."""
    wants = [Want(family.id(name, now), need, max(need, desired)) for name in (tenant, "top")]
    return family.desk.lease(holder, *wants, now=now)


def spend(family: Family, tenant: str, *amounts: int, held: int | None = None, now: datetime = NOW) -> None:
    """Requests of a tenant that ended, each having held what it used, or `held`."""
    for amount in amounts:
        charges = [Charge(family.id(name, now), amount, held or amount) for name in (tenant, "top")]
        family.desk.charge(record("g", *charges), now=now)


def owed(family: Family, tenant: str = "one", now: datetime = NOW) -> tuple[int, int]:
    """What a tenant borrowed, and what the top lent in all."""
    return family.account(tenant, now).borrowed, family.account("top", now).lent


def refusals(family: Family, reply: LeaseReply, tenant: str) -> list[Refusal]:
    return [one for one in reply.refused if one.account == family.id(tenant)]


def test_nothing_is_borrowed_while_the_own_credit_suffices(make: Make) -> None:
    family = make()
    assert len(ask(family, "one", 90).granted) == 2
    spend(family, "one", *[5] * 18)
    ask(family, "one", 5)
    assert owed(family) == (0, 0)


def test_what_the_own_credit_lacks_is_borrowed_for_the_request_that_needs_it(make: Make) -> None:
    family = make()
    assert [one.amount for one in ask(family, "one", 150).granted] == [150, 150]
    borrowed, lent = owed(family)
    assert borrowed == lent
    assert borrowed >= 50
    assert family.account("one").lender == family.id("top")
    spend(family, "one", 150)
    one, top = family.account("one"), family.account("top")
    assert (one.spent, top.spent) == (150, 150)
    assert one.balance == 100 + one.borrowed - 150
    assert top.balance == 1000 - 150  # what is lent is not taken off twice
    assert one.phase(ONE) is Phase.SUFFICIENT


def test_no_more_is_borrowed_than_the_borrower_may(make: Make) -> None:
    family = make()
    assert len(ask(family, "one", 300).granted) == 2
    assert owed(family) == (200, 200)
    (refused,) = refusals(family, ask(family, "one", 1), "one")
    assert (refused.balance, refused.available, refused.lendable) == (300, 0, 0)


def test_no_more_is_lent_than_the_lender_may_so_its_guaranteed_part_is_everybodys(make: Make) -> None:
    family = make()
    ask(family, "one", 300)
    assert refusals(family, family.desk.lease("g", Want(family.id("two"), 201, 201)), "two")
    ask(family, "two", 200)
    assert owed(family, "two") == (100, 300)
    assert family.account("top").available(TOP) == 500
    other = family.desk.lease("g", Want(family.id("top"), 500, 500))
    assert [one.amount for one in other.granted] == [500]


def test_a_lender_without_free_room_lends_nothing_and_the_refusal_says_what_may_come(make: Make) -> None:
    family = make(of_tenant("top", 400, lending=300), ONE, TWO)
    family.desk.lease("other", Want(family.id("top"), 350, 350))
    (refused,) = refusals(family, ask(family, "one", 160), "one")
    assert (refused.reason, refused.lendable) == (Reason.CONTENDED, 200)
    assert owed(family) == (0, 0)
    spent_up = [Charge(family.id("top"), 350, 350)]
    family.desk.charge(record("other", *spent_up))
    (refused,) = refusals(family, ask(family, "one", 160), "one")
    assert (refused.reason, refused.lendable) == (Reason.USED_UP, 0)


def all_lent_to_one(family: Family) -> None:
    """Nothing more is lent: one has 400 set aside, 300 of which it borrowed."""
    assert len(ask(family, "one", 400).granted) == 2
    assert owed(family) == (300, 300)


LENT_OUT = (of_tenant("top", 1000, lending=300), of_tenant("one", 100, borrowing=300), TWO)


def test_what_others_borrowed_for_what_they_hold_may_come_back_and_the_refusal_says_of_whom(make: Make) -> None:
    family = make(*LENT_OUT)
    all_lent_to_one(family)
    (refused,) = refusals(family, ask(family, "two", 150, holder="h"), "two")
    assert (refused.reason, refused.lendable, refused.lent_to) == (Reason.CONTENDED, 200, (family.id("one"),))
    assert refused.held_by_others
    family.desk.lease("g", returns={family.id("one"): 100})
    assert len(ask(family, "two", 150, holder="h").granted) == 2
    assert family.account("top").lent <= 300


def test_what_others_borrowed_and_spent_does_not_come_back(make: Make) -> None:
    family = make(*LENT_OUT)
    all_lent_to_one(family)
    spend(family, "one", 400)
    (refused,) = refusals(family, ask(family, "two", 150, holder="h"), "two")
    assert (refused.reason, refused.lendable, refused.lent_to) == (Reason.USED_UP, 0, ())


def test_nobody_is_named_where_what_others_hold_of_a_loan_is_not_enough(make: Make) -> None:
    family = make(*LENT_OUT)
    all_lent_to_one(family)
    spend(family, "one", 370)
    (refused,) = refusals(family, ask(family, "two", 150, holder="h"), "two")
    assert (refused.reason, refused.held_by_others) == (Reason.USED_UP, False)


def test_what_is_lent_in_the_same_step_may_come_back_too(make: Make) -> None:
    family = make(*LENT_OUT)
    names = ("top", "one", "two")
    wants = [Want(family.id(name), amount, amount) for name, amount in zip(names, (550, 400, 150), strict=True)]
    (refused,) = family.desk.lease("g", *wants).refused
    assert (refused.account, refused.lent_to) == (family.id("two"), (family.id("one"),))


def test_loans_of_keys_may_come_back_and_of_many_those_are_named_that_hold_most(make: Make) -> None:
    keyed = of_tenant("one", 0, borrowing=100, per=(Dimension.USER,))
    family = make(of_tenant("top", 10_000, lending=290), keyed, of_tenant("two", 0, borrowing=200))
    limit = family.limits["one"]
    users = [limit.account_at((f"user-{number:02}",), NOW)[0].text for number in range(20)]
    family.desk.lease("g", *(Want(user, 1 + number, 1 + number) for number, user in enumerate(users)))
    assert family.account("top").lent == 290
    (refused,) = refusals(family, family.desk.lease("h", Want(family.id("two"), 150, 150)), "two")
    assert (refused.lendable, refused.lent_to) == (200, tuple(reversed(users[-MOST_ASKED:])))


def test_what_the_same_holder_has_set_aside_on_the_lender_counts_as_free_there(make: Make) -> None:
    family = make(of_tenant("top", 150, lending=100), ONE, TWO)
    assert len(ask(family, "one", 150).granted) == 2
    assert family.account("one").held == family.account("top").held == 150


def test_a_loan_that_is_not_needed_goes_back_at_once(make: Make) -> None:
    family = make()
    ask(family, "one", 200)
    spend(family, "one", 10, held=10)
    family.desk.lease("g", returns={family.id("one"): 190, family.id("top"): 190})
    assert owed(family) == (0, 0)
    assert family.account("one").lender == ""


def test_a_refund_gives_a_loan_back(make: Make) -> None:
    family = make()
    ask(family, "one", 150)
    spend(family, "one", 50, 50, 50)
    change = Change(family.id("one"), 150)
    family.desk.do(
        lambda work: corrections.adjust(work, family.desk.policy, change, reason="x", reference=None, now=NOW)
    )
    assert owed(family) == (0, 0)


def test_while_the_lender_can_lend_the_borrower_is_not_insufficient(make: Make) -> None:
    family = make()
    for _ in range(9):
        assert len(ask(family, "one", 20).granted) == 2
        spend(family, "one", 20)
        assert family.account("one").phase(family.limits["one"]) is Phase.SUFFICIENT
    ask(family, "one", 110)
    spend(family, "one", 110)
    assert family.account("one").phase(family.limits["one"]) is Phase.INSUFFICIENT
    assert owed(family) == (200, 200)


def test_a_blocked_borrower_opens_when_its_lender_gets_room(make: Make) -> None:
    family = make(of_tenant("top", 100, lending=100), of_tenant("one", 0, borrowing=100), TWO)
    family.desk.lease("other", Want(family.id("top"), 100, 100))
    family.desk.charge(record("other", Charge(family.id("top"), 100, 100)))
    assert refusals(family, ask(family, "one", 10), "one")[0].phase is Phase.INSUFFICIENT
    more = grant(100, ref=family.limits["top"].ref)
    family.desk.book_grant(more, family.limits["top"])

    one = family.limits["one"]
    family.desk.do(lambda work: lending.open_settled(work, family.desk.policy, one, (), NOW))
    assert family.account("one").phase(family.limits["one"]) is Phase.SUFFICIENT
    assert len(ask(family, "one", 10).granted) == 2


def test_a_loan_ends_with_its_window_and_nothing_borrowed_rolls_over(make: Make) -> None:
    daily = of_tenant("one", 100, borrowing=200, calendar=DAILY, rollover=1000)
    family = make(TOP, daily, TWO)
    ask(family, "one", 180)
    spend(family, "one", 150)
    ask(family, "one", 5, now=TOMORROW)
    today, tomorrow = family.account("one"), family.account("one", TOMORROW)
    assert (today.borrowed, today.held) == (80, 30)  # what is held still is still lent
    assert (tomorrow.rolled_over, tomorrow.borrowed) == (0, 0)
    family.desk.lease("g", returns={family.id("one"): 30}, now=TOMORROW)
    assert family.account("one").borrowed == 50
    assert family.account("one", TOMORROW).rolled_over == 0
    assert family.account("top").lent == 50  # of its own window: spent of it is spent


def test_the_next_window_of_the_lender_begins_with_nothing_lent(make: Make) -> None:
    family = make()
    ask(family, "one", 300)
    later = NOW + timedelta(days=20)
    ask(family, "one", 150, now=later)
    assert owed(family) == (200, 200)
    borrowed, lent = owed(family, now=later)
    assert borrowed == lent < 200


def test_a_window_that_outlasts_the_lenders_borrows_nothing(make: Make) -> None:
    weeks = of_tenant("one", 100, borrowing=200)
    family = make(of_tenant("top", 1000, lending=300), weeks)
    family.change("top", calendar=DAILY)
    lenders = {"one": family.limits["top"].ref}
    family.desk.policy = type(family.desk.policy)(
        2, family.desk.policy.tenants, (family.limits["top"], of_tenant("one", 100, borrowing=200, lenders=lenders)),
        family.desk.policy.prices,
    )  # fmt: skip
    assert refusals(family, ask(family, "one", 150), "one")


def test_a_refused_budget_is_opened_by_what_its_lender_got_back_meanwhile(make: Make) -> None:
    top, one, two = (of_tenant("top", 50, lending=1), *(of_tenant(name, 0, borrowing=1) for name in ("one", "two")))
    family = make(top, one, two)
    open_one, open_two = (
        partial(lending.open_settled, policy=family.desk.policy, limit=family.limits[name], key=(), now=NOW)
        for name in ("one", "two")
    )
    family.desk.do(open_one)
    family.desk.do(open_two)
    assert (family.account("one").borrowed, family.account("two").borrowed) == (1, 0)
    family.desk.book_grant(grant(1, ref=one.ref), family.limits["one"])
    family.desk.do(open_one)
    assert refusals(family, ask(family, "two", 2), "two")
    assert family.account("two").phase(family.limits["two"]) is not Phase.INSUFFICIENT


def test_a_soft_budget_borrows_nothing(make: Make) -> None:
    family = make(TOP, of_tenant("one", 100, borrowing=200, enforcement=Enforcement.SOFT))
    spend(family, "one", 150)
    assert owed(family) == (0, 0)


def test_loans_pass_through_a_lender_that_borrows_itself(make: Make) -> None:
    middle = of_tenant("one", 10, borrowing=200, lending=200)
    family = make(TOP, middle)
    low = of_tenant("far", 0, borrowing=100, lenders={"far": middle.ref})
    family.desk.policy = type(family.desk.policy)(
        2, family.desk.policy.tenants, (*family.limits.values(), low), family.desk.policy.prices
    )
    family.limits["far"] = low
    wants = [Want(family.id(name), 80, 80) for name in ("far", "one", "top")]
    assert len(family.desk.lease("g", *wants).granted) == 3
    assert family.account("far").borrowed == family.account("one").lent >= 80
    assert family.account("one").borrowed == family.account("top").lent >= 70


def test_a_loan_is_one_zero_sum_transaction_over_both_accounts(make: Make) -> None:
    family = make()
    ask(family, "one", 150)
    family.desk.lease("g", returns={family.id("one"): 150, family.id("top"): 150})
    lines = family.desk.export()
    told = [one for one in map(orjson.loads, lines) if one["kind"] in ("loan", "repay")]
    assert [one["kind"] for one in told] == ["loan", "repay"]
    for one in told:
        sides = {entry["account"].rpartition("#")[2]: entry["amount"] for entry in one["entries"]}
        assert sides["borrowed"] == -sides["balance"] == -sides["lent"] == sides["lendable"] != 0
    balances = verify(lines).balances
    assert balances == {family.id(name): as_table(family.account(name), "Tokens") for name in ("one", "top")}


def test_a_lender_that_is_gone_lends_no_more_and_is_still_given_back(make: Make) -> None:
    family = make()
    ask(family, "one", 150)
    family.within(ONE, TWO)
    assert refusals(family, family.desk.lease("g", Want(family.id("one"), 200, 200)), "one")
    family.desk.lease("g", returns={family.id("one"): 150})
    assert family.account("one").borrowed == 0
    family.within(TOP, ONE, TWO)
    assert family.account("top").lent == 0


def test_after_a_restart_loans_stand_as_they_did(make: Make) -> None:
    family = make()
    ask(family, "one", 150)
    before = family.account("one"), family.account("top")
    family.desk.reopen()
    assert (family.account("one"), family.account("top")) == before
    with family.desk.reader() as reader:
        assert reader.account(family.id("one")) == before[0]
