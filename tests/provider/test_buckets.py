import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper_provider import Buckets, HeaderError, parse_usage, usage_header
from tollkeeper_provider.buckets import BUCKET_NAMES, LARGEST_COUNT

counts = st.integers(0, LARGEST_COUNT)
any_buckets = st.builds(Buckets, **dict.fromkeys(BUCKET_NAMES, counts))


@given(any_buckets)
def test_a_usage_header_round_trips(buckets: Buckets) -> None:
    assert parse_usage(usage_header(buckets)) == buckets


@given(any_buckets)
def test_the_total_is_the_sum_of_disjoint_buckets(buckets: Buckets) -> None:
    assert buckets.prompt + buckets.completion == buckets.total == sum(count for _, count in buckets.items())


@given(any_buckets, st.integers(0, 3 * LARGEST_COUNT))
def test_what_is_generated_first_is_as_much_as_there_is_up_to_the_bound(buckets: Buckets, bound: int) -> None:
    first = buckets.generated_first(bound)

    assert first.completion == min(bound, buckets.completion)
    assert first.prompt == 0
    assert all(count <= getattr(buckets, name) for name, count in first.items())


@given(any_buckets, any_buckets)
def test_adding_adds_each_bucket(one: Buckets, other: Buckets) -> None:
    assert dict((one + other).items()) == {name: count + getattr(other, name) for name, count in one.items()}


def test_the_header_of_the_documentation_is_read() -> None:
    header = "input=4808, output=10,cache_read=7,cache_write_5m=3,reasoning=2"
    assert parse_usage(header) == Buckets(input=4808, output=10, cache_read=7, cache_write_5m=3, reasoning=2)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("", "'' is not a count"),
        ("input", "'input' is not a count"),
        ("input=5,", "'' is not a count"),
        ("inputs=5", "'inputs=5' is not a count"),
        ("input=-5", "input=-5 is not a count"),
        ("input=5.0", "input=5.0 is not a count"),
        ("input=\u0665", "input=\u0665 is not a count"),
        ("input=", "input= is not a count"),
        ("input=5,input=6", "input stands twice"),
        (f"input={LARGEST_COUNT + 1}", "is too large"),
        ("input=" + "9" * 5000, "is not a count"),
    ],
)
def test_a_header_that_is_not_pairs_of_names_and_counts_is_refused(header: str, said: str) -> None:
    with pytest.raises(HeaderError, match=r"^Provider-Usage: ") as raised:
        parse_usage(header)
    assert said in str(raised.value)


def test_a_count_is_never_negative() -> None:
    with pytest.raises(ValueError, match="output is -1"):
        Buckets(output=-1)
