"""Usage without a price: which models, and how much of it (M6). `priced` says how it is told.

Pure. A model without a price is used only where no Hard limit in money applies. There it counts as costing nothing.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class UnpricedModel:
    """What was used of one model without a price; `first` is the place of its first usage in the ledger."""

    provider: str
    model: str
    requests: int
    tokens: int
    first: int

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


def _by_first_use(models: Mapping[tuple[str, str], UnpricedModel]) -> tuple[UnpricedModel, ...]:
    return tuple(sorted(models.values(), key=lambda one: (one.first, one.provider, one.model)))
