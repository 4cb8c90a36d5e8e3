"""Token counts in disjoint buckets, and the `Provider-Usage` header that sets them.

The header reads `input=4808,output=10,cache_read=100`: names are those of rule M3, each at most once, in any order,
with whole numbers. What is not named is 0.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Final, Self

from tollkeeper_provider.errors import HeaderError

LARGEST_COUNT: Final = 10**12


@dataclass(frozen=True, slots=True)
class Buckets:
    """Tokens by bucket (M3), disjoint: `input` is fresh input alone, `output` is without reasoning."""

    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0
    audio_input: int = 0
    audio_output: int = 0
    image: int = 0

    def __post_init__(self) -> None:
        for name, count in self.items():
            if count < 0:
                raise ValueError(f"bucket {name} is {count}: token counts are never negative")

    def items(self) -> Iterator[tuple[str, int]]:
        """Every bucket with its count, in the order of M3."""
        return ((name, getattr(self, name)) for name in BUCKET_NAMES)

    def counted(self) -> dict[str, int]:
        """The buckets that hold anything."""
        return {name: count for name, count in self.items() if count}

    @property
    def cache_write(self) -> int:
        """Tokens written to a cache of either lifetime."""
        return self.cache_write_5m + self.cache_write_1h

    @property
    def prompt(self) -> int:
        """All tokens that came in: what OpenAI calls `prompt_tokens`."""
        return self.input + self.cache_read + self.cache_write + self.audio_input + self.image

    @property
    def completion(self) -> int:
        """All tokens that were generated: what OpenAI calls `completion_tokens`."""
        return self.output + self.reasoning + self.audio_output

    @property
    def total(self) -> int:
        """All tokens."""
        return self.prompt + self.completion

    def prompt_side(self) -> Self:
        """The same prompt with nothing generated."""
        return type(self)(
            input=self.input,
            cache_read=self.cache_read,
            cache_write_5m=self.cache_write_5m,
            cache_write_1h=self.cache_write_1h,
            audio_input=self.audio_input,
            image=self.image,
        )

    def generated_first(self, tokens: int) -> Self:
        """The first `tokens` of what was generated, without the prompt: reasoning first, then text, then audio."""
        reasoning = min(self.reasoning, tokens)
        output = min(self.output, tokens - reasoning)
        return type(self)(
            reasoning=reasoning, output=output, audio_output=min(self.audio_output, tokens - reasoning - output)
        )

    def times(self, factor: int) -> Self:
        """Every bucket multiplied."""
        return type(self)(**{name: count * factor for name, count in self.items()})

    def __add__(self, other: Self) -> Self:
        return type(self)(**{name: count + getattr(other, name) for name, count in self.items()})


BUCKET_NAMES: Final = tuple(field.name for field in fields(Buckets))


def parse_usage(header: str) -> Buckets:
    """The counts that a `Provider-Usage` header asks for.

    Raises `HeaderError` for anything but `name=count` pairs of known, different names with whole numbers.
    """
    counts: dict[str, int] = {}
    for pair in header.split(","):
        name, equals, number = (part.strip() for part in pair.partition("="))
        if not equals or name not in BUCKET_NAMES:
            raise HeaderError(
                f"Provider-Usage: {pair.strip()!r} is not a count; write pairs like input=4808,output=10 "
                f"with the names {', '.join(BUCKET_NAMES)}"
            )
        if name in counts:
            raise HeaderError(f"Provider-Usage: {name} stands twice; name each bucket once")
        counts[name] = _count(name, number)
    return Buckets(**counts)


def _count(name: str, number: str) -> int:
    if not (number.isascii() and number.isdigit() and len(number) <= len(str(LARGEST_COUNT))):
        raise HeaderError(f"Provider-Usage: {name}={number} is not a count; write a whole number up to {LARGEST_COUNT}")
    count = int(number)
    if count > LARGEST_COUNT:
        raise HeaderError(f"Provider-Usage: {name}={number} is too large; write a whole number up to {LARGEST_COUNT}")
    return count


def usage_header(buckets: Buckets) -> str:
    """The `Provider-Usage` header that asks for these counts: `parse_usage` reads it back unchanged."""
    counted: Mapping[str, int] = buckets.counted() or {"input": 0}
    return ",".join(f"{name}={count}" for name, count in counted.items())
