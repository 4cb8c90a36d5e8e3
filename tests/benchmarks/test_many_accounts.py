"""The ledger with many accounts: exactly as many as were asked for, whoever leases."""

import pytest
from bench.growth import SIZES, TEAMS
from bench.populate import Users, wants_of

from tollkeeper.limits import AccountId


@pytest.mark.parametrize("accounts", [200, 1000, 10_000])
def test_all_users_paths_have_exactly_the_accounts_that_were_asked_for(accounts: int) -> None:
    users = Users(accounts)
    assert len(wants_of(users, range(users.count))) == accounts


def test_every_account_of_a_user_is_one_of_a_limit_in_force() -> None:
    users = Users(200)
    assert all(users.policy.limit(AccountId.parse(account).ref) for account in users.path(users.count - 1))


def test_a_department_has_the_teams_of_a_batch_in_the_smallest_ledger_too() -> None:
    assert min(map(len, Users(min(SIZES)).departments)) >= TEAMS
