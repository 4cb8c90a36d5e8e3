"""Which limit an account counts for."""

from dataclasses import dataclass
from functools import lru_cache

from tollkeeper.accounts import Account
from tollkeeper.amounts import Unit
from tollkeeper.limits import AccountId, Enforcement, Limit
from tollkeeper.policy import PolicySet
from tollkeeper.windows import Calendar


@dataclass(frozen=True, slots=True)
class NotInForce(Limit):
    """Stands for a limit of which nothing is known but its unit: it counts and blocks nothing, and what of an account rolls
    over it cannot say."""


@lru_cache(maxsize=65_536)
def parse_account(text: str) -> AccountId:
    """`AccountId.parse`, remembered."""
    return AccountId.parse(text)


def limit_of(policy: PolicySet, text: str, account: Account, unit: str) -> Limit:
    """The limit of an account; where its object is gone or counts in another unit now, one that is `NotInForce`."""
    ref = parse_account(text).ref
    limit = policy.limit(ref)
    if limit is not None and limit.unit == unit:
        return limit
    return NotInForce(ref, frozenset(), Unit(unit), Calendar.FOREVER, account.allocation, enforcement=Enforcement.SOFT)
