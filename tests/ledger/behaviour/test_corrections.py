"""Corrections: new entries that put old ones right, on a real SQLite file."""

from collections.abc import Callable, Iterator
from datetime import datetime

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ledger.builders import NOW, Desk, account_of, budget, record
from tests.ledger.conftest import NewLedger
from tollkeeper.accounts import Account, Phase
from tollkeeper.amounts import LARGEST, Unit
from tollkeeper.errors import InvalidValue
from tollkeeper.leases import Want
from tollkeeper.limits import Enforcement
from tollkeeper.policy import PolicySet
from tollkeeper.usage import Charge
from tollkeeper_ledger import corrections
from tollkeeper_ledger.corrections import Change, Corrected
from tollkeeper_ledger.export import verify
from tollkeeper_ledger.storage import LedgerAt
from tollkeeper_ledger.work import Work

LIMIT = budget()
TOKENS = budget("tokens", 10_000, unit=Unit.TOKENS)
ACCOUNT, COUNTED = account_of(LIMIT), account_of(TOKENS)


@pytest.fixture
def desk(ledger: LedgerAt) -> Iterator[Desk]:
    desk = Desk(ledger, LIMIT, TOKENS)
    desk.lease("g1", Want(ACCOUNT, 900, 900), Want(COUNTED, 900, 900))
    desk.charge(record("g1", Charge(ACCOUNT, 600, 900), Charge(COUNTED, 110, 900), request="r1", cost=600))
    yield desk
    desk.store.close()


def booked(desk: Desk, step: Callable[[Work, PolicySet, datetime], Corrected]) -> Corrected:
    return desk.do(lambda work: step(work, desk.policy, NOW))


def adjust(
    amount: int, reference: str | None = None, account: str = ACCOUNT, reason: str = "wrong price"
) -> Callable[[Work, PolicySet, datetime], Corrected]:
    return lambda work, policy, now: corrections.adjust(
        work, policy, Change(account, amount), reason=reason, reference=reference, now=now
    )


def refund(request: str, cost: int | None = None) -> Callable[[Work, PolicySet, datetime], Corrected]:
    return lambda work, policy, now: corrections.refund(work, policy, request, cost=cost, reason="outage", now=now)


def account(desk: Desk, of: str = ACCOUNT) -> Account:
    known = desk.known(of)
    assert known is not None
    return known[0]


def exported(desk: Desk) -> list[bytes]:
    return desk.export()


def test_an_adjustment_is_a_new_entry_that_changes_what_was_spent(desk: Desk) -> None:
    """B8: corrections are made by hand, with a reason."""
    before = exported(desk)
    told = booked(desk, adjust(200, "T-1"))
    assert (account(desk).spent, account(desk).balance, account(desk).granted) == (400, 600, 0)
    lines = exported(desk)
    assert lines[:-1] == before
    assert verify(lines).transactions == len(lines)
    last = orjson.loads(lines[-1])
    assert (last["kind"], last["id"]) == ("adjust", told.transaction)
    assert last["usage"] == {"reason": "wrong price", "reference": "T-1"}
    assert {entry["account"].split("#")[1]: entry["amount"] for entry in last["entries"]} == {
        "spent": -200,
        "balance": 200,
    }


def test_a_charge_by_hand_may_pass_the_cap_and_is_no_overshoot_of_requests(desk: Desk) -> None:
    booked(desk, adjust(-500))
    assert (account(desk).spent, account(desk).balance, account(desk).overshoot) == (1100, -100, 0)
    assert account(desk).phase(LIMIT) is Phase.INSUFFICIENT


def test_an_adjustment_that_gives_back_unblocks(desk: Desk) -> None:
    booked(desk, adjust(-400))
    assert desk.lease("g2", Want(ACCOUNT, 1, 1)).refused
    booked(desk, adjust(1000))
    assert account(desk).phase(LIMIT) is Phase.SUFFICIENT


@pytest.mark.parametrize(
    ("step", "says"),
    [
        (adjust(0), "a correction of 0 changes nothing"),
        (adjust(601), r"0\.0000006 USD was spent and 0\.000000601 cannot be given back; put in more with a TokenGrant"),
        (adjust(1, account="TokenBudget/team/none//@forever@USD"), "no such account was ever opened"),
        (adjust(-LARGEST), "which no account can hold"),
        (adjust(1, reason=" "), "needs a reason"),
        (refund("unknown"), "request unknown: it is not in the ledger"),
        (refund("r1", 601), r"it cost 0\.0000006 USD, and 0\.000000601 cannot be given back"),
        (refund("r1", -1), "cannot be given back"),
    ],
)
def test_what_cannot_be_corrected_is_named_and_nothing_is_booked(
    desk: Desk, step: Callable[[Work, PolicySet, datetime], Corrected], says: str
) -> None:
    before, chain = account(desk), exported(desk)
    with pytest.raises(InvalidValue, match=says):
        booked(desk, step)
    assert (account(desk), exported(desk)) == (before, chain)


def test_a_reference_is_booked_once_for_each_account(desk: Desk) -> None:
    booked(desk, adjust(10, "T-1"))
    with pytest.raises(InvalidValue, match="the reference 'T-1' is booked already, in transaction"):
        booked(desk, adjust(10, "T-1"))
    booked(desk, adjust(10, "T-1", COUNTED))
    assert account(desk).spent == 590


