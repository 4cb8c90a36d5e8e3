"""PriceBook: prices of models and tools over the bundled price list (R10, M6)."""

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tollkeeper.resources.meta import AGE, API_VERSION, Column, Kind, Observed, Part, Resource, Rule, Status
from tollkeeper.resources.wire import CallerName, Glob, MapBy, Price, Time, WholeNumber


class UnknownModels(StrEnum):
    """What is done with requests for a model that has no price (M6)."""

    REFUSE = "Refuse"
    FALLBACK = "Fallback"


class PerMillion(Part):
    """Dollars for a million tokens of each bucket, as quoted decimal strings such as "1.25". A bucket without a price of
    its own costs what its kind costs."""

    input: Price
    """Fresh input tokens."""
    output: Price
    """Output tokens; "0" for models that answer without any, such as embeddings."""
    cache_read: Price | None = None
    """Input tokens read from the provider's cache; left out: as input."""
    cache_write: Price | None = None
    """Input tokens written to the provider's cache for five minutes; left out: as input."""
    cache_write_1h: Price | None = Field(default=None, alias="cacheWrite1h")
    """Input tokens written to the provider's cache for an hour; left out: as cacheWrite."""
    reasoning: Price | None = None
    """Reasoning tokens; left out: as output."""
    audio_input: Price | None = None
    """Audio that goes in; left out: as input."""
    audio_output: Price | None = None
    """Audio that comes out; left out: as output."""
    image: Price | None = None
    """Images that go in; left out: as input."""

    def by_bucket(self) -> Mapping[str, Decimal]:
        """Dollars for a million tokens of each bucket (M3) that has a price of its own, exactly."""
        texts = {
            "input": self.input,
            "cache_read": self.cache_read,
            "cache_write_5m": self.cache_write,
            "cache_write_1h": self.cache_write_1h,
            "output": self.output,
            "reasoning": self.reasoning,
            "audio_input": self.audio_input,
            "audio_output": self.audio_output,
            "image": self.image,
        }
        return {bucket: Decimal(text) for bucket, text in texts.items() if text is not None}


class FallbackPrice(Part):
    """What a model without a price is charged."""

    per_million: PerMillion
    """Dollars for a million tokens, as quoted decimal strings such as "1.25"."""
    per_request: Price = "0"
    """Dollars for each request beside its tokens, as a quoted decimal string such as "0.001"."""

    @property
    def dollars_per_request(self) -> Decimal:
        """Dollars for each request beside its tokens, exactly."""
        return Decimal(self.per_request)


class ModelPrice(FallbackPrice):
    """The price of the models that a glob takes."""

    provider: Glob
    """The provider by name or glob, such as openai."""
    model: Glob
    """The model by name or glob, such as "gpt-5-internal*"."""
    effective_from: Time | None = None
    """From when the price holds; left out: always. What was charged before is never priced anew."""
    context_window: Annotated[int, WholeNumber(1, 10**9)] | None = None
    """The most tokens the model takes in. It bounds what content can cost that a request only refers to."""


class ToolPrice(Part):
    """The price of a tool (R56)."""

    name: CallerName
    """The tool's name, as callers write it."""
    per_call: Price
    """Dollars for each call, as a quoted decimal string such as "0.04"."""

    @property
    def dollars_per_call(self) -> Decimal:
        """Dollars for each call, exactly."""
        return Decimal(self.per_call)


class PriceBookSpec(Part):
    """Prices that come before the bundled price list."""

    models: tuple[ModelPrice, ...] = Field(
        default=(), max_length=512, json_schema_extra={"x-kubernetes-list-type": "atomic"}
    )
    """Prices by provider and model."""
    tools: Annotated[tuple[ToolPrice, ...], MapBy(("name",))] = Field(default=(), max_length=512)
    """Prices of tools by name."""
    unknown_models: UnknownModels = UnknownModels.REFUSE
    """Models that neither this nor the bundled list prices. Refuse: refused wherever a Hard USD limit applies, else
    counted and marked unpriced. Fallback: charged at `fallback`."""
    fallback: FallbackPrice | None = None
    """What models without a price are charged."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            says="unknownModels Fallback needs fallback prices, and they need it: give both or neither",
            cel="(self.unknownModels == 'Fallback') == has(self.fallback)",
            holds=lambda self: (self.unknown_models is UnknownModels.FALLBACK) == (self.fallback is not None),
            path="fallback",
        ),
    )


class PriceBookColumns(Observed):
    """What `kubectl get` shows."""

    models: int | None = None
    """How many prices of models there are."""
    tools: int | None = None
    """How many prices of tools there are."""


class PriceBookStatus(Status):
    """Whether the prices are in force."""

    columns: PriceBookColumns = PriceBookColumns()
    """What `kubectl get` shows."""


class PriceBook(Resource):
    """Prices of models and tools, over the price list that comes with Tollkeeper. History is never priced anew."""

    api_version: Literal["tollkeeper.dev/v1alpha1"] = API_VERSION
    kind: Literal["PriceBook"] = "PriceBook"
    spec: PriceBookSpec
    status: PriceBookStatus = PriceBookStatus()

    definition: ClassVar[Kind] = Kind(
        kind="PriceBook",
        plural="pricebooks",
        short_name="pb",
        namespaced=False,
        columns=(
            Column("Models", ".status.columns.models", "integer", "How many prices of models there are"),
            Column("Tools", ".status.columns.tools", "integer", "How many prices of tools there are"),
            Column("Ready", '.status.conditions[?(@.type=="Ready")].status', says="Whether the prices are in force"),
            AGE,
        ),
    )
