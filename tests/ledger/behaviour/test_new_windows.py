"""What goes over from one window into the next, and what stays when a limit is written anew."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.ledger.behaviour.test_bookkeeping import ACCOUNT, LIMIT, account
from tests.ledger.builders import NOW, Desk, account_of, budget, grant, policy, record
from tollkeeper.amounts import Unit
from tollkeeper.leases import Reason, Want
from tollkeeper.limits import AccountId, Limit, LimitRef
from tollkeeper.usage import Charge
from tollkeeper.windows import Calendar, Every
from tollkeeper_ledger.storage import LedgerAt


def test_a_new_window_begins_with_its_rollover_and_what_is_left_of_grants(ledger: LedgerAt) -> None:
    limit = budget(rollover=250)
    desk = Desk(ledger, limit)
    desk.book_grant(grant(400), limit, NOW)
    desk.lease("g1", Want(ACCOUNT, 100, 100))
    desk.charge(record("g1", Charge(ACCOUNT, 100, 100)))
    december = NOW + timedelta(days=20)
    desk.open(limit, december)
    known = desk.known(account_of(limit, december))
    desk.store.close()
    assert known is not None
    assert (known[0].allocation, known[0].rolled_over, known[0].granted, known[0].spent) == (1000, 250, 400, 0)


DECEMBER = NOW + timedelta(days=20)


def balances(desk: Desk, limit: Limit) -> tuple[int, ...]:
    """What is left of November and of December."""
    return tuple(desk.account(account_of(limit, now)).balance for now in (NOW, DECEMBER))


@pytest.mark.parametrize(("used", "left"), [(400, 0), (150, 250), (0, 400)])
def test_a_grant_that_is_held_over_the_end_of_a_window_is_spent_once(ledger: LedgerAt, used: int, left: int) -> None:
    limit = budget(allocation=0)
    desk = Desk(ledger, limit)
    desk.book_grant(grant(400), limit)
    desk.lease("g1", Want(ACCOUNT, 400, 400))
    desk.open(limit, DECEMBER)
    assert balances(desk, limit) == (400, 0)
    desk.charge(record("g1", Charge(ACCOUNT, used, 400)), now=DECEMBER)
    desk.lease("g1", returns={ACCOUNT: 400 - used}, now=DECEMBER)
    for _ in range(2):
        desk.open(limit, DECEMBER)
    assert balances(desk, limit) == (400 - used, left)
    desk.store.close()


def test_what_is_held_over_the_end_of_a_window_is_not_rolled_over_until_it_comes_back(ledger: LedgerAt) -> None:
    limit = budget(rollover=1000)
    desk = Desk(ledger, limit)
    desk.lease("g1", Want(ACCOUNT, 700, 700))
    desk.open(limit, DECEMBER)
    assert balances(desk, limit) == (1000, 1300)
    desk.lease("g1", returns={ACCOUNT: 700}, now=DECEMBER)
    assert balances(desk, limit) == (1000, 2000)
    desk.store.close()


def test_what_was_left_of_a_grant_whose_time_is_over_is_not_rolled_over(ledger: LedgerAt) -> None:
    limit = budget(allocation=0, rollover=1000)
    desk = Desk(ledger, limit)
    desk.book_grant(grant(400, expires_at=NOW + timedelta(days=1)), limit)
    desk.open(limit, DECEMBER)
    assert balances(desk, limit)[1] == 0
    desk.store.close()


def test_a_budget_written_again_in_another_unit_counts_anew_and_never_mixes(ledger: LedgerAt) -> None:
    tokens = budget(unit=Unit.TOKENS)
    desk = Desk(ledger, LIMIT)
    desk.lease("g1", Want(ACCOUNT, 900, 900))
    desk.charge(record("g1", Charge(ACCOUNT, 900, 900)))
    desk.policy = type(desk.policy)(2, desk.policy.tenants, (tokens,), desk.policy.prices)
    reply = desk.lease("g1", Want(ACCOUNT, 10, 10), Want(account_of(tokens), 1000, 1000))
    assert [refusal.reason for refusal in reply.refused] == [Reason.UNKNOWN_ACCOUNT], "it is counted in tokens now"
    assert [grant.amount for grant in reply.granted] == [1000]
    assert account(desk).spent == 900
    desk.store.close()


def test_keys_with_commas_are_told_apart() -> None:
    identities = [
        AccountId(LIMIT.ref, key, "forever", Unit.USD) for key in (("a,b", "c"), ("a", "b,c"), ("a@b/c", "d"))
    ]
    assert [AccountId.parse(identity.text) for identity in identities] == identities
    assert len({identity.key_text for identity in identities}) == 3


def test_an_overlapping_window_of_another_period_is_not_the_one_before_but_goes_on_with_its_grants(desk: Desk) -> None:
    desk.book_grant(grant(500), LIMIT)
    weekly = budget(calendar=Calendar.every(Every.WEEK, "Europe/Madrid"), rollover=1000)
    desk.policy = type(desk.policy)(2, desk.policy.tenants, (weekly,), desk.policy.prices)
    desk.open(weekly)
    known = desk.account(account_of(weekly))
    assert (known.granted, known.rolled_over) == (500, 0), (
        "the grant goes on (B7), and nothing rolls over within a window"
    )
    assert desk.lease("g1", Want(ACCOUNT, 1, 1)).refused, "and is not there twice"


def test_b7_a_budget_that_is_deleted_and_written_again_goes_on_with_what_was_spent(desk: Desk) -> None:
    desk.lease("g1", Want(ACCOUNT, 600, 600))
    desk.charge(record("g1", Charge(ACCOUNT, 600, 600)))
    known = desk.policy
    desk.policy = type(known)(2, known.tenants, (), known.prices)
    assert desk.lease("g1", Want(ACCOUNT, 1, 1)).refused[0].reason is Reason.UNKNOWN_ACCOUNT
    desk.policy = known
    assert desk.lease("g1", Want(ACCOUNT, 401, 401)).refused, "it had 400 left when it was deleted"
    assert account(desk).spent == 600


def test_b7_an_account_whose_period_was_written_anew_from_the_same_start_ends_with_the_new_one(
    ledger: LedgerAt,
) -> None:
    monday = datetime(2026, 11, 23, 12, tzinfo=UTC)
    daily, weekly = (budget(calendar=Calendar.every(every)) for every in (Every.DAY, Every.WEEK))
    desk, name = Desk(ledger, daily), account_of(daily, monday)
    assert name == account_of(weekly, monday)
    desk.lease("g1", Want(name, 900, 900), now=monday)
    desk.charge(record("g1", Charge(name, 900, 900), admitted_at=monday), now=monday)
    desk.policy = policy(weekly)
    refusal = desk.lease("g1", Want(name, 900, 900), now=monday + timedelta(days=2)).refused[0]
    assert (refusal.reason, refusal.resets) == (Reason.USED_UP, datetime(2026, 11, 30, tzinfo=UTC))
    desk.store.close()


PER_MINUTE = Limit(
    LimitRef("TokenQuota", "team", "caps", "minute"),
    frozenset({"team"}),
    Unit.TOKENS,
    Calendar.every(Every.MINUTE),
    1000,
)


def test_a_quota_grants_what_is_free_in_an_ended_window_to_what_was_admitted_there_and_lets_nobody_wait_for_more(
    ledger: LedgerAt,
) -> None:
    """B6. Nothing goes over into the next window, so nothing is there twice."""
    desk, late = Desk(ledger, PER_MINUTE), NOW + timedelta(seconds=70)
    ended, follows = account_of(PER_MINUTE), account_of(PER_MINUTE, late)
    desk.lease("g1", Want(ended, 950, 950))
    desk.lease("g1", Want(follows, 10, 10), now=late)
    reply = desk.lease("g2", Want(ended, 100, 100), now=late)
    assert [(one.reason, one.held_by_others) for one in reply.refused] == [(Reason.ENDED, False)]
    desk.lease("g1", returns={ended: 500}, now=late)
    assert [one.amount for one in desk.lease("g2", Want(ended, 100, 100), now=late).granted] == [100]
    assert (desk.account(ended).held, desk.account(follows).held) == (550, 10)
    desk.store.close()
