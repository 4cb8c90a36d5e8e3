"""What a limit counts in one window, over all its keys: the view of accounts that statuses and gates are made from (B5)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tollkeeper.accounts import Account, Phase
from tollkeeper.limits import Limit
from tollkeeper.windows import Window


@dataclass(frozen=True, slots=True)
class Counted:
    """A limit with its window and all its accounts in that window; without `per`, one account at most."""

    limit: Limit
    window: Window
    accounts: Sequence[Account]

    def total(self) -> Account:
        """The accounts as one: sums. Without accounts, one that nobody used yet; with keys it is empty, for there is none."""
        if len(self.accounts) == 1:
            return self.accounts[0]
        if not self.accounts and not is_keyed(self.limit):
            return self._unused()
        sums = {name: sum(getattr(one, name) for one in self.accounts) for name in _SUMMED}
        return replace(self._unused(), **sums)

    def _unused(self) -> Account:
        return Account("", self.window.start, self.window.end, allocation=self.limit.allocation)

    def utilization(self) -> int:
        """Percent of what all keys together may spend, rounded down (M1); 0 while there is no key."""
        accounts = self.accounts or (() if is_keyed(self.limit) else (self.total(),))
        cap = sum(one.cap(self.limit) for one in accounts)
        return 100 * sum(used(one) for one in accounts) // cap if cap > 0 else 100 * bool(accounts)

    def phase(self) -> Phase:
        """The worst phase of all keys (B5)."""
        return max(
            (one.phase(self.limit) for one in self.accounts), key=lambda phase: phase.severity, default=_idle(self)
        )

    def tightest(self) -> Account:
        """The account that is closest to its limit; one that nobody used yet where there is none."""
        return max(self.accounts, key=self._tightness, default=self._unused())

    def _tightness(self, account: Account) -> tuple[int, int, str]:
        return account.phase(self.limit).severity, account.utilization(self.limit), account.id


_SUMMED = (
    "allocation", "rolled_over", "granted", "borrowed", "lent", "spent", "held", "unreconciled", "overshoot", "requests",
)  # fmt: skip


def is_keyed(limit: Limit) -> bool:
    """Whether the limit has more than one account: one for each key, or for each tenant that a selector takes."""
    return bool(limit.per) or limit.each_tenant


def used(account: Account) -> int:
    """What is gone: spent, or held by meters that vanished."""
    return account.spent + account.unreconciled


def _idle(counted: Counted) -> Phase:
    """The phase of a limit that nobody used yet; one with keys has none to be in trouble."""
    return Phase.SUFFICIENT if is_keyed(counted.limit) else counted.tightest().phase(counted.limit)
