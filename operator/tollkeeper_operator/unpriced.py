"""Usage without a price, looked up in the ledger account by account (M6).

Asked only of accounts that were used since, and then first for a count alone. The usages themselves are read only where
that count grew: newest first, back to those that were read before, and no further than a bound.
"""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tollkeeper.accounts import Account
from tollkeeper.books import Books
from tollkeeper.counted import Counted
from tollkeeper.problems import ObjectRef
from tollkeeper.unpriced import Unpriced, UnpricedModel, summed, widest
from tollkeeper.views import LedgerReader, UsageRow

PAGE = 200
MOST_PAGES = 50
"""Where so many pages of usages name not all of them, the rest is counted without a name."""

MOST_MODELS = 100
"""How many models of one account are told apart: callers make names up."""


@dataclass(slots=True)
class _Looked:
    """What an account was known to have used when it was looked at: all requests, and those without a price.

    `newest` is the place in the ledger up to which usages were read.
    """

    requests: int = 0
    unpriced: int = 0
    newest: int = 0
    models: dict[tuple[str, str], UnpricedModel] = field(default_factory=dict)

    def found(self) -> Unpriced:
        models = tuple(self.models.values())
        return Unpriced(models, self.unpriced - sum(one.requests for one in models))


@dataclass(slots=True)
class UnpricedUsage:
    """What is known of the objects' accounts. Reads happen on `threads`; everything else on one event loop."""

    books: Books
    threads: ThreadPoolExecutor
    every: float
    _known: dict[ObjectRef, dict[str, _Looked]] = field(default_factory=dict)
    _looked_at: dict[ObjectRef, float] = field(default_factory=dict)

    def due(self, ref: ObjectRef, limits: Sequence[Counted]) -> float | None:
        """From when on an object is to be looked at again, in the event loop's time: `every` seconds after it was looked
        at last. None where nothing was used of its limits since."""
        known = self._known.get(ref, {})
        if all(_requests(known, account) == account.requests for one in limits for account in one.accounts):
            return None
        return self._looked_at.get(ref, -self.every) + self.every

    def known(self, ref: ObjectRef, limits: Sequence[Counted]) -> Unpriced:
        """What was found in an object's accounts, those of the windows before left out."""
        looked = self._known.get(ref, {})
        return widest(
            summed(looked[account.id].found() for account in one.accounts if account.id in looked) for one in limits
        )

    async def look(self, ref: ObjectRef, limits: Sequence[Counted]) -> None:
        """Bring what is known of an object's accounts up to date. Raises `Unavailable`; then all stays as it was."""
        known = self._known.get(ref, {})
        accounts = tuple(account for one in limits for account in one.accounts)
        loop, reader = asyncio.get_running_loop(), self.books.reader
        self._looked_at[ref] = loop.time()
        self._known[ref] = await loop.run_in_executor(
            self.threads, lambda: {one.id: _looked_at(reader, one, known.get(one.id)) for one in accounts}
        )

    def forget(self, ref: ObjectRef) -> None:
        """An object is gone."""
        self._known.pop(ref, None)
        self._looked_at.pop(ref, None)


def _requests(known: Mapping[str, _Looked], account: Account) -> int:
    return known[account.id].requests if account.id in known else 0


def _looked_at(reader: LedgerReader, account: Account, before: _Looked | None) -> _Looked:
    before = before or _Looked()
    if account.requests == before.requests:
        return before
    unpriced = reader.totals(account.id).unpriced
    after = _Looked(account.requests, unpriced, before.newest, dict(before.models))
    if unpriced > before.unpriced:
        _read_usages(reader, account.id, after, missing=unpriced - before.unpriced)
    return after


def _read_usages(reader: LedgerReader, account: str, after: _Looked, *, missing: int) -> None:
    """Find the models of so many usages without a price among those that were not read before."""
    read_before, lowest = after.newest, sys.maxsize
    for page in range(1, MOST_PAGES + 1):
        rows = reader.usages(account, page=page, size=PAGE).rows
        # What is booked meanwhile moves the pages: a row that comes again was counted.
        for row in (row for row in rows if read_before < row.seq < lowest):
            after.newest, lowest = max(after.newest, row.seq), row.seq
            if row.cost is None:
                _count(after, row)
                missing -= 1
        if len(rows) < PAGE or missing <= 0 or rows[-1].seq <= read_before:
            return


def _count(after: _Looked, row: UsageRow) -> None:
    key, one = (row.provider, row.model), UnpricedModel(row.provider, row.model, 1, row.tokens, row.seq)
    if key in after.models:
        after.models[key] += one
    elif len(after.models) < MOST_MODELS:
        after.models[key] = one
