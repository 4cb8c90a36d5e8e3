"""What is held covers what a request can use, and no more of the output than fits."""

import json
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from tests.sidecar.builders import NOW, PRICES, account_of, limit
from tollkeeper.amounts import Unit
from tollkeeper.limits import Enforcement
from tollkeeper.policy import BoundAccount
from tollkeeper.usage import Buckets, Caller, Outcome
from tollkeeper_sidecar.demand import (
    SMALLEST_OUTPUT,
    Demand,
    HardAccounts,
    Tokens,
    demand_of,
    greatest_amount,
    tokens_of,
)
from tollkeeper_sidecar.openai_chat import parse_chat_request
from tollkeeper_sidecar.settlement import Admitted, Ending, record_of, used_of

PRICE = PRICES.find("openai", "gpt-5", NOW)
WEIGHTS = {"cache_read": Decimal("0.1"), "reasoning": Decimal("2.5"), "input": Decimal("1.5")}
LIMITS = [limit(unit.value.lower(), 10**12, unit, weights=WEIGHTS) for unit in Unit]


def demand(prompt: int, output: int, lower: bool = True) -> Demand:
    bound = []
    for one in LIMITS:
        account, window = one.account_at((), NOW)
        bound.append((account.text, BoundAccount(one, account, window)))
    return demand_of(Tokens(prompt, 1, 0), PRICE, output, output, HardAccounts(bound), lower=lower)


@given(
    st.lists(st.integers(0, 5000), min_size=6, max_size=6),
    st.lists(st.integers(0, 5000), min_size=3, max_size=3),
    st.integers(0, 3000),
)
def test_no_usage_within_the_bound_takes_more_than_its_hold(ins: list[int], outs: list[int], unlimited: int) -> None:
    names_in = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "audio_input", "image")
    names_out = ("output", "reasoning", "audio_output")
    buckets = Buckets(**dict(zip(names_in, ins, strict=True)), **dict(zip(names_out, outs, strict=True)))
    assert PRICE is not None
    for one in LIMITS:
        held = greatest_amount(one, PRICE, Tokens(sum(ins), 1, unlimited), max(0, sum(outs) - unlimited))
        assert one.amount_of(buckets, PRICE.cost(buckets)) <= held


@given(st.integers(1, 5000), st.integers(1, 5000), st.data())
def test_the_largest_output_that_fits_is_found(prompt: int, output: int, data: st.DataObject) -> None:
    wanted = demand(prompt, output)
    available = {need.id: data.draw(st.integers(0, 2 * need.most)) for need in wanted.needs}
    hold = wanted.within(available)

    def fits(output_limit: int) -> bool:
        tokens = Tokens(prompt, 1, 0)
        return all(greatest_amount(n.bound.limit, PRICE, tokens, output_limit) <= available[n.id] for n in wanted.needs)

    if hold is None:
        assert not fits(min(SMALLEST_OUTPUT, output))
    else:
        assert fits(hold.output_limit)
        assert hold.output_limit == output or not fits(hold.output_limit + 1)
        assert hold.output_limit >= min(SMALLEST_OUTPUT, output)


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(0, 10_000))
def test_a_tenant_that_keeps_its_limits_gets_all_or_nothing(prompt: int, output: int, available: int) -> None:
    wanted = demand(prompt, output, lower=False)
    hold = wanted.within({need.id: available for need in wanted.needs})
    assert hold is None or hold == wanted.full


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_accounts_that_count_the_same_share_what_is_computed_and_take_what_each_of_them_would(
    prompt: int, output: int
) -> None:
    again = [limit(f"{one.ref.name}-again", 10**12, one.unit, weights=one.weights) for one in LIMITS]
    other = limit("other", 10**12, Unit.WEIGHTED_TOKENS, weights={"input": Decimal(3)})
    bound = [
        (one.account_at((), NOW)[0].text, BoundAccount(one, *one.account_at((), NOW)))
        for one in (*LIMITS, *again, other)
    ]
    hard = HardAccounts(bound)
    tokens = Tokens(prompt, 1, 0)
    assert len(hard.limits) == len(LIMITS) + 1
    assert list(hard.hold(PRICE, tokens, output).amounts.items()) == [
        (account, greatest_amount(one.limit, PRICE, tokens, output)) for account, one in bound
    ]


def test_a_hold_without_some_accounts_still_names_them() -> None:
    hold = demand(100, 100).full
    (spared, amount), *others = hold.amounts.items()
    assert amount > 0
    assert hold.without([spared]).amounts == {spared: 0, **dict(others)}
    assert hold.without([]).amounts == hold.amounts


@given(st.integers(0, 5000), st.integers(0, 5000))
def test_what_is_settled_with_the_leases_is_what_is_charged(ins: int, outs: int) -> None:
    hold, soft = demand(5000, 5000).full, limit("soft", 10**12, Unit.TOKENS, enforcement=Enforcement.SOFT)
    accounts = [*((account, bound.limit) for account, bound in hold.hard.bound), (account_of(soft), soft)]
    admitted = Admitted(
        "request",
        "holder",
        Caller("research"),
        "openai",
        "gpt-5",
        None,
        False,
        tuple(accounts),
        Tokens(5000, 1, 0),
        PRICE,
        hold,
        NOW,
    )
    for buckets in (Buckets(input=ins, output=outs), None):
        record = record_of(admitted, Ending(buckets, Outcome.OK, 200), NOW)
        charged = {one.account: one.amount for one in record.charges if one.account != account_of(soft)}
        assert hold.hard.by_account(used_of(record, hold)) == (charged or dict.fromkeys(hold.amounts, 0))
        assert {one.account: one.held for one in record.charges} == (
            {**hold.amounts, account_of(soft): 0} if charged else {}
        )


@given(st.text(max_size=200))
def test_a_prompt_has_no_more_tokens_than_its_bound(text: str) -> None:
    for raw in (
        b'{"model":"m","messages":[{"role":"user","content":' + _json(text, ascii_only=ascii_only) + b"}]}"
        for ascii_only in (True, False)
    ):
        assert tokens_of(parse_chat_request(raw), None, 10**6).prompt >= len(text.encode())


def test_content_by_reference_is_bounded_by_the_context_window() -> None:
    image = b'[{"type":"image_url","image_url":{"url":"https://example.org/a.png"}}]'
    chat = parse_chat_request(b'{"model":"m","n":3,"messages":[{"role":"user","content":' + image + b"}]}")
    assert tokens_of(chat, 400_000, 10**6) == Tokens(400_000, 3, 0)
    assert tokens_of(chat, None, 10**6).prompt == 10**6


def test_every_choice_may_use_the_whole_output_limit() -> None:
    assert Tokens(10, 3, 0).output(100) == 300


def _json(text: str, *, ascii_only: bool) -> bytes:
    return json.dumps(text, ensure_ascii=ascii_only).encode()
