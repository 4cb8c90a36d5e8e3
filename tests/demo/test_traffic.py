import asyncio
import statistics
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper_demo.trace import TraceError, TrafficRow, read_trace
from tollkeeper_demo.traffic import (
    CONTEXT_TOKENS,
    GENERATED_TOKENS,
    Result,
    TokenDistribution,
    endless,
    generate,
    output_limit,
    plan,
    prompt_text,
    send,
)
from tollkeeper_provider import Buckets, RunningProvider, read_book, start_provider, totals

KEY = "sk-simulated"
NOW = datetime(2026, 11, 21, tzinfo=UTC)
REAL_TRACE = Path(__file__).parents[3] / "shared" / "data" / "azure-llm-inference-2023-code.csv"
MEANS = {"context": (CONTEXT_TOKENS, 2047.8), "generated": (GENERATED_TOKENS, 27.9)}


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[RunningProvider]:
    running = await start_provider("127.0.0.1", 0, KEY, tmp_path / "provider.jsonl")
    yield running
    await running.stop()


def drawn(distribution: TokenDistribution, rows: list[TrafficRow]) -> list[int]:
    return sorted(row.context_tokens if distribution is CONTEXT_TOKENS else row.generated_tokens for row in rows)


@pytest.mark.parametrize("column", MEANS)
@pytest.mark.parametrize(("count", "seed"), [(500, 1), (8819, 2), (8819, 3)])
def test_drawn_rows_have_the_traces_mean_and_quantiles(column: str, count: int, seed: int) -> None:
    distribution, mean = MEANS[column]
    values = drawn(distribution, generate(count, seed))

    assert statistics.fmean(values) == pytest.approx(mean, rel=0.02)
    for probability, value in zip(distribution.probabilities[1:-1], distribution.values[1:-1], strict=True):
        low, high = (values[round(count * (probability + off))] for off in (-0.003, 0.003))
        assert low * 0.98 - 1 <= value <= high * 1.02 + 1
    assert distribution.values[0] <= values[0]
    assert values[-1] <= distribution.values[-1]


@pytest.mark.skipif(not REAL_TRACE.exists(), reason="the real trace is not part of the project")
def test_the_published_figures_are_those_of_the_real_trace() -> None:
    rows = read_trace(REAL_TRACE)

    assert len(rows) == 8_819
    for distribution, mean in MEANS.values():
        values = drawn(distribution, rows)
        assert statistics.fmean(values) == pytest.approx(mean, abs=0.06)
        shown = [values[min(round(p * (len(values) - 1)), len(values) - 1)] for p in distribution.probabilities]
        assert shown == pytest.approx(distribution.values, rel=0.02, abs=1)


def test_the_same_seed_gives_the_same_rows_and_another_seed_others() -> None:
    assert generate(50, seed=1) == generate(50, seed=1)
    assert generate(50, seed=1) != generate(50, seed=2)


def test_endless_rows_go_on_in_time_and_do_not_repeat() -> None:
    rows = list(islice(endless(seed=1, block=100), 300))

    assert rows == sorted(rows, key=lambda row: row.at)
    blocks = [[row.context_tokens for row in rows[start : start + 100]] for start in (0, 100, 200)]
    assert blocks[0] != blocks[1] != blocks[2]
    assert rows[-1].at - rows[0].at < timedelta(minutes=5)


@given(st.integers(0, 5000), st.integers(0, 10**6))
def test_a_prompts_text_is_four_bytes_a_token(tokens: int, offset: int) -> None:
    assert len(prompt_text(tokens, offset).encode()) == 4 * tokens


@given(st.integers(0, 100_000))
def test_the_output_limit_leaves_room_but_not_much(generated: int) -> None:
    limit = output_limit(TrafficRow(1, generated, NOW))

    assert max(generated, 16) <= limit
    assert limit == 16 or limit < 2 * generated


@given(st.integers(1, 300), st.integers(0, 10**6))
def test_a_plan_keeps_the_rows_in_order_and_is_the_same_for_the_same_seed(count: int, seed: int) -> None:
    rows = [TrafficRow(number, 1, NOW) for number in range(count)]
    planned = list(plan(rows, ["a", "b"], 0.5, seed))

    assert [request.row for request in planned] == rows
    assert [request.number for request in planned] == list(range(count))
    assert planned == list(plan(rows, ["a", "b"], 0.5, seed))
    assert {request.model for request in planned} <= {"a", "b"}


def test_models_and_streams_are_mixed_independently() -> None:
    planned = list(plan(generate(400, 1), ["a", "b"], stream_share=0.5))
    for model in "ab":
        streams = [request.stream for request in planned if request.model == model]
        assert 0.4 < statistics.fmean(streams) < 0.6
        assert 150 < len(streams) < 250


