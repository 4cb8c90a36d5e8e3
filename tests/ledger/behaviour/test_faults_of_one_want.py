"""A want that cannot be answered is refused by itself, and leaves nothing behind; the storage's own faults end the call."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest

from tests.ledger.builders import NOW, Desk, account_of, budget, policy, record
from tollkeeper.accounts import Account
from tollkeeper.amounts import LARGEST, Unit
from tollkeeper.errors import Unavailable
from tollkeeper.leases import LeaseReply, LeaseRequest, Reason, Want
from tollkeeper.limits import LONGEST_ACCOUNT, Dimension, Enforcement, Limit
from tollkeeper.policy import PolicySet
from tollkeeper.usage import Charge
from tollkeeper.windows import Calendar, Every
from tollkeeper_ledger import bookkeeping, granting
from tollkeeper_ledger.errors import LedgerUnavailable, Unstorable
from tollkeeper_ledger.lending import NOTHING_LATER
from tollkeeper_ledger.storage import LedgerAt, PostgresLedger
from tollkeeper_ledger.work import Work

LIMIT = budget()
ACCOUNT = account_of(LIMIT)
OTHER = budget("other")
NAMED = budget("named", per=(Dimension.USER, Dimension.SESSION, Dimension.FEATURE))
NO_ACCOUNT = "nonsense"


@pytest.fixture
def desk(ledger: LedgerAt) -> Iterator[Desk]:
    desk = Desk(ledger, LIMIT, OTHER, NAMED)
    yield desk
    desk.store.close()


def named_account(character: str, letters: int) -> str:
    """The account of three names of so many letters, no two of which are alike: no compression makes them short."""
    names = ["".join(chr(ord(character) + 7 * (3 * at + of)) for at in range(letters)) for of in range(3)]
    return NAMED.account_at(tuple(names), NOW)[0].text


def lease_apart(desk: Desk, *wants: Want) -> LeaseReply:
    desk.sequence += 1
    request = LeaseRequest("g", desk.sequence, wants)
    return desk.do(lambda work: bookkeeping.lease(work, desk.policy, request, NOW, NOW, apart=True))


def test_names_that_no_index_takes_are_refused_by_themselves(desk: Desk) -> None:
    long = named_account("\u4e00", 256)
    assert len(long) > LONGEST_ACCOUNT
    reply = desk.lease("g", Want(long, 5, 5), Want(ACCOUNT, 7, 7))
    assert [(one.account, one.amount) for one in reply.granted] == [(ACCOUNT, 7)]
    (refused,) = reply.refused
    assert (refused.account, refused.ref, refused.reason) == (long, NAMED.ref, Reason.FAULT)
    assert "TokenBudget team/named" in refused.fault
    assert "use shorter names" in refused.fault
    assert desk.known(long) is None


def test_the_longest_names_that_are_granted_can_be_stored(desk: Desk) -> None:
    longest = max(
        (named_account("\u4e00", n) for n in range(256)), key=lambda one: len(one) * (len(one) <= LONGEST_ACCOUNT)
    )
    assert LONGEST_ACCOUNT - 100 < len(longest) <= LONGEST_ACCOUNT
    assert desk.lease("g", Want(longest, 5, 5)).granted[0].amount == 5


def test_a_row_that_no_index_takes_is_a_fault_of_what_is_asked_and_not_of_the_ledger(desk: Desk) -> None:
    soft = replace(NAMED, enforcement=Enforcement.SOFT)
    desk.policy = policy(LIMIT, soft)
    usage = record("g", Charge(named_account("\u4e00", 256), 5, 0))
    with pytest.raises(Unstorable) if isinstance(desk.ledger, PostgresLedger) else nullcontext() as refused:
        desk.charge(usage)
    assert refused is None or not isinstance(refused.value, Unavailable)
    desk.charge(record("g", Charge(ACCOUNT, 3, 0)))
    assert desk.account(ACCOUNT).spent == 3


def test_a_text_that_names_no_account_is_refused_by_itself(desk: Desk) -> None:
    reply = lease_apart(desk, Want(NO_ACCOUNT, 1, 1), Want(ACCOUNT, 7, 7))
    assert [(one.account, one.amount) for one in reply.granted] == [(ACCOUNT, 7)]
    (refused,) = reply.refused
    assert (refused.account, refused.reason) == (NO_ACCOUNT, Reason.FAULT)
    assert "expected kind/namespace/name/limit/key@window@unit" in refused.fault


def test_a_defect_met_after_an_account_was_changed_leaves_it_unchanged(desk: Desk) -> None:
    def spoilt(_work: Work, _policy: PolicySet, _holder: str, limit: Limit, account: Account, *_: object) -> Any:
        if limit == OTHER:
            raise KeyError("a defect")
        return account, NOTHING_LATER

    with patch.object(granting, "before_grant", spoilt):
        reply = lease_apart(desk, Want(ACCOUNT, 7, 7), Want(account_of(OTHER), 5, 5), Want(NO_ACCOUNT, 0, 0))
    assert [one.account for one in reply.granted] == [ACCOUNT]
    assert "KeyError('a defect')" in reply.refused[0].fault
    assert desk.known(account_of(OTHER)) is None
    assert (desk.account(ACCOUNT).held, len(desk.export())) == (7, 1)


def test_what_the_storage_raises_ends_the_whole_call_and_nothing_is_booked(desk: Desk) -> None:
    with (
        patch.object(granting, "decide", side_effect=LedgerUnavailable("ledger: the disk is full")),
        pytest.raises(Unavailable, match="the disk is full"),
    ):
        lease_apart(desk, Want(ACCOUNT, 7, 7))
    assert desk.known(ACCOUNT) is None


def test_a_window_that_cannot_go_on_with_what_another_one_used_is_not_opened_by_halves(ledger: LedgerAt) -> None:
    """B7: what it left out would be there once more."""
    monthly = budget("again", 10**9, unit=Unit.TOKENS)
    desk = Desk(ledger, monthly, LIMIT)
    desk.lease("g", Want(account_of(monthly), 10, 10))
    desk.charge(record("another", Charge(account_of(monthly), LARGEST - 5, 0)))
    daily = replace(monthly, calendar=Calendar.every(Every.DAY, "Europe/Madrid"))
    desk.policy = policy(daily, LIMIT)
    reply = desk.lease("g", Want(account_of(daily), 1, 1), Want(ACCOUNT, 7, 7))
    assert [(one.reason, "is too large" in one.fault) for one in reply.refused] == [(Reason.FAULT, True)]
    assert desk.known(account_of(daily)) is None
    assert desk.account(account_of(monthly)).window_end == monthly.account_at((), NOW)[1].end
    assert desk.account(ACCOUNT).held == 7
    desk.store.close()
