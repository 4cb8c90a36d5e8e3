"""What an answer costs, computed without any of Tollkeeper's own code.

A price file (YAML or JSON) comes first, then the public list that `genai-prices` bundles; a model that neither knows
costs null. The file has the shape of a PriceBook's `spec` (a whole PriceBook is read too; its tools are passed over):

    models:
    - {model: "gpt-5-internal*", perMillion: {input: "1.25", output: "10", cacheRead: "0.125"}, perRequest: "0.001"}

Prices are US dollars as decimal strings. A bucket without a price of its own costs what its parent costs: caches,
audio and images as `input`, reasoning and audio as `output`. An exact name goes before a pattern, a longer pattern
before a shorter; of the same name the latest `effectiveFrom` that has come. Costs are exact and rounded
once, half up (M2).
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
    reasoning: Dollars | None = None
    audio_input: Dollars | None = None
    audio_output: Dollars | None = None
    image: Dollars | None = None

    def cost(self, buckets: Buckets) -> Decimal:
        """The exact cost in dollars."""
        priced = (
            (buckets.input, self.input),
            (buckets.cache_read, _or(self.cache_read, self.input)),
            (buckets.cache_write, _or(self.cache_write, self.input)),
            (buckets.audio_input, _or(self.audio_input, self.input)),
            (buckets.image, _or(self.image, self.input)),
            (buckets.output, self.output),
            (buckets.reasoning, _or(self.reasoning, self.output)),
            (buckets.audio_output, _or(self.audio_output, self.output)),
        )
        return sum((tokens * price for tokens, price in priced), Decimal(0)) / _MILLION


def _or(price: Decimal | None, parent: Decimal) -> Decimal:
    return parent if price is None else price


class ModelPrice(_Strict):
    """The price of the models of `provider` that match `model`, a name or a glob."""

    model: str = Field(min_length=1)
    per_million: PerMillion
    per_request: Dollars = Decimal(0)
    provider: str = "openai"
    effective_from: AwareDatetime | None = None

    def rank(self) -> tuple[bool, int, datetime]:
        """Greater for the entry that goes before."""
        exact = not any(sign in self.model for sign in "*?[")
        return exact, len(self.model), self.effective_from or _ALWAYS


class _PriceFile(BaseModel):
    """The models of a price file; what else a PriceBook's spec holds (tools, unknown models) is not sold here."""

    models: tuple[ModelPrice, ...]


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Prices from a file, over the public list."""

    entries: tuple[ModelPrice, ...] = ()

    def cost_nanodollars(self, model: str, buckets: Buckets, at: datetime) -> int | None:
        """The cost of one answer, rounded half up to a nano-dollar; None where no price is known."""
        entry = self._entry(model, at)
        dollars = _listed(model, buckets, at) if entry is None else entry.per_request + entry.per_million.cost(buckets)
        return None if dollars is None else int((dollars * _NANODOLLARS).to_integral_value(ROUND_HALF_UP))

    def _entry(self, model: str, at: datetime) -> ModelPrice | None:
        fitting = (
            entry
            for entry in self.entries
            if entry.provider == "openai"
            and fnmatchcase(model, entry.model)
            and (entry.effective_from is None or entry.effective_from <= at)
        )
        return max(fitting, key=ModelPrice.rank, default=None)


def read_prices(path: Path) -> PriceTable:
    """Read a price file. Raises `PricesError` that names the file and the field."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PricesError(f"prices {path}: cannot be read: {' '.join(str(error).split())}") from error
    spec: Any = content.get("spec", content) if isinstance(content, Mapping) else content
    try:
        return PriceTable(_PriceFile.model_validate(spec).models)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise PricesError(f"prices {path}: {field}: {first['msg']}; prices stand under models:") from error


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
