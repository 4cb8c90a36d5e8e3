"""How the keys of `per` stand in a status: how many there are, and which used most (B5)."""

from tollkeeper.accounts import Account, Phase
from tollkeeper.amounts import format_amount
from tollkeeper.counted import Counted, is_keyed, used
from tollkeeper.limits import AccountId, Limit
from tollkeeper.resources.standing import KeyCounts, TopKey

TOP_KEYS = 10
"""How many keys of `per:` are named; the rest are counted (B5)."""


def key_counts(counted: Counted) -> KeyCounts | None:
    """How many keys there are and how they stand; nothing without `per`."""
    if not is_keyed(counted.limit):
        return None
    phases = [one.phase(counted.limit) for one in counted.accounts]
    return KeyCounts(total=len(phases), low=phases.count(Phase.LOW), insufficient=phases.count(Phase.INSUFFICIENT))


def top_keys(counted: Counted) -> tuple[TopKey, ...]:
    """The keys that used most, most first; nothing without `per`."""
    if not is_keyed(counted.limit):
        return ()
    used_most = sorted(counted.accounts, key=lambda one: (-used(one), one.id))[:TOP_KEYS]
    return tuple(_top_key(counted.limit, one) for one in used_most)


def _top_key(limit: Limit, account: Account) -> TopKey:
    return TopKey(
        key=",".join(AccountId.parse(account.id).key),
        used=format_amount(used(account), limit.unit),
        remaining=format_amount(max(0, account.room(limit)), limit.unit),
        utilization=account.utilization(limit),
    )
