"""Usage without a price: which models, how much of it, and how a limit's status and Events tell of it (M6, K8).

Pure. A model without a price is used only where no Hard limit in money applies. There it counts as costing nothing, so
somebody has to be told. What is told ends when the model has a price, or with the window: nothing is priced anew.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tollkeeper.conditions import Condition, message_of
from tollkeeper.notices import Notice, Reason
from tollkeeper.windows import Window

PRICED = "Priced"
"""The condition. It stands, False, only where there is something to tell."""

NAMED = 4
"""How many models a status names, those that were used first: callers make names up, so the number must have a bound."""

_LONGEST_NAME = 100
_SHORTEST_SPAN = timedelta(hours=23)
"""A day where clocks change."""

_REMEDY = "add it to spec.models of a PriceBook, or give one book fallback prices (spec.unknownModels: Fallback)"


@dataclass(frozen=True, slots=True)
class UnpricedModel:
    """What was used of one model without a price; `first` is the place of its first usage in the ledger."""

    provider: str
    model: str
    requests: int
    tokens: int
    first: int

    @property
    def name(self) -> str:
        """The model as it is told: one line, cut where it is too long."""
        name = f"{self.provider}/{self.model}"
        shown = name if name.isprintable() else ascii(name)
        return shown if len(shown) <= _LONGEST_NAME else shown[: _LONGEST_NAME - 1] + "…"

    @property
    def used(self) -> str:
        """How much was used of it, in words."""
        return f"{_requests(self.requests)}, {self.tokens} tokens"

    def __add__(self, other: "UnpricedModel") -> "UnpricedModel":
        return replace(
            self,
            requests=self.requests + other.requests,
            tokens=self.tokens + other.tokens,
            first=min(self.first, other.first),
        )


@dataclass(frozen=True, slots=True)
class Unpriced:
    """Usage without a price in a span of time: by model in the order of first use, and requests of models not known."""

    models: tuple[UnpricedModel, ...] = ()
    others: int = 0

    @property
    def named(self) -> tuple[UnpricedModel, ...]:
        """The models that are told by name."""
        return self.models[:NAMED]

    def only(self, unpriced: Callable[[str, str], bool]) -> "Unpriced":
        """Without the models that have a price by now; `unpriced` says by provider and model whether one has none."""
        return replace(self, models=tuple(one for one in self.models if unpriced(one.provider, one.model)))


NOTHING_UNPRICED = Unpriced()


def summed(of_accounts: Iterable[Unpriced]) -> Unpriced:
    """The usage of a limit: that of all its accounts together."""
    parts = tuple(of_accounts)
    models: dict[tuple[str, str], UnpricedModel] = {}
    for one in (one for part in parts for one in part.models):
        key = (one.provider, one.model)
        models[key] = models[key] + one if key in models else one
    return Unpriced(_by_first_use(models), sum(part.others for part in parts))


def widest(of_limits: Iterable[Unpriced]) -> Unpriced:
    """The usage of an object with several limits. One request counts in many of them: of each model the most counts."""
    parts = tuple(of_limits)
    models: dict[tuple[str, str], UnpricedModel] = {}
    for one in (one for part in parts for one in part.models):
        known = models.get((one.provider, one.model))
        if known is None or one.requests > known.requests:
            models[one.provider, one.model] = one
    return Unpriced(_by_first_use(models), max((part.others for part in parts), default=0))


def span_of(windows: Iterable[Window], now: datetime) -> str:
    """What bounds Events to one for each model: the longest of an object's windows, at least a day (UTC)."""
    widest_window = max(windows, key=lambda window: (window.end is None, _length(window)), default=None)
    if widest_window is None or (widest_window.end is not None and _length(widest_window) < _SHORTEST_SPAN):
        return now.astimezone(UTC).date().isoformat()
    return widest_window.key()


def priced(unpriced: Unpriced) -> tuple[Condition, ...]:
    """The condition that tells of it; none where every model has a price."""
    told = ", ".join(f"{one.name} ({one.used})" for one in unpriced.named)
    unnamed = sum(one.requests for one in unpriced.models[NAMED:]) + unpriced.others
    if not told and not unnamed:
        return ()
    more = f"{_requests(unnamed)} of other models" if unnamed else ""
    used = " and ".join(part for part in (told, more) if part)
    message = f"used without a price, which counts as costing nothing: {used}; for each model: {_REMEDY}"
    return (Condition(PRICED, False, "UnknownModels", message),)


def unpriced_notices(before: Mapping[str, Any], unpriced: Unpriced, span: str) -> Iterator[Notice]:
    """One notice for each model that the status before did not name, and so for each model and span one Event."""
    told = message_of(before, PRICED)
    for one in unpriced.named:
        # With the space before it: another provider's name may end like this one's.
        if f" {one.name} (" not in told:
            message = f"{one.name} has no price: so far {one.used} count as costing nothing; {_REMEDY}"
            yield Notice(Reason.UNPRICED, message, f"{span}/{one.provider}/{one.model}")


def _by_first_use(models: Mapping[tuple[str, str], UnpricedModel]) -> tuple[UnpricedModel, ...]:
    return tuple(sorted(models.values(), key=lambda one: (one.first, one.provider, one.model)))


def _length(window: Window) -> timedelta:
    return window.end - window.start if window.end else timedelta.max


def _requests(count: int) -> str:
    return "1 request" if count == 1 else f"{count} requests"
