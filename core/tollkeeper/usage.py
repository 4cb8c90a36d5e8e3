"""What a request used: disjoint buckets of tokens, the caller it belongs to, and the record that is booked.

The names of the buckets are rule M3's: the same in metrics, in the ledger and in the `Provider-Usage` header.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from operator import attrgetter
from typing import Any, Self

import orjson

from tollkeeper.errors import InvalidValue


@dataclass(frozen=True, slots=True)
class Buckets:
    """Tokens by kind; disjoint, so that a total is their sum (M3)."""

    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0
    audio_input: int = 0
    audio_output: int = 0
    image: int = 0

    @property
    def input_tokens(self) -> int:
        """All tokens that went in, cached or not."""
        return self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h + self.audio_input + self.image

    @property
    def output_tokens(self) -> int:
        """All tokens that came out, reasoning included."""
        return self.output + self.reasoning + self.audio_output

    @property
    def total(self) -> int:
        """Every token of the request."""
        return sum(_counts_of(self))

    def __add__(self, other: "Buckets") -> "Buckets":
        return Buckets(*(getattr(self, name) + getattr(other, name) for name in BUCKETS))

    def nonzero(self) -> dict[str, int]:
        """The buckets that hold something, in their fixed order."""
        return {name: count for name in BUCKETS if (count := getattr(self, name))}

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Self:
        """Buckets of a mapping. Raises `InvalidValue` for unknown names and for counts that are not whole or negative."""
        for name, count in raw.items():
            if name not in BUCKETS:
                raise InvalidValue(f"{name!r} is not a bucket of tokens: use {', '.join(BUCKETS)}")
            if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                raise InvalidValue(
                    f"{name}={count!r} is not a count of tokens: write a whole number that is not negative"
                )
        return cls(**raw)


BUCKETS: tuple[str, ...] = tuple(one.name for one in fields(Buckets))
_counts_of: Callable[[Buckets], tuple[int, ...]] = attrgetter(*BUCKETS)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a request belongs to. Department, team and project are the tenant's ancestors (W2), never stated here."""

    tenant: str
    user: str | None = None
    feature: str | None = None
    assistant: str | None = None
    session: str | None = None
    investigation: str | None = None
    api_key: str | None = None
    namespace: str | None = None
    workload: str | None = None


LONGEST_NAME = 256
"""Characters of what a caller names: itself, or what it uses."""


def is_name(text: str) -> bool:
    """Whether a caller may be named so, or name something so: not empty, of one line, and readable."""
    return 0 < len(text) <= LONGEST_NAME and text.isprintable()


known_caller = lru_cache(maxsize=8192)(Caller)
"""A caller of these fields, the same object as long as it calls often: of most there are many requests."""


class Outcome(StrEnum):
    """How a request ended, as far as metering is concerned."""

    OK = "ok"
    PROVIDER_ERROR = "provider_error"
    CLIENT_GONE = "client_gone"
    PROVIDER_GONE = "provider_gone"
    CUT_OFF = "cut_off"


@dataclass(frozen=True, slots=True)
class Charge:
    """What one request takes from one account: `amount` in the account's own unit; `held` was set aside for it."""

    account: str
    amount: int
    held: int


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """One settled request, as the meter writes it down; `id` makes booking it twice impossible (I3).

    `cost` is nano-dollars, `None` when no price is known for the model (M6). `price` names the price and its version, and
    `unit_prices` are the prices themselves (`Price.unit_prices`); records of older releases have none.
    `holder` is the lease holder whose leases `charges` come out of. Times are UTC.
    """

    id: str
    upstream_id: str | None
    holder: str
    caller: Caller
    provider: str
    model: str
    tool: str | None
    buckets: Buckets
    cost: int | None
    price: str | None
    admitted_at: datetime
    finished_at: datetime
    status: int
    outcome: Outcome
    streamed: bool
    estimated: bool
    charges: tuple[Charge, ...]
    unit_prices: Mapping[str, str] = field(default_factory=dict)
    _text: bytes = field(default=b"", init=False, repr=False, compare=False)

    @property
    def text(self) -> bytes:
        """The record as spool and chain have it: JSON with its keys in their order. It is written once.

        Raises `orjson.JSONEncodeError` for numbers beyond 64 bits.
        """
        if not self._text:
            object.__setattr__(self, "_text", _written(self))
        return self._text

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` gives the same record back."""
        raw = {name: getattr(self, name) for name in _PLAIN_FIELDS}
        raw["buckets"] = self.buckets.nonzero()
        raw["caller"] = {name: value for name in _CALLER_FIELDS if (value := getattr(self.caller, name)) is not None}
        raw["admitted_at"], raw["finished_at"] = self.admitted_at.isoformat(), self.finished_at.isoformat()
        raw["charges"] = [{"account": c.account, "amount": c.amount, "held": c.held} for c in self.charges]
        return raw

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """The record that `to_json` or `text` wrote. Raises `InvalidValue` when it is damaged."""
        try:
            known = dict(raw)
            if "request_id" in known:
                known["id"] = known.pop("request_id")
            known["caller"] = known_caller(**known["caller"])
            known["buckets"] = Buckets.parse(known["buckets"])
            known["admitted_at"] = datetime.fromisoformat(known["admitted_at"])
            known["finished_at"] = datetime.fromisoformat(known["finished_at"])
            known["outcome"] = Outcome(known["outcome"])
            known["charges"] = tuple(Charge(**charge) for charge in known["charges"])
            record = cls(**known)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidValue(f"a usage record is damaged: {error!r}") from error
        record._check_amounts()
        return record

    def _check_amounts(self) -> None:
        amounts = [("cost", self.cost or 0)]
        for one in self.charges:
            amounts += [("amount", one.amount), ("held", one.held)]
        for name, amount in amounts:
            if type(amount) is not int:
                raise InvalidValue(f"{name}={amount!r} is not an amount of whole nano-dollars or tokens")


_CALLER_FIELDS = tuple(one.name for one in fields(Caller))
_WRITTEN_APART = {"buckets", "caller", "admitted_at", "finished_at", "charges", "_text"}
_PLAIN_FIELDS = tuple(one.name for one in fields(UsageRecord) if one.name not in _WRITTEN_APART)


_BUCKETS_SORTED, _CALLER_SORTED = sorted(BUCKETS), sorted(_CALLER_FIELDS)
_sorted_counts_of, _sorted_caller_of = attrgetter(*_BUCKETS_SORTED), attrgetter(*_CALLER_SORTED)


def _written(record: UsageRecord) -> bytes:
    """`UsageRecord.text`. Dictionaries with their keys in order are written several times as fast as data classes are."""
    counts, who = _sorted_counts_of(record.buckets), _sorted_caller_of(record.caller)
    return orjson.dumps(
        {
            "admitted_at": record.admitted_at,
            "buckets": {name: count for name, count in zip(_BUCKETS_SORTED, counts, strict=True) if count},
            "caller": {name: value for name, value in zip(_CALLER_SORTED, who, strict=True) if value is not None},
            "charges": [{"account": one.account, "amount": one.amount, "held": one.held} for one in record.charges],
            "cost": record.cost,
            "estimated": record.estimated,
            "finished_at": record.finished_at,
            "holder": record.holder,
            "model": record.model,
            "outcome": record.outcome,
            "price": record.price,
            "provider": record.provider,
            "request_id": record.id,
            "status": record.status,
            "streamed": record.streamed,
            "tool": record.tool,
            "unit_prices": dict(sorted(record.unit_prices.items())),
            "upstream_id": record.upstream_id,
        }
    )
