"""Models used without a price: exact whatever the account used beside them, and however it is asked in parts (M6)."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ledger.builders import NOW, Desk, account_of, budget, record
from tests.ledger.conftest import NewLedger
from tollkeeper.unpriced import UnpricedModel
from tollkeeper.usage import Buckets, Charge, UsageRecord
from tollkeeper_ledger.storage import LedgerAt, LedgerStoreReader

LIMIT, OTHER = budget(allocation=10**9), budget("other", allocation=10**9)
ACCOUNT, OTHER_ACCOUNT = account_of(LIMIT), account_of(OTHER)


def used(
    model: str, cost: int | None, minute: int = 0, account: str = ACCOUNT, provider: str = "openai", tokens: int = 3
) -> UsageRecord:
    """A request that ended in the minute so many after now; without a cost it had no price."""
    base = record(
        "g", Charge(account, 1, 0), model=model, provider=provider, finished_at=NOW + timedelta(minutes=minute)
    )
    return replace(base, cost=cost, buckets=Buckets(input=tokens, output=2 * tokens))


def expected(booked: Iterable[UsageRecord], account: str) -> dict[tuple[str, str], tuple[int, int]]:
    """By provider and model: the requests without a price of an account, and their tokens."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for one in booked:
        if one.cost is None and one.charges[0].account == account:
            requests, tokens = found.get((one.provider, one.model), (0, 0))
            found[one.provider, one.model] = (requests + 1, tokens + one.buckets.total)
    return found


def in_parts(reader: LedgerStoreReader, account: str, most: int) -> list[UnpricedModel]:
    parts = [reader.unpriced(account, after=0, most=most)]
    while not parts[-1].is_last:
        parts.append(reader.unpriced(account, after=parts[-1].until, most=most))
    assert reader.unpriced(account, after=parts[-1].until, most=most).models == []
    return [one for part in parts for one in part.models]


usages = st.lists(
    st.builds(
        used,
        st.sampled_from(["gpt-5", "o", "É'"]),
        st.sampled_from([None, 0, 7]),
        st.integers(0, 4),
        st.sampled_from([ACCOUNT, OTHER_ACCOUNT]),
        st.sampled_from(["openai", "vllm"]),
        st.integers(0, 5),
    ),
    max_size=20,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(usages, st.integers(1, 25))
def test_usage_without_a_price_is_found_by_model_exactly_in_parts_of_any_size(
    new_ledger: NewLedger, booked: list[UsageRecord], most: int
) -> None:
    desk = Desk(new_ledger(), LIMIT, OTHER)
    for start in range(0, len(booked), 7):
        desk.charge(*booked[start : start + 7])
    with desk.reader() as reader:
        for account in (ACCOUNT, OTHER_ACCOUNT):
            found: dict[tuple[str, str], tuple[int, int]] = {}
            for one in in_parts(reader, account, most):
                requests, tokens = found.get((one.provider, one.model), (0, 0))
                found[one.provider, one.model] = (requests + one.requests, tokens + one.tokens)
            assert found == expected(booked, account)
    desk.store.close()


def test_models_come_in_the_order_of_their_first_use(ledger: LedgerAt) -> None:
    desk = Desk(ledger, LIMIT)
    desk.charge(*(used(model, None) for model in ("z", "a", "z", "m")))
    with desk.reader() as reader:
        models = reader.unpriced(ACCOUNT, after=0, most=10).models
    assert [one.model for one in models] == ["z", "a", "m"]
    assert [one.first for one in models] == sorted(one.first for one in models)
    desk.store.close()


def test_an_account_in_which_everything_had_a_price_is_one_part(ledger: LedgerAt) -> None:
    desk = Desk(ledger, LIMIT)
    desk.charge(*(used("gpt-5", 1) for _ in range(5)))
    with desk.reader() as reader:
        part = reader.unpriced(ACCOUNT, after=0, most=2)
    assert (list(part.models), part.is_last) == ([], True)
    desk.store.close()
