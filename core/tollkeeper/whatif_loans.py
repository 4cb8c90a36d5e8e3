"""Loans in a replay of the past: borrowed and given back by the ledger's own rules (`tollkeeper.loans`)."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from tollkeeper import accounts as rules
from tollkeeper import loans
from tollkeeper.accounts import Account
from tollkeeper.limits import Limit
from tollkeeper.policy import PolicySet


@dataclass(frozen=True, slots=True)
class ReplayedLoans:
    """Loans between the `accounts` of a replay; `opened` gives the account of a limit at an instant."""

    policy: PolicySet
    accounts: dict[str, Account]
    opened: Callable[[Limit, tuple[str, ...], datetime], Account]

    def borrow(self, limit: Limit, account: Account, need: int, at: datetime) -> Account:
        """The account after it borrowed what it lacks to set `need` aside, if that can be had."""
        if not limit.borrowing or loans.needed(limit, account, holding=need) <= account.borrowed:
            return account
        lends = loans.lender_at(self.policy, limit, account, at)
        if lends is None:
            return account
        lender = self.borrow(lends, self.opened(lends, (), at), need, at)
        most = loans.possible(limit, account, lends, lender, room=lender.available(lends))
        amount = loans.more(limit, account, most, need=need, desired=need)
        return self._move(limit, account, lender, amount) if amount else account

    def give_back(self, limit: Limit, account: Account, at: datetime) -> Account:
        """The account after it gave back what it does not need any more."""
        amount = loans.superfluous(limit, account, going_on=loans.goes_on(account, at)) if account.borrowed else 0
        return self._move(limit, account, self.accounts[account.lender], -amount) if amount else account

    def _move(self, limit: Limit, account: Account, lender: Account, amount: int) -> Account:
        self.accounts[lender.id] = rules.lend(lender, amount)
        changed = self.accounts[account.id] = rules.borrow(account, limit, amount, lender.id)
        return changed
