"""What an answer costs, computed without any of Tollkeeper's own code.

A price file (YAML or JSON) comes first, then the public list that `genai-prices` bundles, then the file's `fallback`; a
model that none of them knows costs null. The file has the shape of a PriceBook's `spec` (a whole PriceBook is read too;
its tools are passed over):

    models:
    - {model: "gpt-5-internal*", perMillion: {input: "1.25", output: "10", cacheRead: "0.125"}, perRequest: "0.001"}

Prices are US dollars as decimal strings. A bucket without a price of its own costs what its parent costs: caches,
audio and images as `input`, reasoning and audio as `output`. Exact names go before patterns, then the latest
`effectiveFrom` that has come, then the longest pattern. Costs are exact and rounded once, half up (M2).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Final

import yaml
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from tollkeeper_provider.buckets import Buckets
from tollkeeper_provider.errors import PricesError

_NANODOLLARS: Final = 10**9
_MILLION: Final = 10**6
_ALWAYS: Final = datetime.min.replace(tzinfo=UTC)

Dollars = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel)


class PerMillion(_Strict):
    """US dollars for a million tokens of each bucket."""

    input: Dollars
    output: Dollars
    cache_read: Dollars | None = None
    cache_write: Dollars | None = None
    cache_write_1h: Dollars | None = Field(default=None, alias="cacheWrite1h")
    reasoning: Dollars | None = None
    audio_input: Dollars | None = None
    audio_output: Dollars | None = None
    image: Dollars | None = None

    def cost(self, buckets: Buckets) -> Decimal:
        """The exact cost in dollars."""
        written = _or(self.cache_write, self.input)
        priced = (
            (buckets.input, self.input),
            (buckets.cache_read, _or(self.cache_read, self.input)),
            (buckets.cache_write_5m, written),
            (buckets.cache_write_1h, _or(self.cache_write_1h, written)),
            (buckets.audio_input, _or(self.audio_input, self.input)),
            (buckets.image, _or(self.image, self.input)),
            (buckets.output, self.output),
            (buckets.reasoning, _or(self.reasoning, self.output)),
            (buckets.audio_output, _or(self.audio_output, self.output)),
        )
        return sum((tokens * price for tokens, price in priced), Decimal(0)) / _MILLION


def _or(price: Decimal | None, parent: Decimal) -> Decimal:
    return parent if price is None else price


class FallbackPrice(_Strict):
    """The price of a request, of whatever model."""

    per_million: PerMillion
    per_request: Dollars = Decimal(0)

    def cost(self, buckets: Buckets) -> Decimal:
        """The exact cost of one request in dollars."""
        return self.per_request + self.per_million.cost(buckets)


class ModelPrice(FallbackPrice):
    """The price of the models that match `provider` and `model`, names or globs."""

    model: str = Field(min_length=1)
    provider: str = "openai"
    effective_from: AwareDatetime | None = None
    context_window: int | None = None

    def rank(self) -> tuple[bool, datetime, int]:
        """Greater for the entry that goes before."""
        names = self.provider + self.model
        return not any(sign in names for sign in "*?["), self.effective_from or _ALWAYS, len(names)


class _PriceFile(BaseModel):
    """The prices of a price file; what else a PriceBook's spec holds (tools) is not sold here."""

    models: tuple[ModelPrice, ...]
    fallback: FallbackPrice | None = None


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Prices from a file, over the public list."""

    entries: tuple[ModelPrice, ...] = ()
    fallback: FallbackPrice | None = None

    def cost_nanodollars(self, model: str, buckets: Buckets, at: datetime) -> int | None:
        """The cost of one answer, rounded half up to a nano-dollar; None where no price is known."""
        entry = self._entry(model, at)
        dollars = _listed(model, buckets, at) if entry is None else entry.cost(buckets)
        if dollars is None and self.fallback is not None:
            dollars = self.fallback.cost(buckets)
        return None if dollars is None else int((dollars * _NANODOLLARS).to_integral_value(ROUND_HALF_UP))

    def _entry(self, model: str, at: datetime) -> ModelPrice | None:
        fitting = (
            entry
            for entry in self.entries
            if fnmatchcase("openai", entry.provider)
            and fnmatchcase(model, entry.model)
            and (entry.effective_from is None or entry.effective_from <= at)
        )
        return max(fitting, key=ModelPrice.rank, default=None)


def _why(error: Exception) -> str:
    """In one line, without the path that stands in front already."""
    return (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split())


def read_prices(path: Path) -> PriceTable:
    """Read a price file. Raises `PricesError` that names the file and the field."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PricesError(f"prices {path}: cannot be read: {_why(error)}; name another with --prices") from error
    spec: Any = content.get("spec", content) if isinstance(content, Mapping) else content
    try:
        file = _PriceFile.model_validate(spec)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise PricesError(f"prices {path}: {field}: {first['msg']}; prices stand under models:") from error
    return PriceTable(file.models, file.fallback)


def _listed(model: str, buckets: Buckets, at: datetime) -> Decimal | None:
    """The cost by the public list; None where it does not know the model.

    Imported here: the list takes tens of megabytes, which a price file that names every model saves.
    """
    from genai_prices import Usage, calc_price

    usage = Usage(
        input_tokens=buckets.prompt,
        cache_read_tokens=buckets.cache_read,
        cache_write_tokens=buckets.cache_write,
        input_audio_tokens=buckets.audio_input,
        input_image_tokens=buckets.image,
        output_tokens=buckets.completion,
        output_reasoning_tokens=buckets.reasoning,
        output_audio_tokens=buckets.audio_output,
        # The buckets are disjoint: what is cached is neither audio nor image here, and what is reasoned is not audio.
        cache_audio_read_tokens=0,
        cache_audio_write_tokens=0,
        cache_image_read_tokens=0,
        cache_image_write_tokens=0,
        output_audio_reasoning_tokens=0,
    )
    try:
        return calc_price(usage, model, provider_id="openai", genai_request_timestamp=at).total_price
    except LookupError:
        return None
