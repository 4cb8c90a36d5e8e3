"""Usage without a price, looked up in the ledger account by account (M6).

Asked only of accounts that were used since, and then for the models of what was booked since alone. After a start that is
all that the account has, a part at a time: the threads that read are shared with what gates rest on.
"""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from tollkeeper.accounts import Account
from tollkeeper.books import Books
from tollkeeper.counted import Counted
from tollkeeper.problems import ObjectRef
from tollkeeper.unpriced import Unpriced, UnpricedModel, summed, widest

AT_ONCE = 20_000
"""So many usages are looked through in one question."""

MOST_MODELS = 100
"""How many models of one account are told apart, those that were used first: callers make names up."""


@dataclass(slots=True)
class _Looked:
    """What an account was known to have used when it was looked at: requests, and those without a price.

    `newest` is the place in the ledger up to which usages were looked at.
    """

    requests: int = 0
    newest: int = 0
    models: dict[tuple[str, str], UnpricedModel] = field(default_factory=dict)
    others: int = 0

    def found(self) -> Unpriced:
        return Unpriced(tuple(self.models.values()), self.others)

    def count(self, one: UnpricedModel) -> None:
        key = one.provider, one.model
        if key in self.models:
            self.models[key] += one
        elif len(self.models) < MOST_MODELS:
            self.models[key] = one
        else:
            self.others += one.requests


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
        self._looked_at[ref] = asyncio.get_running_loop().time()
        accounts = tuple(account for one in limits for account in one.accounts)
        self._known[ref] = {one.id: await self._look_at(one, known.get(one.id)) for one in accounts}

    async def _look_at(self, account: Account, before: _Looked | None) -> _Looked:
        before = before or _Looked()
        if account.requests == before.requests:
            return before
        after = _Looked(account.requests, before.newest, dict(before.models), before.others)
        loop, reader = asyncio.get_running_loop(), self.books.reader
        while True:
            # Whoever waits for a thread meanwhile has it before the next part is read.
            question = partial(reader.unpriced, account.id, after=after.newest, most=AT_ONCE)
            part = await loop.run_in_executor(self.threads, question)
            for one in part.models:
                after.count(one)
            after.newest = part.until
            if part.is_last:
                return after

    def forget(self, ref: ObjectRef) -> None:
        """An object is gone."""
        self._known.pop(ref, None)
        self._looked_at.pop(ref, None)


def _requests(known: Mapping[str, _Looked], account: Account) -> int:
    return known[account.id].requests if account.id in known else 0
