"""Prices: what a request costs, to the nano-dollar, and the most that it can cost.

A price list answers for one provider, model and instant. Entries of price books come first, an exact name before a
glob, of those the newest that applies; then the bundled list. A model that neither knows is unpriced: `None`, never 0
(M6).

Exactness (M2): a price is kept as whole fractions of a nano-dollar for each token, so a cost is one sum of integers and
is rounded once, half up.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import cache

from tollkeeper.amounts import NANODOLLARS_PER_DOLLAR
from tollkeeper.errors import InvalidValue
from tollkeeper.usage import BUCKETS, Buckets

TOKENS_PER_PRICE = 10**6
"""Prices are dollars for a million tokens."""

INPUT_SIDE = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "audio_input", "image")
OUTPUT_SIDE = ("output", "reasoning", "audio_output")

STANDS_FOR: Mapping[str, str] = {
    "cache_read": "input",
    "cache_write_5m": "input",
    "cache_write_1h": "cache_write_5m",
    "audio_input": "input",
    "image": "input",
    "reasoning": "output",
    "audio_output": "output",
}
"""A bucket without a price of its own costs what this one costs."""

REQUEST = "request"
"""Among unit prices: what a request costs beside its tokens."""

PRICE_BOUND = 100_000
"""Dollars that no price reaches. So a request costs less than 10^18 nano-dollars for each 2^33 tokens, which 64 bits hold."""

_MEMORY = 4096  # answers remembered by one list; models are named by callers, so the number must have a bound
_FINEST = 18  # decimals of a price that are taken; finer ones are refused, so that fractions stay whole and small


@dataclass(frozen=True, slots=True)
class Tier:
    """Prices of a whole request whose input is larger than `above` tokens (long contexts)."""

    above: int
    per_million: Mapping[str, Decimal]


@dataclass(frozen=True, slots=True)
class Price:
    """What one model costs: dollars for a million tokens of each bucket, and dollars for each request.

    `name` and `version` say where the price comes from; `label` is what a usage record carries. Buckets that are left
    out cost what their kind costs (`STANDS_FOR`). Raises `InvalidValue` for unknown buckets and for prices that are
    negative, not finite, `PRICE_BOUND` or more, or finer than 18 decimals.
    """

    provider: str
    model: str
    name: str
    version: str
    per_million: Mapping[str, Decimal]
    per_request: Decimal = Decimal(0)
    tiers: tuple[Tier, ...] = ()
    _scale: int = field(init=False, repr=False, compare=False)
    _request: int = field(init=False, repr=False, compare=False)
    _rates: tuple[tuple[int, tuple[int, ...]], ...] = field(init=False, repr=False, compare=False)
    _written: tuple[tuple[int, tuple[str, ...]], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        tiers = (Tier(-1, {}), *sorted(self.tiers, key=lambda tier: tier.above))
        tables = [(tier.above, _complete({**self.per_million, **tier.per_million}, self.name)) for tier in tiers]
        request = _checked(self.per_request, "perRequest", self.name)
        per_token = [(above, [price / TOKENS_PER_PRICE for price in table]) for above, table in tables]
        decimals = max(_decimals(price) for _, prices in per_token for price in (*prices, request))
        scale = 10 ** max(0, decimals - 9)
        rates = [(above, tuple(_whole(price, scale) for price in prices)) for above, prices in per_token]
        object.__setattr__(self, "_scale", scale)
        object.__setattr__(self, "_request", _whole(request, scale))
        object.__setattr__(self, "_rates", tuple(rates))
        written = [(above, tuple(f"{price:f}" for price in table)) for above, table in tables]
        object.__setattr__(self, "_written", tuple(written))

    @property
    def label(self) -> str:
        """The price's name and version, as usage records carry it."""
        return f"{self.name}@{self.version}"

    def cost(self, buckets: Buckets) -> int:
        """Nano-dollars of a request with these tokens: exact over all buckets, rounded once, half up (M2)."""
        tokens = buckets.input_tokens
        rates = next(rates for above, rates in reversed(self._rates) if tokens > above)
        total = self._request
        for rate, bucket in zip(rates, BUCKETS, strict=True):
            count: int = getattr(buckets, bucket)
            total += rate * count
        return (2 * total + self._scale) // (2 * self._scale)

    def unit_prices(self, buckets: Buckets) -> dict[str, str]:
        """Dollars for a million tokens of each bucket that a request used, and as `request` for itself, as exact decimals.

        What `cost` was made of: it can be computed again from these and the buckets when the price is long gone.
        """
        tokens = buckets.input_tokens
        table = next(table for above, table in reversed(self._written) if tokens > above)
        used = {bucket: price for bucket, price in zip(BUCKETS, table, strict=True) if getattr(buckets, bucket)}
        return used | {REQUEST: f"{self.per_request:f}"} if self.per_request else used

    def bound(self, input_tokens: int, output_tokens: int) -> int:
        """Nano-dollars that no request with at most so many tokens in and out exceeds, whatever its buckets are."""
        reached = [rates for above, rates in self._rates if input_tokens > above]
        dearest_in = max(rates[i] for rates in reached for i in _INPUT_AT)
        dearest_out = max(rates[i] for rates in reached for i in _OUTPUT_AT)
        return -(-(self._request + dearest_in * input_tokens + dearest_out * output_tokens) // self._scale)


_INPUT_AT = tuple(BUCKETS.index(name) for name in INPUT_SIDE)
_OUTPUT_AT = tuple(BUCKETS.index(name) for name in OUTPUT_SIDE)


@dataclass(frozen=True, slots=True)
class PriceEntry:
    """One model's price in a price book. `provider` and `model` may be globs; it applies from `effective_from` on."""

    provider: str
    model: str
    per_million: Mapping[str, Decimal]
    per_request: Decimal = Decimal(0)
    effective_from: datetime | None = None
    book: str = "default"
    version: str = "1"
    context_window: int | None = None

    @property
    def is_exact(self) -> bool:
        """Whether it names one model."""
        return not any(sign in self.provider + self.model for sign in "*?[")

    def names(self, provider: str, model: str) -> bool:
        """Whether it is about this model of this provider."""
        return fnmatchcase(provider, self.provider) and fnmatchcase(model, self.model)

    def price(self, provider: str, model: str) -> Price:
        """Its price for a model that it names. Raises `InvalidValue` for a price that cannot be."""
        name = f"PriceBook/{self.book}/{self.provider}/{self.model}"
        return Price(provider, model, name, self.version, self.per_million, self.per_request)


@dataclass(frozen=True, slots=True)
class ToolPrice:
    """What one call of a tool costs, in dollars (R56)."""

    name: str
    per_call: Decimal
    effective_from: datetime | None = None
    book: str = "default"
    version: str = "1"

    @property
    def label(self) -> str:
        """The price's name and version, as usage records carry it."""
        return f"PriceBook/{self.book}/tools/{self.name}@{self.version}"

    def cost(self, calls: int) -> int:
        """Nano-dollars of so many calls, rounded once, half up (M2)."""
        return Price("", "", self.label, self.version, {}, self.per_call * calls).cost(Buckets())


@dataclass(frozen=True, slots=True)
class Quote:
    """A price and the span `[since, until)` in which it is the answer; open where None."""

    price: Price | None
    since: datetime | None = None
    until: datetime | None = None

    def holds_at(self, at: datetime) -> bool:
        """Whether it answers for that instant."""
        return (self.since is None or self.since <= at) and (self.until is None or at < self.until)

    def within(self, since: datetime | None, until: datetime | None) -> "Quote":
        """The same answer for no longer than `[since, until)`."""
        latest = max((t for t in (self.since, since) if t), default=None)
        return Quote(self.price, latest, min((t for t in (self.until, until) if t), default=None))


BaseQuote = Callable[[str, str, datetime], Quote]
BaseWindow = Callable[[str, str], int | None]


def _nothing(_provider: str, _model: str, _at: datetime) -> Quote:
    return Quote(None)


def _no_window(_provider: str, _model: str) -> int | None:
    return None


@dataclass(frozen=True, slots=True)
class PriceList:
    """All prices in force: the entries of price books over a base list. Build one with `bundled`, then `with_books`.

    `fallback` is the price of models that nothing else names; where it is set, `find` always answers (M6).
    """

    entries: tuple[PriceEntry, ...] = ()
    tools: tuple[ToolPrice, ...] = ()
    fallback: Price | None = None
    base: BaseQuote = _nothing
    base_window: BaseWindow = _no_window
    _known: dict[tuple[str, str], Quote] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def bundled(cls) -> "PriceList":
        """The list that ships with the program, without price books. Reads no network; the first call takes 0.5 s."""
        return _bundled()

    def with_books(
        self,
        entries: Sequence[PriceEntry],
        tools: Sequence[ToolPrice] = (),
        *,
        fallback: Price | None = None,
    ) -> "PriceList":
        """This list's base under these books. Raises `InvalidValue` for an entry whose prices cannot be."""
        for entry in entries:
            entry.price(entry.provider, entry.model)
        for tool in tools:
            tool.cost(1)
        return replace(self, entries=tuple(entries), tools=tuple(tools), fallback=fallback)

    def find(self, provider: str, model: str, at: datetime) -> Price | None:
        """The price of a model at an instant (aware); `None` where the model is unpriced (M6)."""
        quote = self._known.get((provider, model))
        if quote is None or not quote.holds_at(at):
            quote = self._quote(provider, model, at)
            if len(self._known) >= _MEMORY:
                self._known.clear()
            self._known[provider, model] = quote
        return quote.price

    def tool(self, name: str, at: datetime) -> ToolPrice | None:
        """The price of a tool's call at an instant; `None` where it has none."""
        return max(
            (t for t in self.tools if t.name == name and _applies(t.effective_from, at)),
            key=lambda t: _instant(t.effective_from),
            default=None,
        )

    def context_window(self, provider: str, model: str) -> int | None:
        """The most tokens that a model takes in, where that is known."""
        own = [e for e in self.entries if e.context_window is not None and e.names(provider, model)]
        best = max(own, key=_rank, default=None)
        return best.context_window if best else self.base_window(provider, model)

    def _quote(self, provider: str, model: str, at: datetime) -> Quote:
        named = [entry for entry in self.entries if entry.names(provider, model)]
        changes = [entry.effective_from for entry in named if entry.effective_from]
        since = max((change for change in changes if change <= at), default=None)
        until = min((change for change in changes if change > at), default=None)
        best = max((e for e in named if _applies(e.effective_from, at)), key=_rank, default=None)
        if best is not None:
            return Quote(best.price(provider, model), since, until)
        base = self.base(provider, model, at)
        return (base if base.price else replace(base, price=self.fallback)).within(since, until)


@cache
def _bundled() -> PriceList:
    # Imported here: the list is large, and programs that never price anything should not load it.
    from tollkeeper.price_data import bundled_quote, bundled_window

    return PriceList(base=bundled_quote, base_window=bundled_window)


def _rank(entry: PriceEntry) -> tuple[bool, datetime, int]:
    """Exact before glob, then the newest, then the longest pattern."""
    return entry.is_exact, _instant(entry.effective_from), len(entry.provider) + len(entry.model)


def _instant(when: datetime | None) -> datetime:
    return when or datetime.min.replace(tzinfo=UTC)


def _applies(since: datetime | None, at: datetime) -> bool:
    return since is None or since <= at


def _complete(per_million: Mapping[str, Decimal], name: str) -> list[Decimal]:
    """A price for each bucket, in the order of `BUCKETS`."""
    if unknown := per_million.keys() - set(BUCKETS):
        raise InvalidValue(f"{name} prices {min(unknown)!r}, which is not a bucket of tokens: use {', '.join(BUCKETS)}")

    def of(bucket: str) -> Decimal:
        if bucket in per_million:
            return _checked(per_million[bucket], bucket, name)
        return of(STANDS_FOR[bucket]) if bucket in STANDS_FOR else Decimal(0)

    return [of(bucket) for bucket in BUCKETS]


def _checked(price: Decimal, what: str, name: str) -> Decimal:
    if not price.is_finite() or price < 0 or _decimals(price) > _FINEST or price >= PRICE_BOUND:
        raise InvalidValue(
            f"{name} has {what}={price}, which is not a price: write dollars that are not negative, "
            f"below {PRICE_BOUND}, with at most {_FINEST} decimals"
        )
    return price


def _whole(dollars: Decimal, scale: int) -> int:
    """Nano-dollars times `scale`, which was chosen so that nothing is lost."""
    return int(dollars * NANODOLLARS_PER_DOLLAR * scale)


def _decimals(price: Decimal) -> int:
    exponent = price.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0
