"""What an authority answers to a want, and why it refuses: rules B1, B3, F1 and F4 of leases, as pure decisions."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.test_accounts import accounts, amounts, budget, limits, opened
from tollkeeper.accounts import Account, Phase
from tollkeeper.errors import InvalidValue
from tollkeeper.leases import CONTENDED_WITHIN, SHARE_AHEAD, Reason, Refusal, Want, decide, deciding
from tollkeeper.limits import Limit

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
wants = st.builds(
    lambda need, more, ahead: Want("a", need, need + more, ahead),
    st.integers(0, 3000), st.integers(0, 3000), st.integers(0, 3000),
)  # fmt: skip


@given(accounts, limits, wants)
def test_b1_a_lease_covers_the_need_and_never_exceeds_what_is_available(
    account: Account, limit: Limit, want: Want
) -> None:
    verdict = decide(limit, account, want, NOW)
    if isinstance(verdict, int):
        assert want.need <= verdict <= min(account.available(limit), want.desired + want.ahead)
    else:
        assert account.available(limit) < want.need or account.phase(limit) is Phase.INSUFFICIENT


@given(accounts, limits, wants)
def test_b3_an_insufficient_account_leases_nothing_not_even_nothing(account: Account, limit: Limit, want: Want) -> None:
    if account.phase(limit) is Phase.INSUFFICIENT:
        assert isinstance(decide(limit, account, want, NOW), Refusal)


@given(st.integers(1, 10**6), st.integers(0, 10**6), amounts)
def test_what_is_leased_ahead_of_need_is_a_sixteenth_of_what_is_left_at_most(room: int, need: int, ahead: int) -> None:
    limit = budget(room)
    verdict = decide(limit, opened(limit), Want("a", min(need, room), min(need, room), ahead), NOW)
    assert isinstance(verdict, int)
    now_granted = min(need, room)
    assert verdict - now_granted == min(ahead, (room - now_granted) // SHARE_AHEAD)


@given(accounts, limits, wants)
def test_a_refusal_carries_the_numbers_that_made_it(account: Account, limit: Limit, want: Want) -> None:
    verdict = decide(limit, account, want, NOW)
    if isinstance(verdict, Refusal):
        told = (verdict.balance, verdict.minimum, verdict.available, verdict.need, verdict.phase)
        assert told == (account.balance, limit.minimum, account.available(limit), want.need, account.phase(limit))


def refused(account: Account, limit: Limit) -> Refusal:
    verdict = decide(limit, account, Want("a", 100, 100), NOW)
    assert isinstance(verdict, Refusal)
    return verdict


def test_f1_room_that_others_hold_is_contended_and_room_that_is_spent_is_used_up() -> None:
    limit = budget(1000)
    assert refused(opened(limit, held=950), limit).reason is Reason.CONTENDED
    assert refused(opened(limit, spent=950), limit).reason is Reason.USED_UP
    assert refused(opened(limit, unreconciled=950), limit).reason is Reason.USED_UP


@pytest.mark.parametrize(("left", "reason"), [(timedelta(0), Reason.CONTENDED), (timedelta(seconds=1), Reason.USED_UP)])
def test_f1_a_window_that_resets_within_a_minute_is_worth_waiting_for(left: timedelta, reason: Reason) -> None:
    limit = budget(1000)
    soon = opened(limit, spent=1000, window_end=NOW + CONTENDED_WITHIN + left)
    assert refused(soon, limit).reason is reason


@given(accounts, limits, wants, st.timedeltas(timedelta(0), timedelta(days=400)))
def test_b6_a_window_that_has_ended_grants_as_before_and_whoever_it_refuses_waits_for_nothing_there(
    account: Account, limit: Limit, want: Want, since: timedelta
) -> None:
    """A request counts in the window of its admission; who tries again counts in the next one."""
    ended = replace(account, window_end=NOW - since)
    verdict, before = decide(limit, ended, want, NOW), decide(limit, account, want, NOW)
    if isinstance(verdict, Refusal):
        assert isinstance(before, Refusal)
        assert (verdict.reason, verdict.held_by_others) == (Reason.ENDED, False)
    else:
        assert verdict == before


@given(st.permutations(range(4)))
def test_f4_of_several_refusals_the_one_that_lasts_longest_decides(order: list[int]) -> None:
    limit = budget(1000)
    first = refused(opened(limit, spent=1000, window_end=NOW + timedelta(days=1)), limit)
    lasting = [
        replace(first, account="contended", reason=Reason.CONTENDED, resets=None),
        first,
        replace(first, account="later", resets=NOW + timedelta(days=2)),
        replace(first, account="never", resets=None),
    ]
    for most in range(1, 5):
        some = [lasting[index] for index in order if index < most]
        assert deciding(some) is lasting[most - 1]


def test_between_no_refusals_there_is_nothing_to_decide() -> None:
    with pytest.raises(ValueError, match="no refusal"):
        deciding([])


@pytest.mark.parametrize(("need", "desired", "ahead"), [(-1, 0, 0), (5, 4, 0), (0, 0, -1), (-9, -9, 0)])
def test_a_want_that_nobody_can_mean_is_refused(need: int, desired: int, ahead: int) -> None:
    with pytest.raises(InvalidValue, match="0 <= need <= desired"):
        Want("a", need, desired, ahead)