async def test_what_callers_were_told_is_what_the_provider_booked(provider: RunningProvider) -> None:
    rows = generate(120, seed=4)
    results: list[Result] = []

    summary = await send(
        rows,
        provider.openai_base_url,
        KEY,
        models=("gpt-5", "gpt-5-mini"),
        on_result=results.append,
    )

    booked = totals(read_book(provider.book_path))
    assert (summary.sent, summary.ok, summary.refused, summary.first_refusal_at) == (120, 120, {}, None)
    assert booked.answers == 120
    assert booked.buckets == Buckets(input=summary.prompt_tokens, output=summary.completion_tokens)
    assert summary.prompt_tokens == sum(row.context_tokens for row in rows)
    assert summary.completion_tokens == sum(row.generated_tokens for row in rows)
    assert {result.response_id for result in results} == {entry.id for entry in read_book(provider.book_path)}
    assert {entry.stream for entry in read_book(provider.book_path)} == {True, False}
    assert 0 < summary.median_seconds <= summary.p99_seconds <= summary.slowest_seconds <= summary.seconds


async def test_refusals_are_counted_by_the_clients_exception_and_its_code(provider: RunningProvider) -> None:
    summary = await send(generate(10, seed=1), provider.openai_base_url, "sk-wrong", callers=3)

    assert (summary.sent, summary.ok, summary.tokens) == (10, 0, 0)
    assert summary.refused == {("AuthenticationError", "invalid_api_key"): 10}
    assert summary.first_refusal_at is not None
    assert summary.started_at <= summary.first_refusal_at <= datetime.now(UTC)


async def test_a_caller_that_reaches_nobody_is_a_result_too(provider: RunningProvider) -> None:
    await provider.stop()

    summary = await send(generate(3, seed=1), provider.openai_base_url, KEY)

    assert summary.refused == {("APIConnectionError", ""): 3}


async def test_endless_traffic_ends_when_a_result_says_so(provider: RunningProvider) -> None:
    summary = await send(
        endless(seed=1), provider.openai_base_url, KEY, callers=4, until=lambda result: result.request.number >= 20
    )

    assert 20 < summary.sent <= 25
    assert summary.ok == summary.sent == len(read_book(provider.book_path))


async def test_endless_traffic_ends_when_it_is_told_to(provider: RunningProvider) -> None:
    stop, results = asyncio.Event(), list[Result]()

    def count(result: Result) -> None:
        results.append(result)
        if len(results) == 10:
            stop.set()

    summary = await send(endless(seed=1), provider.openai_base_url, KEY, callers=4, stop=stop, on_result=count)

    assert 10 <= summary.sent <= 13
    assert summary.sent == len(results)


async def test_no_more_callers_than_told_are_under_way(provider: RunningProvider) -> None:
    begun: list[tuple[float, int]] = []

    def note(result: Result) -> None:
        end = result.at.timestamp()
        begun.extend([(end - result.seconds, 1), (end, -1)])

    await send(generate(60, seed=1), provider.openai_base_url, KEY, callers=5, on_result=note)

    under_way = [sum(change for at, change in begun if at <= moment) for moment, _ in begun]
    assert 1 < max(under_way) <= 5


def test_a_trace_is_read_row_by_row(tmp_path: Path) -> None:
    path = _written(tmp_path, "2023-11-16 18:17:03.9799600,4808,10\n2023-11-16T18:17:04+01:00,3180,8\n")

    assert read_trace(path) == [
        TrafficRow(4808, 10, datetime(2023, 11, 16, 18, 17, 3, 979960, tzinfo=UTC)),
        TrafficRow(3180, 8, datetime(2023, 11, 16, 17, 17, 4, tzinfo=UTC)),
    ]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("", "has no rows"),
        ("2023-11-16,1,1\nyesterday,1,1\n", "line 3: TIMESTAMP 'yesterday' is not a time"),
        ("2023-11-16,-1,1\n", "line 2: ContextTokens '-1' is not a whole number"),
        ("2023-11-16,1,\n", "line 2: GeneratedTokens '' is not a whole number"),
        ("2023-11-16,1\n", "line 2: GeneratedTokens is missing"),
        ("2023-11-16,1,1,1\n", "line 2: more fields than the header names"),
        ("2023-11-16,1,10000001\n", "line 2: GeneratedTokens '10000001' is not"),
        ('2023-11-16,1,"1\n', "line 2: unexpected end of data"),
    ],
)
def test_a_line_that_is_no_row_is_named_with_its_number(tmp_path: Path, rows: str, said: str) -> None:
    with pytest.raises(TraceError) as raised:
        read_trace(_written(tmp_path, rows))
    assert said in str(raised.value)
    assert "trace.csv" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_trace_is_named(tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("TIMESTAMP,Tokens\n")
    with pytest.raises(TraceError, match="line 1: no column ContextTokens"):
        read_trace(other)
    with pytest.raises(TraceError, match=r"missing\.csv: cannot be read"):
        read_trace(tmp_path / "missing.csv")


def _written(folder: Path, rows: str) -> Path:
    path = folder / "trace.csv"
    path.write_text(f"TIMESTAMP,ContextTokens,GeneratedTokens\n{rows}")
    return path
