"""Traffic like that of a production trace, and the callers that send it with the official client.

The generator draws from the published quantiles of the Azure LLM inference trace 2023, code completion (see `trace`):
between two quantiles the logarithm is interpolated, bent by one exponent for each column so that the mean agrees too.
Context and generated tokens are independent, as they are in the trace. Draws are stratified: each of `count` equal
slices of probability is hit once, so that a few hundred rows already have the quantiles and the mean of an hour.
"""

import asyncio
import math
import time
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from types import MappingProxyType
from typing import Final

import openai
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletionMessageParam

from tollkeeper_demo.trace import TrafficRow

BYTES_PER_TOKEN: Final = 4
_ROWS_PER_SECOND: Final = 8_819 / 3_600
_START: Final = datetime(2026, 1, 1, tzinfo=UTC)
_LEAST_OUTPUT_LIMIT: Final = 16
_PHRASES: Final = (
    "the request reads one record and returns the next value in order when the caller asks for more of it "
    "a function takes two numbers and gives back their sum unless either is missing from the list we keep "
    "write a test that opens the file counts every line and closes it again even after an error has come up "
)


@dataclass(frozen=True, slots=True)
class TokenDistribution:
    """Token counts by quantile. `bend` > 1 moves weight to the lower end of each interval between two quantiles."""

    probabilities: tuple[float, ...]
    values: tuple[int, ...]
    bend: float

    def at(self, probability: float) -> int:
        """The count below which this share (0 to 1) of requests lies."""
        last = len(self.probabilities) - 2
        left = min(bisect_right(self.probabilities, probability) - 1, last)
        low, high = self.probabilities[left], self.probabilities[left + 1]
        way = ((probability - low) / (high - low)) ** self.bend
        return round(self.values[left] * math.pow(self.values[left + 1] / self.values[left], way))


