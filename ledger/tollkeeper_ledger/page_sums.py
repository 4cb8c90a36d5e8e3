"""Whether the sums that pages are answered from are those of the chain's usages: `minutes` by account, `hours` and `days`.

Compared are totals, over all time: of each account what its usages took, and of each tenant's own usages requests, cost and
tokens by each dimension that all usages have. A sum that no column holds stays at the largest that one does (`rollups`), so
totals that reach that are left out.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Final

from tollkeeper.amounts import LARGEST, format_amount
from tollkeeper.counters import Tally
from tollkeeper.limits import AccountId
from tollkeeper_ledger.cells import whole, word
from tollkeeper_ledger.errors import BooksDiffer
from tollkeeper_ledger.usagerows import rows_of
from tollkeeper_ledger.usages import Asking

_EVERYWHERE: Final = ("tenant", "provider", "model")
"""Dimensions that no usage lacks."""

_MINUTES = "SELECT a.id, m.amount FROM minutes m JOIN accounts a ON a.number = m.account"
_ROLLUP = "SELECT tenant, dimension, requests, input_tokens, output_tokens, cost FROM {table}"

Totals = dict[tuple[str, str], Tally]
"""By tenant and dimension."""


class PageSums:
    """What the chain's usages add up to: taken from each account, and used by each tenant."""

    def __init__(self) -> None:
        self._spent: dict[str, int] = {}
        self._used: dict[str, Tally] = {}

    def add(self, transaction: Mapping[str, Any]) -> None:
        """A transaction of an export."""
        if transaction["kind"] != "usage":
            return
        for entry in transaction["entries"]:
            account, _, side = entry["account"].rpartition("#")
            if side == "spent":
                self._spent[account] = self._spent.get(account, 0) + entry["amount"]
        for row in rows_of(transaction):
            tenant = row["caller"]["tenant"]
            requests, tokens, cost = self._used.get(tenant, Tally())
            # Without a cap: what passes it is left out as a whole.
            self._used[tenant] = Tally(requests + 1, tokens + sum(row["buckets"].values()), cost + (row["cost"] or 0))

    def check(self, snapshot: Asking) -> None:
        """Raise `BooksDiffer` at the first total that does not fit."""
        minutes = dict[str, int]()
        for account, amount in _each(snapshot, _MINUTES):
            minutes[account] = minutes.get(account, 0) + whole(amount, f"{account}: a minute")
        for account in sorted(minutes.keys() | self._spent.keys()):
            stands, chain = (_amount(account, of.get(account, 0)) for of in (minutes, self._spent))
            _compare(f"{account}: its minutes", stands, chain)
        for table in ("hours", "days"):
            self._check_rollup(table, _totals(snapshot, table))

    def _check_rollup(self, table: str, stands: Totals) -> None:
        expected = {(tenant, one): used for tenant, used in self._used.items() for one in _EVERYWHERE}
        for key in sorted(expected.keys() | stands.keys()):
            chain = expected.get(key, Tally())
            if max(chain) < LARGEST:
                _compare(f"tenant {key[0]}: its {table} by {key[1]}", stands.get(key, Tally()).words, chain.words)


def _totals(snapshot: Asking, table: str) -> Totals:
    """What a table adds up to."""
    totals = Totals()
    for tenant, dimension, *sums in _each(snapshot, _ROLLUP.format(table=table)):
        if word(dimension, f"a row of {table}") not in _EVERYWHERE:
            continue
        where = f"tenant {word(tenant, f'a row of {table}')}: a row of {table}"
        requests, sent, generated, cost = (whole(one, where) for one in sums)
        before = totals.get((tenant, dimension), Tally())
        totals[tenant, dimension] = Tally(before[0] + requests, before[1] + sent + generated, before[2] + cost)
    return totals


def _each(snapshot: Asking, question: str) -> Iterator[Sequence[Any]]:
    with closing(snapshot.each(question)) as rows:
        yield from rows


def _compare(what: str, stands: str, chain: str) -> None:
    if stands != chain:
        raise BooksDiffer(
            f"{what} add up to {stands}, and the usages of the chain to {chain}; the rows were changed beside the chain, or "
            "transactions were removed"
        )


def _amount(account: str, amount: int) -> str:
    unit = AccountId.parse(account).unit
    return f"{format_amount(amount, unit)} {unit}"
