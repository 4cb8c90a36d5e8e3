"""Which limit an account counts for."""

from functools import lru_cache

from tollkeeper.accounts import Account
from tollkeeper.amounts import Unit
from tollkeeper.limits import AccountId, Enforcement, Limit
from tollkeeper.policy import PolicySet
from tollkeeper.windows import Calendar


@lru_cache(maxsize=65_536)
def parse_account(text: str) -> AccountId:
    """`AccountId.parse`, remembered."""
    return AccountId.parse(text)


def limit_of(policy: PolicySet, text: str, account: Account, unit: str) -> Limit:
    """The limit of an account; where its object is gone or counts in another unit now, one that only counts."""
    ref = parse_account(text).ref
    limit = policy.limit(ref)
    if limit is not None and limit.unit == unit:
        return limit
    return Limit(ref, frozenset(), Unit(unit), Calendar.FOREVER, account.allocation, enforcement=Enforcement.SOFT)
