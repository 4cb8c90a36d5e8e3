"""Reconciliation: our books beside a provider's. Pure.

A provider's usage is rows of `id` or `date`, `model`, `cost` and, where it tells them, our buckets. A row with an id is
joined to the usage with that `upstream_id`; rows without are joined, summed, to all usages of their day (UTC) and model.
What differs becomes a fix: for an id, the provider's cost less ours is charged to (or given back on) every account of
money that the usage was charged to; for a day and model, it is spread over their usages by what they cost, and each
tenant gets a fix of its own, so that no transaction touches two trees of tenants.

Only what the rows name is compared: a day and model with rows of its own whole, else the usages whose ids they name. A row
whose date or model contradicts the usage that its id names may be of another request; nothing is corrected by it. A day
fits from admission to end, and a model by its name with or without the date of a release.

Ours is what was booked plus what earlier reconciliations changed in it, by whichever of both (see `restated`). So files
may come in any order, by id and by day, and the same file twice books nothing new. History is never priced anew: a fix is
the provider's own figure. What only one side has is shown and not booked: a file may be partial, and nobody knows whose a
row is that we never saw.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date
from typing import Any

from tollkeeper.amounts import Unit
from tollkeeper.history import BookedUsage, History
from tollkeeper.limits import AccountId
from tollkeeper.providerfile import ProviderRow
from tollkeeper.restated import Restated, day_of, spread

_RELEASED = re.compile(r"-20[0-9]{2}-?[0-9]{2}-?[0-9]{2}$")


@dataclass(frozen=True, slots=True)
class Fix:
    """A correction that would bring our books to the provider's: `cost` is the provider's less ours, in nano-dollars.

    `changes` gives back (negative: charges) by account; it is empty for usage that no account of money counts, and is booked
    all the same, so that both books agree. `mark` is the same for the same fix of the same books. `as_of`, `due` and
    `besides` say what it covers: see `restated`.
    """

    mark: str
    upstream: str | None
    day: date
    model: str
    tenant: str
    cost: int
    changes: Mapping[str, int]
    as_of: int
    due: int | None = None
    besides: tuple[str, ...] = ()

    @property
    def details(self) -> Mapping[str, Any]:
        """What the chain says of it, out of which `History` has it again."""
        what = {"day": str(self.day), "model": self.model, "tenant": self.tenant}
        told = what | {"cost": self.cost, "as_of": self.as_of}
        if self.upstream is not None:
            return told | {"upstream_id": self.upstream}
        return told | {"due": self.due} | ({"besides": list(self.besides)} if self.besides else {})


@dataclass(slots=True)
class Line:
    """One day and model: requests and nano-dollars on both sides."""

    our_requests: int = 0
    our_cost: int = 0
    their_rows: int = 0
    their_cost: int = 0

    @property
    def difference(self) -> int:
        """The provider's cost less ours."""
        return self.their_cost - self.our_cost


@dataclass(slots=True)
class Differences:
    """Both books by day and model, the fixes that would join them, and the rows whose id or day and model we never saw.

    `contradicted` are rows that say another day or model than the usage that their id names. `unnamed` is what cost something
    with us and nothing says anything of: other usages of the same provider, on days that the rows speak of. A provider that
    bills less is no difference to correct, but somebody may want to know.

    What a line differs by is what its fixes come to, and the rows that stay open or are contradicted.
    """

    lines: dict[tuple[date, str], Line] = field(default_factory=dict)
    unnamed: dict[tuple[date, str], Line] = field(default_factory=dict)
    fixes: list[Fix] = field(default_factory=list)
    unknown: list[ProviderRow] = field(default_factory=list)
    contradicted: list[tuple[ProviderRow, BookedUsage]] = field(default_factory=list)

    @property
    def stays_open(self) -> bool:
        """Whether anything does not agree that no fix joins."""
        return bool(self.unknown or self.contradicted)