def test_a_refund_gives_every_account_back_what_it_was_charged(desk: Desk) -> None:
    booked(desk, refund("r1"))
    assert (account(desk).spent, account(desk, COUNTED).spent) == (0, 0)
    with pytest.raises(InvalidValue, match="request r1: it was refunded already"):
        booked(desk, refund("r1"))


def test_a_refund_in_part_gives_the_same_share_back_everywhere(desk: Desk) -> None:
    booked(desk, refund("r1", 200))
    assert (account(desk).spent, account(desk, COUNTED).spent) == (400, 110 - 36)
    with pytest.raises(InvalidValue, match="refunded already"):
        booked(desk, refund("r1", 200))


def test_the_same_refund_twice_in_one_commit_is_booked_once(desk: Desk) -> None:
    def twice(work: Work) -> None:
        refund("r1")(work, desk.policy, NOW)
        with pytest.raises(InvalidValue, match="refunded already"):
            refund("r1")(Work(work), desk.policy, NOW)

    desk.do(twice)
    assert account(desk).spent == 0


def test_a_request_under_no_account_has_nothing_to_give_back(desk: Desk) -> None:
    desk.charge(record("g1", request="free", cost=7))
    with pytest.raises(InvalidValue, match="there is nothing to correct"):
        booked(desk, refund("free"))


def test_corrections_stand_among_the_payments_with_their_reason_and_the_balance_after(desk: Desk) -> None:
    booked(desk, adjust(100, "T-1"))
    booked(desk, refund("r1", 200))
    with desk.reader() as reader:
        rows = reader.payments(ACCOUNT, page=1, order="oldest").rows
    assert [(row.reason, row.reference, row.grant, row.amount, row.balance) for row in rows] == [
        ("Adjustment", "T-1", "wrong price", 100, 500),
        ("Refund", "r1", "outage", 200, 700),
    ]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(changes=st.lists(st.integers(-1500, 1500), max_size=12))
def test_whatever_is_corrected_the_chain_sums_to_balance_and_spent(new_ledger: NewLedger, changes: list[int]) -> None:
    soft = budget(enforcement=Enforcement.SOFT)
    desk = Desk(new_ledger(), soft)
    desk.charge(record("g1", Charge(ACCOUNT, 600, 0)))
    expected = 600
    for amount in changes:
        if amount == 0 or amount > expected:
            with pytest.raises(InvalidValue):
                booked(desk, adjust(amount))
        else:
            booked(desk, adjust(amount))
            expected -= amount
    lines = exported(desk)
    desk.store.close()
    verify(lines)
    sums = {"balance": 0, "spent": 0}
    for entry in (entry for line in lines for entry in orjson.loads(line)["entries"]):
        side = entry["account"].split("#")[1]
        sums[side] = sums.get(side, 0) + entry["amount"]
    assert (sums["balance"], sums["spent"]) == (1000 - expected, expected)


def release(amount: int, *holders: str) -> Callable[[Work, PolicySet, datetime], Corrected]:
    return lambda work, policy, now: corrections.release(
        work, policy, Change(ACCOUNT, amount), holders=holders, reason="its disk is gone", now=now
    )


def test_what_a_vanished_holder_had_in_hand_is_given_back_with_a_reason(desk: Desk) -> None:
    desk.close("g1", {ACCOUNT: 300})
    with desk.reader() as reader:
        vanished = reader.vanished_holders(ACCOUNT)
        assert reader.vanished_holders(COUNTED) == []
    booked(desk, release(250, *vanished))
    assert (account(desk).spent, account(desk).unreconciled, account(desk).balance) == (600, 50, 350)
    last = orjson.loads(exported(desk)[-1])
    assert (last["kind"], last["usage"]) == ("release", {"reason": "its disk is gone", "holders": {"g1": 250}})
    verify(exported(desk))
    with desk.reader() as reader:
        assert [(row.reason, row.amount) for row in reader.payments(ACCOUNT, page=1).rows] == [("Release", 250)]


def test_a_report_that_comes_after_all_is_charged_in_full(desk: Desk) -> None:
    desk.close("g1", {ACCOUNT: 300})
    booked(desk, release(300, "g1"))
    desk.charge(record("g1", Charge(ACCOUNT, 200, 300), cost=200))
    assert (account(desk).spent, account(desk).unreconciled) == (800, 0)


def test_nothing_is_charged_by_giving_back_what_is_unreconciled(desk: Desk) -> None:
    desk.close("g1", {ACCOUNT: 300})
    before = exported(desk)
    with pytest.raises(InvalidValue, match=r"what is unreconciled can only be given back; adjust it to charge more"):
        booked(desk, release(-1, "g1"))
    assert exported(desk) == before


@pytest.mark.parametrize(("amount", "holders"), [(301, ["g1"]), (300, ["g2"]), (1, [])])
def test_no_more_than_stands_unreconciled_is_given_back(desk: Desk, amount: int, holders: list[str]) -> None:
    desk.close("g1", {ACCOUNT: 300})
    before = exported(desk)
    with pytest.raises(InvalidValue, match=r"0\.0000003 USD stands unreconciled and .* cannot be given back of it"):
        booked(desk, release(amount, *holders))
    assert (account(desk).unreconciled, exported(desk)) == (300, before)
