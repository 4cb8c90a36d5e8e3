"""What usages cost in our books with all that reconciliations changed, usage by usage. Pure.

A correction says what it covered, so that a later one, by id or by day, begins where it ended:

- One by id is its request's own: from then on the request costs what the provider said of it, by itself.
- One by day, model and tenant stands on each usage that it covered: those that were booked when it was worked out
  (`as_of`), but for the ones that had rows of their own (`besides`). `due` is what the day comes to beyond what these
  usages cost by themselves; it lies on them by that cost, in place of what such corrections laid on them before.

So what an account was charged is at every moment the sum of what its usages cost here.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import UTC, date

from tollkeeper.history import BookedUsage, History, Reconciled

Step = tuple[int, int, int]
"""From a place in the chain on: what a usage costs by itself, and what corrections by day lay on it."""


class Restated:
    """All usages of a history, by the provider's ids and by day (UTC) and model, in the order of booking."""

    def __init__(self, history: History) -> None:
        self.end = history.end
        self.by_id: dict[str, BookedUsage] = {}
        self.by_day: dict[tuple[date, str], list[BookedUsage]] = defaultdict(list)
        self.corrections: dict[tuple[str | None, date | None, str, str], int] = defaultdict(int)
        """How many corrections there were, by id, or by day, model and tenant: see `booked_before`."""
        self._with_id: dict[str, list[BookedUsage]] = defaultdict(list)
        self._steps: dict[int, list[Step]] = {}
        for usage in history.usages:
            self.by_day[day_of(usage), usage.record.model].append(usage)
            if usage.record.upstream_id:
                self.by_id[usage.record.upstream_id] = usage
                self._with_id[usage.record.upstream_id].append(usage)
        for one in history.reconciled:
            self._take(one)

    def alone(self, usage: BookedUsage, at: int | None = None) -> int:
        """What a usage costs by itself, now or as of a place."""
        return self._step(usage, at)[1]

    def by_its_day(self, usage: BookedUsage, at: int | None = None) -> int:
        """What corrections by day lay on a usage, now or as of a place."""
        return self._step(usage, at)[2]

    def cost(self, usage: BookedUsage) -> int:
        """What a usage costs in our books."""
        return self.alone(usage) + self.by_its_day(usage)

    def laid(self, usages: Sequence[BookedUsage], due: int, at: int | None = None) -> list[int]:
        """By how much each usage's part of the day changes when `due` lies on all of them."""
        parts = spread(due, [max(0, self.alone(usage, at)) for usage in usages])
        return [part - self.by_its_day(usage, at) for usage, part in zip(usages, parts, strict=True)]

    def booked_before(self, upstream: str | None, day: date, model: str, tenant: str) -> int:
        """How many corrections of the same were booked; so the same fix of the same books has the same name."""
        return self.corrections[_subject(upstream, day, model, tenant)]

    def _step(self, usage: BookedUsage, at: int | None) -> Step:
        for step in reversed(self._steps.get(usage.place, ())):
            if at is None or step[0] < at:
                return step
        return (usage.place, usage.record.cost or 0, 0)

    def _take(self, one: Reconciled) -> None:
        self.corrections[_subject(one.upstream, one.day, one.model, one.tenant)] += 1
        if one.upstream is not None:
            named = [usage for usage in self._with_id[one.upstream] if usage.place < one.as_of]
            for usage in named[-1:]:
                self._append(usage, one.place, self.cost(usage) + one.cost, 0)
            return
        usages = self._covered(one)
        if one.due is None:
            # Earlier releases spread each correction by what was booked at first.
            changes = spread(one.cost, [usage.record.cost or 0 for usage in usages])
        else:
            changes = self.laid(usages, one.due, one.as_of)
        for usage, change in zip(usages, changes, strict=True):
            if change:
                self._append(usage, one.place, self.alone(usage), self.by_its_day(usage) + change)

    def _covered(self, one: Reconciled) -> list[BookedUsage]:
        booked = (usage for usage in self.by_day.get((one.day, one.model), ()) if usage.place < one.as_of)
        besides = frozenset(one.besides)
        return [usage for usage in booked if _counts(usage, one.tenant, besides)]

    def _append(self, usage: BookedUsage, place: int, alone: int, by_day: int) -> None:
        self._steps.setdefault(usage.place, []).append((place, alone, by_day))


def _subject(upstream: str | None, day: date, model: str, tenant: str) -> tuple[str | None, date | None, str, str]:
    return (None, day, model, tenant) if upstream is None else (upstream, None, "", "")


def _counts(usage: BookedUsage, tenant: str, besides: Collection[str]) -> bool:
    """Earlier releases made one correction for all tenants together, which stands under no name."""
    record = usage.record
    return (not tenant or record.caller.tenant == tenant) and (record.upstream_id or "") not in besides


def day_of(usage: BookedUsage) -> date:
    """The day (UTC) in which a request was admitted."""
    return usage.record.admitted_at.astimezone(UTC).date()


def spread(amount: int, weights: Sequence[int]) -> list[int]:
    """An amount in whole parts by weight (all alike where there is none); the parts sum to it exactly.

    No part is larger than its weight where the amount is no larger than all of them together.
    """
    weights = weights if any(weights) else [1] * len(weights)
    total, given, so_far, parts = sum(weights), 0, 0, []
    for weight in weights:
        so_far += weight
        part = abs(amount) * so_far // total - given
        given += part
        parts.append(part if amount >= 0 else -part)
    return parts