_PROBABILITIES: Final = (0.0, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
CONTEXT_TOKENS: Final = TokenDistribution(_PROBABILITIES, (3, 75, 578, 1469, 2744, 5186, 7302, 7436, 7437), 1.02)
GENERATED_TOKENS: Final = TokenDistribution(_PROBABILITIES, (6, 6, 9, 13, 24, 55, 90, 249, 1899), 1.95)


def generate(count: int, seed: int, start: datetime = _START) -> list[TrafficRow]:
    """`count` rows with the trace's quantiles, means and rate of arrival; the same seed gives the same rows."""
    random = Random(seed)  # noqa: S311 - traffic, not secrets
    contexts = _stratified(CONTEXT_TOKENS, count, random)
    generated = _stratified(GENERATED_TOKENS, count, random)
    rows, at = [], start
    for context_tokens, generated_tokens in zip(contexts, generated, strict=True):
        at += timedelta(seconds=random.expovariate(_ROWS_PER_SECOND))
        rows.append(TrafficRow(context_tokens, generated_tokens, at))
    return rows


def endless(seed: int, block: int = 500) -> Iterator[TrafficRow]:
    """Rows without end, drawn in blocks that each have the trace's quantiles."""
    start = _START
    while True:
        rows = generate(block, seed, start)
        yield from rows
        seed, start = seed + 1, rows[-1].at


def _stratified(distribution: TokenDistribution, count: int, random: Random) -> list[int]:
    values = [distribution.at((stratum + random.random()) / count) for stratum in range(count)]
    random.shuffle(values)
    return values


def prompt_text(tokens: int, offset: int = 0) -> str:
    """Plain words of exactly four bytes a token, so that the honest count of the text is `tokens`.

    `offset` chooses where in an endless text it begins: prompts of one length differ.
    """
    length = tokens * BYTES_PER_TOKEN
    begin = offset % len(_PHRASES)
    return (_PHRASES * ((begin + length) // len(_PHRASES) + 1))[begin : begin + length]


def output_limit(row: TrafficRow) -> int:
    """The `max_completion_tokens` a careful caller sets: the next power of two, at least 16."""
    return max(_LEAST_OUTPUT_LIMIT, 1 << max(row.generated_tokens - 1, 0).bit_length())


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """A row with all that the caller chooses: a number in order, a model, and whether to stream."""

    number: int
    row: TrafficRow
    model: str
    stream: bool


def plan(
    rows: Iterable[TrafficRow], models: Sequence[str], stream_share: float = 0.5, seed: int = 0
) -> Iterator[PlannedRequest]:
    """Give each row one of `models` and, for `stream_share` of them, a stream: seeded, independent of each other."""
    random = Random(seed)  # noqa: S311 - traffic, not secrets
    for number, row in enumerate(rows):
        yield PlannedRequest(number, row, random.choice(models), random.random() < stream_share)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one request: its usage as the client saw it, or the class and code of the client's exception."""

    request: PlannedRequest
    at: datetime
    seconds: float
    response_id: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error: openai.APIError | None = None

    @property
    def refusal(self) -> tuple[str, str] | None:
        """The exception's class and code (empty where it has none); None when the request was answered."""
        return None if self.error is None else (type(self.error).__name__, self.error.code or "")


@dataclass(frozen=True, slots=True)
class Summary:
    """All results counted. `refused` counts by the exception's class and code; seconds are wall-clock."""

    sent: int
    ok: int
    refused: Mapping[tuple[str, str], int]
    prompt_tokens: int
    completion_tokens: int
    started_at: datetime
    first_refusal_at: datetime | None
    seconds: float
    median_seconds: float
    p99_seconds: float
    slowest_seconds: float

    @property
    def tokens(self) -> int:
        """All tokens that answered requests used, as the client was told."""
        return self.prompt_tokens + self.completion_tokens


async def send(
    rows: Iterable[TrafficRow],
    base_url: str,
    api_key: str,
    *,
    models: Sequence[str] = ("gpt-5-mini",),
    callers: int = 16,
    stream_share: float = 0.5,
    seed: int = 0,
    on_result: Callable[[Result], None] | None = None,
    until: Callable[[Result], bool] | None = None,
    stop: asyncio.Event | None = None,
    max_retries: int = 0,
    timeout_seconds: float = 60.0,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Summary:
    """Send the rows with the official client, `callers` at once, and count what came back.

    Each request carries its row as `Provider-Usage`, so that the simulated provider counts exactly the row. Sending
    ends with the rows, when `until` says so of a result, or when `stop` is set; what is under way is finished and
    counted. Rows are taken one by one: they may be endless. The client's own exceptions are results; others are raised.
    """
    sending = _Sending(plan(rows, models, stream_share, seed), on_result, until, stop or asyncio.Event())
    client = openai.AsyncOpenAI(
        base_url=base_url, api_key=api_key, max_retries=max_retries, timeout=timeout_seconds, default_headers=headers
    )
    async with client, asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(sending.call(client))
    return sending.summary()


class _Sending:
    """The rows under way: callers draw from one iterator and add to one count."""

    def __init__(
        self,
        requests: Iterator[PlannedRequest],
        on_result: Callable[[Result], None] | None,
        until: Callable[[Result], bool] | None,
        stop: asyncio.Event,
    ) -> None:
        self._requests = requests
        self._on_result = on_result
        self._until = until
        self._stop = stop
        self._ended = False
        self._started_at = datetime.now(UTC)
        self._started = time.perf_counter()
        self._durations = array("d")
        self._refused: Counter[tuple[str, str]] = Counter()
        self._first_refusal_at: datetime | None = None
        self._prompt_tokens = 0
        self._completion_tokens = 0

    async def call(self, client: openai.AsyncOpenAI) -> None:
        """One caller: a request after the other, until there are no more or it is told to stop."""
        for request in self._requests:
            if self._ended or self._stop.is_set():
                return
            self._count(await _ask(client, request))

    def _count(self, result: Result) -> None:
        self._durations.append(result.seconds)
        self._prompt_tokens += result.prompt_tokens
        self._completion_tokens += result.completion_tokens
        if result.refusal is not None:
            self._refused[result.refusal] += 1
            self._first_refusal_at = self._first_refusal_at or result.at
        if self._on_result is not None:
            self._on_result(result)
        if self._until is not None and self._until(result):
            self._ended = True

    def summary(self) -> Summary:
        """Everything counted so far."""
        durations = sorted(self._durations)
        refused = sum(self._refused.values())
        return Summary(
            sent=len(durations),
            ok=len(durations) - refused,
            refused=dict(self._refused),
            prompt_tokens=self._prompt_tokens,
            completion_tokens=self._completion_tokens,
            started_at=self._started_at,
            first_refusal_at=self._first_refusal_at,
            seconds=time.perf_counter() - self._started,
            median_seconds=_share(durations, 0.5),
            p99_seconds=_share(durations, 0.99),
            slowest_seconds=_share(durations, 1.0),
        )


def _share(ascending: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of values does not pass; 0 of none."""
    return ascending[max(math.ceil(share * len(ascending)), 1) - 1] if ascending else 0.0


async def _ask(client: openai.AsyncOpenAI, request: PlannedRequest) -> Result:
    """Send one request and read its answer to the end."""
    started = time.perf_counter()
    answered, error = _Seen(), None
    try:
        await (_ask_stream if request.stream else _ask_whole)(client, request, answered)
    except openai.APIError as raised:
        error = raised
    return Result(
        request=request,
        # Before the time of day is asked: one that is told to have begun earlier than it did would overlap its caller's last.
        seconds=time.perf_counter() - started,
        at=datetime.now(UTC),
        response_id=answered.response_id,
        prompt_tokens=answered.prompt_tokens,
        completion_tokens=answered.completion_tokens,
        error=error,
    )


class _Seen:
    """What the client has seen of an answer: kept apart, for a stream that ends in an exception."""

    def __init__(self) -> None:
        self.response_id: str | None = None
        self.prompt_tokens = 0
        self.completion_tokens = 0

    def take(self, response_id: str, usage: CompletionUsage | None) -> None:
        self.response_id = response_id
        if usage is not None:
            self.prompt_tokens, self.completion_tokens = usage.prompt_tokens, usage.completion_tokens


async def _ask_whole(client: openai.AsyncOpenAI, request: PlannedRequest, seen: _Seen) -> None:
    answer = await client.chat.completions.create(
        model=request.model,
        messages=_messages(request),
        max_completion_tokens=output_limit(request.row),
        extra_headers=_usage_header(request.row),
    )
    seen.take(answer.id, answer.usage)


async def _ask_stream(client: openai.AsyncOpenAI, request: PlannedRequest, seen: _Seen) -> None:
    chunks = await client.chat.completions.create(
        model=request.model,
        messages=_messages(request),
        max_completion_tokens=output_limit(request.row),
        extra_headers=_usage_header(request.row),
        stream=True,
        stream_options={"include_usage": True},
    )
    async with chunks:
        async for chunk in chunks:
            seen.take(chunk.id, chunk.usage)


def _messages(request: PlannedRequest) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": prompt_text(request.row.context_tokens, offset=request.number)}]


def _usage_header(row: TrafficRow) -> dict[str, str]:
    return {"Provider-Usage": f"input={row.context_tokens},output={row.generated_tokens}"}
