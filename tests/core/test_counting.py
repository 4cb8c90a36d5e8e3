"""Which account counts at an instant: what a policy remembers of it is what its limits say."""

from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.amounts import Unit
from tollkeeper.limits import Limit, LimitRef
from tollkeeper.policy import PolicySet
from tollkeeper.prices import PriceList
from tollkeeper.windows import Calendar, Every

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
LIMIT = Limit(
    LimitRef("TokenQuota", "team", "daily", "tokens"),
    frozenset({"team"}),
    Unit.TOKENS,
    Calendar.every(Every.DAY, "Europe/Madrid"),
    allocation=1000,
)
NAME = LIMIT.account_at(("ann, o'hara",), NOW)[0].text


def policy(*limits: Limit) -> PolicySet:
    return PolicySet(1, {}, limits, PriceList.bundled())


@given(st.lists(st.integers(-72, 72), min_size=1, max_size=8))
def test_an_account_counts_in_its_own_window_and_in_no_other_whenever_it_is_asked_for(hours: list[int]) -> None:
    asked = policy(LIMIT)
    for hour in hours:
        now = NOW + timedelta(hours=hour)
        account, window = LIMIT.account_at(("ann, o'hara",), now)
        bound = asked.counting(NAME, now)
        assert (bound is not None) == (account.text == NAME)
        if bound is not None:
            assert (bound.limit, bound.account, bound.window) == (LIMIT, account, window)


@pytest.mark.parametrize(
    "name",
    [
        NAME.replace("daily", "weekly"),
        NAME.replace("@Tokens", "@USD"),
        NAME.replace("@2026-11-20", "@2026-11-19"),
        NAME.replace("team", quote("team").replace("t", "%74")),
    ],
    ids=["without a limit", "in another unit", "of another window", "by another spelling"],
)
def test_no_other_account_counts(name: str) -> None:
    assert name != NAME
    assert policy(LIMIT).counting(name, NOW) is None
