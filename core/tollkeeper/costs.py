"""A cost taken apart again: what each bucket of a request's tokens cost, out of the unit prices that stand with it (R10).

Parts are exact and may be finer than a nano-dollar; their sum, rounded once, half up, is the cost that was charged (M2).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Context, Decimal

from tollkeeper.prices import REQUEST, TOKENS_PER_PRICE
from tollkeeper.usage import BUCKETS

_EXACT = Context(prec=60)  # below 10^5 dollars with 18 decimals, times 2^63 tokens


@dataclass(frozen=True, slots=True)
class CostPart:
    """`count` tokens of a bucket at `unit_price` dollars for a million; under `REQUEST`, one request at its own price."""

    name: str
    count: int
    unit_price: Decimal
    cost: Decimal

    @property
    def is_of_tokens(self) -> bool:
        """Whether tokens are counted, and not requests."""
        return self.name != REQUEST


def cost_parts(buckets: Mapping[str, int], unit_prices: Mapping[str, str]) -> tuple[CostPart, ...]:
    """The parts of a cost, buckets in their order, then the request. What has no unit price here is no part of it."""
    parts = []
    for bucket in BUCKETS:
        if bucket in unit_prices and (count := buckets.get(bucket, 0)):
            price = Decimal(unit_prices[bucket])
            cost = _EXACT.divide(_EXACT.multiply(price, Decimal(count)), Decimal(TOKENS_PER_PRICE))
            parts.append(CostPart(bucket, count, price, cost))
    if REQUEST in unit_prices:
        price = Decimal(unit_prices[REQUEST])
        parts.append(CostPart(REQUEST, 1, price, price))
    return tuple(parts)


def dollars(exact: Decimal) -> str:
    """Dollars with at least two decimals and no zeros beyond them (M1), as finely as they are known."""
    whole, _, fraction = f"{exact:f}".partition(".")
    return f"{whole}.{fraction.rstrip('0').ljust(2, '0')}"