def compare(history: History, rows: Iterable[ProviderRow]) -> Differences:
    """Both books beside each other, for the days and models that the provider's rows speak of."""
    found, books = Differences(), Restated(history)
    joined: set[str] = set()
    compared: dict[int, BookedUsage] = {}
    summed: dict[tuple[date, str], list[ProviderRow]] = defaultdict(list)
    for row in rows:
        usage = books.by_id.get(row.id) if row.id is not None else None
        day, model = (day_of(usage), usage.record.model) if usage else (row.day, row.model)
        if day is not None:
            line = found.lines.setdefault((day, model), Line())
            line.their_rows, line.their_cost = line.their_rows + 1, line.their_cost + row.cost
        if usage is not None and row.id is not None and day is not None:
            joined.add(row.id)
            compared[usage.place] = usage
            if _fits(row, usage):
                found.fixes += _fix_one(row.id, usage, row.cost - books.cost(usage), books)
            else:
                found.contradicted.append((row, usage))
        elif row.id is not None or day is None:
            found.unknown.append(row)
        else:
            summed[day, model].append(row)
    for (day, model), own in summed.items():
        usages = [usage for usage in books.by_day.get((day, model), ()) if usage.record.upstream_id not in joined]
        if usages:
            compared |= {usage.place: usage for usage in usages}
            found.fixes += _fix_day(day, model, sum(row.cost for row in own), usages, joined, books)
        else:
            found.unknown += own
    for usage in compared.values():
        line = found.lines[day_of(usage), usage.record.model]
        line.our_requests, line.our_cost = line.our_requests + 1, line.our_cost + books.cost(usage)
    found.unnamed = _unnamed(found.lines, compared, books)
    return found


def _fits(row: ProviderRow, usage: BookedUsage) -> bool:
    """Whether a row may be of the usage that its id names."""
    record = usage.record
    ended = record.finished_at.astimezone(UTC).date()
    same_model = _RELEASED.sub("", row.model) == _RELEASED.sub("", record.model)
    return same_model and (row.day is None or day_of(usage) <= row.day <= ended)


def _unnamed(
    lines: Collection[tuple[date, str]], compared: Mapping[int, BookedUsage], books: Restated
) -> dict[tuple[date, str], Line]:
    days = {day for day, _ in lines}
    providers = {usage.record.provider for key in lines for usage in books.by_day.get(key, ())}
    found = {}
    for (day, model), booked in books.by_day.items():
        own = [usage for usage in booked if usage.place not in compared and usage.record.provider in providers]
        if day in days and (cost := sum(map(books.cost, own))):
            found[day, model] = Line(our_requests=len(own), our_cost=cost)
    return found


def _fix_one(upstream: str, usage: BookedUsage, cost: int, books: Restated) -> Iterator[Fix]:
    if cost:
        record, day = usage.record, day_of(usage)
        number = books.booked_before(upstream, day, record.model, record.caller.tenant)
        yield Fix(
            mark=f"correct/{upstream}/#{number}/{cost}",
            upstream=upstream,
            day=day,
            model=record.model,
            tenant=record.caller.tenant,
            cost=cost,
            changes=_changes([usage], [cost]),
            as_of=books.end,
        )


def _fix_day(
    day: date, model: str, theirs: int, usages: Sequence[BookedUsage], joined: Collection[str], books: Restated
) -> Iterator[Fix]:
    """A fix for each tenant that brings what lies on its usages by day to its part of what is due of all."""
    due = theirs - sum(map(books.alone, usages))
    if due == sum(map(books.by_its_day, usages)):
        return
    for tenant, part in _by_tenant(usages, spread(due, list(map(books.alone, usages)))).items():
        own = [usage for usage in usages if usage.record.caller.tenant == tenant]
        parts = books.laid(own, part)
        if cost := sum(parts):
            yield Fix(
                mark=f"correct/{day}/{model}/{tenant}/#{books.booked_before(None, day, model, tenant)}/{cost}",
                upstream=None,
                day=day,
                model=model,
                tenant=tenant,
                cost=cost,
                changes=_changes(own, parts),
                as_of=books.end,
                due=part,
                besides=_besides(books.by_day[day, model], tenant, joined),
            )


def _by_tenant(usages: Sequence[BookedUsage], parts: Sequence[int]) -> dict[str, int]:
    sums: dict[str, int] = defaultdict(int)
    for usage, part in zip(usages, parts, strict=True):
        sums[usage.record.caller.tenant] += part
    return sums


def _besides(usages: Iterable[BookedUsage], tenant: str, joined: Collection[str]) -> tuple[str, ...]:
    of_tenant = (usage.record.upstream_id for usage in usages if usage.record.caller.tenant == tenant)
    return tuple(sorted({upstream for upstream in of_tenant if upstream and upstream in joined}))


def _changes(usages: Sequence[BookedUsage], parts: Sequence[int]) -> dict[str, int]:
    changes: dict[str, int] = defaultdict(int)
    for usage, part in zip(usages, parts, strict=True):
        for charge in usage.record.charges:
            if AccountId.parse(charge.account).unit is Unit.USD:
                changes[charge.account] -= part
    return {account: part for account, part in changes.items() if part}
