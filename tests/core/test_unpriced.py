"""Usage without a price: what is told of it, of how many models, and how often (M6, K8)."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.conditions import MESSAGE_LIMIT, Condition
from tollkeeper.notices import Reason
from tollkeeper.priced import NAMED, priced, span_of, unpriced_notices
from tollkeeper.unpriced import Unpriced, UnpricedModel, summed, widest
from tollkeeper.windows import Calendar, Every

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def used(model: str, requests: int = 1, tokens: int = 10, first: int = 1, provider: str = "openai") -> UnpricedModel:
    return UnpricedModel(provider, model, requests, tokens, first)


def status(*conditions: Condition) -> dict[str, Any]:
    return {"conditions": [{"type": one.type, "status": str(one.status), "message": one.message} for one in conditions]}


usages = st.lists(
    st.builds(
        UnpricedModel,
        provider=st.sampled_from(["openai", "vllm"]),
        model=st.text(min_size=1, max_size=300),
        requests=st.integers(1, 10**9),
        tokens=st.integers(0, 10**12),
        first=st.integers(1, 10**9),
    ),
    max_size=12,
    unique_by=lambda one: (one.provider, one.model),
).map(lambda models: Unpriced(tuple(sorted(models, key=lambda one: one.first)), others=3))


@given(usages)
def test_what_a_status_names_is_told_once_and_the_whole_fits_into_it(unpriced: Unpriced) -> None:
    conditions = priced(unpriced)
    told = list(unpriced_notices({}, unpriced, "2026-11-01"))
    texts = [one.message for one in conditions] + [one.message for one in told]
    assert len(told) == min(NAMED, len(unpriced.models))
    assert len({notice.identity for notice in told}) == len(told)
    assert all(len(text) <= MESSAGE_LIMIT and text.isprintable() for text in texts)
    assert list(unpriced_notices(status(*conditions), unpriced, "2026-11-01")) == []


def test_without_such_usage_nothing_is_said() -> None:
    assert priced(Unpriced()) == ()
    assert list(unpriced_notices({}, Unpriced(), "2026-11-01")) == []


def test_a_condition_says_which_models_how_much_and_what_to_do() -> None:
    models = tuple(used(f"m-{number}", requests=number, first=number) for number in range(1, 7))
    (condition,) = priced(Unpriced(models, others=2))
    assert (condition.type, condition.status, condition.reason) == ("Priced", False, "UnknownModels")
    assert "openai/m-1 (1 request, 10 tokens), openai/m-2 (2 requests, 10 tokens)" in condition.message
    assert "and 13 requests of other models" in condition.message
    assert "spec.models of a PriceBook" in condition.message


def test_usage_of_models_that_are_not_known_is_told_even_where_every_known_one_has_a_price() -> None:
    unpriced = Unpriced((used("a"),), others=3).only(lambda _provider, _model: False)
    (condition,) = priced(unpriced)
    assert (condition.type, condition.status) == ("Priced", False)
    assert "costing nothing: 3 requests of other models; " in condition.message
    assert list(unpriced_notices({}, unpriced, "2026-11-01")) == []


def test_a_model_whose_name_begins_like_anothers_is_told_as_well() -> None:
    before = status(*priced(Unpriced((used("gpt-x-mini"),))))
    (notice,) = unpriced_notices(before, Unpriced((used("gpt-x-mini"), used("gpt-x", 3, 40, first=2))), "2026-11-01")
    assert (notice.reason, notice.type) == (Reason.UNPRICED, "Warning")
    assert notice.message.startswith("openai/gpt-x has no price: so far 3 requests, 40 tokens count as costing nothing")


def test_a_provider_whose_name_ends_like_anothers_is_told_as_well() -> None:
    before = status(*priced(Unpriced((used("m", provider="my-openai"),))))
    (notice,) = unpriced_notices(before, Unpriced((used("m", provider="my-openai"), used("m", first=2))), "2026-11-01")
    assert notice.message.startswith("openai/m has no price")


def test_accounts_of_one_limit_add_up_and_of_several_limits_the_most_counts() -> None:
    one, other = Unpriced((used("a", 2, 20, first=5),), others=1), Unpriced((used("b"), used("a", 3, 30, first=9)))
    assert summed((one, other)) == Unpriced((used("b"), used("a", 5, 50, first=5)), others=1)
    assert widest((one, other)) == Unpriced((used("b"), used("a", 3, 30, first=9)), others=1)


def test_a_model_that_has_a_price_by_now_is_left_out() -> None:
    both = Unpriced((used("a"), used("b", first=2)))
    assert both.only(lambda _provider, model: model == "b").models == (used("b", first=2),)


@pytest.mark.parametrize(
    ("calendars", "span"),
    [
        ([Calendar.every(Every.MONTH), Calendar.every(Every.DAY)], "2026-11-01T00:00:00Z"),
        ([Calendar.every(Every.MINUTE)], "2026-11-21"),
        ([Calendar.every(Every.MONTH), Calendar.FOREVER], "forever"),
        ([], "2026-11-21"),
    ],
)
def test_events_are_bounded_by_the_longest_window_and_at_least_a_day(calendars: list[Calendar], span: str) -> None:
    windows = [calendar.window_at(NOW) for calendar in calendars]
    assert span_of(windows, NOW) == span
    if span != "2026-11-01T00:00:00Z":
        assert span_of([calendar.window_at(NOW + timedelta(hours=1)) for calendar in calendars], NOW) == span
