"""The bundled price list: the data that the `genai-prices` package ships, read as our prices. Never from the network.

Its units are nested (cache reads are part of the input), ours are disjoint; so each of our buckets takes the price of
the narrowest unit that holds it. Models that are also priced by what buckets do not count (seconds, pages, characters)
are unpriced here: a sum without these would be too low. Tools that a provider bills beside tokens (searches) are not
part of a model's price.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from importlib.metadata import version

from genai_prices.data import providers as _PROVIDERS  # noqa: N812 - a constant in all but name
from genai_prices.data_snapshot import find_provider_by_id
from genai_prices.types import ModelInfo, ModelPrice, StartDateConstraint, TieredPrices, TimeOfDateConstraint

from tollkeeper.prices import Price, Quote, Tier

VERSION = version("genai-prices")

_KEYS: Mapping[str, tuple[str, ...]] = {
    "input": ("input_mtok",),
    "cache_read": ("cache_read_mtok", "input_mtok"),
    "cache_write_5m": ("cache_write_5m_mtok", "cache_write_mtok", "input_mtok"),
    "cache_write_1h": ("cache_write_1h_mtok", "cache_write_mtok", "input_mtok"),
    "output": ("output_mtok",),
    "reasoning": ("output_reasoning_mtok", "output_mtok"),
    "audio_input": ("input_audio_mtok", "input_mtok"),
    "audio_output": ("output_audio_mtok", "output_mtok"),
    "image": ("input_image_mtok", "input_mtok"),
}
"""For each of our buckets the list's units that hold it, narrowest first."""

_PER_REQUEST = "requests_kcount"
_MEMORY = 4096


def bundled_quote(provider: str, model: str, at: datetime) -> Quote:
    """The list's price of a model at an instant, and for how long it stands."""
    found = _find(provider, model)
    if found is None:
        return Quote(None)
    prices = found.get_prices(at)
    changes = _changes(found, at)
    since = max((change for change in changes if change <= at), default=None)
    until = min((change for change in changes if change > at), default=None)
    return Quote(_price(provider, found, prices), since, until)


def bundled_window(provider: str, model: str) -> int | None:
    """The most tokens that the model takes in, where the list says so."""
    found = _find(provider, model)
    return found.context_window if found else None


@lru_cache(maxsize=_MEMORY)
def _find(provider: str, model: str) -> ModelInfo | None:
    known = find_provider_by_id(_PROVIDERS, provider)
    return known.find_model(model, all_providers=_PROVIDERS) if known else None


def _changes(model: ModelInfo, at: datetime) -> list[datetime]:
    """The instants around `at` at which a model's price may change; the list's dates and times are in UTC."""
    if isinstance(model.prices, ModelPrice):
        return []
    changes: list[datetime] = []
    today = at.astimezone(UTC).date()
    for constraint in (price.constraint for price in model.prices):
        if isinstance(constraint, StartDateConstraint):
            changes.append(datetime.combine(constraint.start_date, datetime.min.time(), UTC))
        elif isinstance(constraint, TimeOfDateConstraint):
            for clock in (constraint.start_time, constraint.end_time):
                aware = clock if clock.tzinfo else clock.replace(tzinfo=UTC)
                changes += [datetime.combine(today + timedelta(days=d), aware).astimezone(UTC) for d in range(-2, 3)]
    return changes


def _price(provider: str, model: ModelInfo, prices: ModelPrice) -> Price | None:
    given = {key: value for key, value in vars(prices).items() if value is not None}
    if not _is_covered(given):
        return None
    starts = {tier.start for price in given.values() if isinstance(price, TieredPrices) for tier in price.tiers}
    per_request = given.get(_PER_REQUEST)
    return Price(
        provider,
        model.id,
        f"genai-prices/{provider}/{model.id}",
        VERSION,
        _table(given, 0),
        _at_size(per_request, 0) / 1000 if per_request is not None else Decimal(0),
        tuple(Tier(start, _table(given, start + 1)) for start in sorted(starts)),
    )


def _is_covered(given: Mapping[str, object]) -> bool:
    """Whether tokens and requests are all that the model is billed by, tools apart."""
    tokens = {key for keys in _KEYS.values() for key in keys}
    billed = {key for key in given if not key.endswith(("_searches_kcount", "_executions_kcount"))}
    by_tokens = {key for key in billed if key.endswith("_mtok")}
    return bool(billed & (tokens | {_PER_REQUEST})) and billed == by_tokens | (billed & {_PER_REQUEST})


def _table(given: Mapping[str, Decimal | TieredPrices], input_tokens: int) -> dict[str, Decimal]:
    """Dollars for a million tokens of each bucket in a request with so much input."""
    return {
        bucket: next((_at_size(given[key], input_tokens) for key in keys if key in given), Decimal(0))
        for bucket, keys in _KEYS.items()
    }


def _at_size(price: Decimal | TieredPrices, input_tokens: int) -> Decimal:
    if isinstance(price, Decimal):
        return price
    reached = [tier.price for tier in price.tiers if input_tokens > tier.start]
    return reached[-1] if reached else price.base
