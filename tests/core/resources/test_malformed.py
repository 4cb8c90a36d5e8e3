"""What is said of a malformed value: field, fault and remedy in words, by the API server alone and by `parse`."""

import json
import re
from dataclasses import dataclass
from typing import Any

import pytest
from tests.core.resources.objects import (
    EVERY_DAY,
    book,
    budget,
    grant,
    priced,
    quota,
    resource,
    tenant,
    tokens,
    weighted,
    window,
)

from tollkeeper import crd
from tollkeeper.resources import API_VERSION, InvalidResource, parse
from tollkeeper_cluster import Kubectl, KubectlError

USD = 'unit is USD, so write a quoted decimal string with at most 9 decimals, such as "25.50"'
MONEY = f"must be money, 0 or above and at most 999999999.999999999: {USD}"
BELOW = (
    "must be money, 0 or below and at least -999999999.999999999: unit is USD, so write a quoted decimal string with at "
    'most 9 decimals, such as "-0.12", or "0" for a strict budget'
)
EITHER = f"must be money, from -999999999.999999999 to 999999999.999999999: {USD}"
TOKENS = (
    "must be a count of tokens, 0 or above and at most 999999999999999: unit is Tokens, so write a whole number, or one "
    "with k, M or G, such as 2M (Ki and Mi are not taken)"
)
TAKES = 'a whole number, or one with k, M or G such as "2M", at most 999999999999999 (Ki and Mi are not taken)'
COUNT = f"a count, 0 or above: write {TAKES}"
AMOUNT = f'write money as a quoted decimal string such as "25.50", at most 999999999.999999999, tokens as {TAKES}'
ABOVE = f"an amount above zero: {AMOUNT}"
PRICE = 'money, 0 or above and below 100000: write a quoted decimal string with at most 9 decimals, such as "1.25"'
WEIGHT = 'a weight from 0 to 9999: write a quoted decimal string with at most 6 decimals, such as "0.1" or "4"'
DURATION = (
    "a duration above zero: "
    "write days (at most 99999d), hours, minutes and seconds in this order, such as 30d, 36h or 1h30m"
)
TIME = 'a time: write RFC 3339 with an offset, such as "2026-12-01T00:00:00Z"'
ANCHOR = "2026-01-01T00:00:00Z"
ROLLOVER = {"period": EVERY_DAY}


@dataclass(frozen=True)
class Malformed:
    """An object with one value that is malformed, where it stands, and the words for it."""

    raw: dict[str, Any]
    path: str
    words: str


MALFORMED: dict[str, Malformed] = {
    "money below zero": Malformed(budget(allocation="-1"), "spec.allocation", MONEY),
    "money with a binary suffix": Malformed(budget(allocation="1Ki"), "spec.allocation", MONEY),
    "money with a suffix": Malformed(budget(allocation="1k"), "spec.allocation", MONEY),
    "money with a currency": Malformed(budget(allocation="$25"), "spec.allocation", MONEY),
    "money with a comma": Malformed(budget(allocation="25,50"), "spec.allocation", MONEY),
    "whole dollars without quotes": Malformed(budget(allocation=250), "spec.allocation", MONEY),
    "dollars below zero without quotes": Malformed(budget(allocation=-1), "spec.allocation", MONEY),
    "a billion dollars": Malformed(budget(allocation="1000000000"), "spec.allocation", MONEY),
    "what a column holds": Malformed(budget(allocation="9223372036.854775807"), "spec.allocation", MONEY),
    "a debt of a billion": Malformed(budget(minimumBalance="-1000000000"), "spec.minimumBalance", BELOW),
    "a threshold of a billion": Malformed(budget(lowBalanceThreshold="1000000000"), "spec.lowBalanceThreshold", EITHER),
    "too many tokens": Malformed(tokens(allocation="1000000G"), "spec.allocation", TOKENS),
    "a grant of too many tokens": Malformed(grant(amount="1000000G"), "spec.amount", ABOVE),
    "a rollover below zero": Malformed(budget(rollover={"maximum": "-5"}, **ROLLOVER), "spec.rollover.maximum", MONEY),
    "a rollover without quotes": Malformed(budget(rollover={"maximum": 5}, **ROLLOVER), "spec.rollover.maximum", MONEY),
    "borrowing below zero": Malformed(budget(borrowing={"limit": "-5"}), "spec.borrowing.limit", MONEY),
    "lending of a word": Malformed(budget(lending={"limit": "all"}), "spec.lending.limit", MONEY),
    "a minimum above zero": Malformed(budget(minimumBalance="0.01"), "spec.minimumBalance", BELOW),
    "a minimum of a word": Malformed(budget(minimumBalance="none"), "spec.minimumBalance", BELOW),
    "a minimum without quotes": Malformed(budget(minimumBalance=-1), "spec.minimumBalance", BELOW),
    "a threshold without quotes": Malformed(budget(lowBalanceThreshold=5), "spec.lowBalanceThreshold", EITHER),
    "a threshold of a word": Malformed(budget(lowBalanceThreshold="low"), "spec.lowBalanceThreshold", EITHER),
    "tokens below zero": Malformed(tokens(allocation="-1"), "spec.allocation", TOKENS),
    "tokens below zero without quotes": Malformed(tokens(allocation=-1), "spec.allocation", TOKENS),
    "tokens with a binary suffix": Malformed(tokens(allocation="2Mi"), "spec.allocation", TOKENS),
    "tokens with decimals": Malformed(tokens(allocation="25.50"), "spec.allocation", TOKENS),
    "a count with a binary suffix": Malformed(quota(amount="2Mi"), "spec.limits[0].amount", COUNT),
    "a count below zero": Malformed(quota(amount="-1"), "spec.limits[0].amount", COUNT),
    "a count below zero without quotes": Malformed(quota(amount=-1), "spec.limits[0].amount", COUNT),
    "a count with decimals": Malformed(quota(amount="2.5"), "spec.limits[0].amount", COUNT),
    "a count without end": Malformed(quota(amount=10**15), "spec.limits[0].amount", COUNT),
    "a weight without quotes": Malformed(weighted(output=4), "spec.limits[0].weights.output", WEIGHT),
    "a weight below zero": Malformed(weighted(output="-1"), "spec.limits[0].weights.output", WEIGHT),
    "a weight of a word": Malformed(weighted(cache_read="half"), "spec.limits[0].weights.cache_read", WEIGHT),
    "a grant below zero": Malformed(grant(amount="-1"), "spec.amount", ABOVE),
    "a grant below zero without quotes": Malformed(grant(amount=-1), "spec.amount", ABOVE),
    "a grant of nothing": Malformed(grant(amount="0.00"), "spec.amount", ABOVE),
    "a grant of nothing without quotes": Malformed(grant(amount=0), "spec.amount", ABOVE),
    "a grant with a binary suffix": Malformed(grant(amount="2Mi"), "spec.amount", ABOVE),
    "a grant's end in words": Malformed(grant(effectiveFrom=ANCHOR, expiresAt="next year"), "spec.expiresAt", TIME),
    "a grant's beginning on no day": Malformed(
        grant(effectiveFrom="2026-02-29T00:00:00Z", expiresAt=ANCHOR), "spec.effectiveFrom", TIME
    ),
    "a duration in words": Malformed(
        window(duration="36 hours", anchor=ANCHOR), "spec.limits[0].window.duration", DURATION
    ),
    "a duration of nothing": Malformed(
        window(duration="0h", anchor=ANCHOR), "spec.limits[0].window.duration", DURATION
    ),
    "a budget's duration in words": Malformed(
        budget(period={"duration": "a month", "anchor": ANCHOR}), "spec.period.duration", DURATION
    ),
    "a retention in words": Malformed(tenant(capture={"retention": "a month"}), "spec.capture.retention", DURATION),
    "an anchor in words": Malformed(window(duration="36h", anchor="yesterday"), "spec.limits[0].window.anchor", TIME),
    "an anchor without a time": Malformed(
        window(duration="36h", anchor="2026-01-01"), "spec.limits[0].window.anchor", TIME
    ),
    "a zone with a blank": Malformed(
        window(every="Day", timeZone="Europe Madrid"),
        "spec.limits[0].window.timeZone",
        'unknown time zone: write an IANA name such as "Europe/Madrid" or "UTC"',
    ),
    "a price below zero": Malformed(priced(input="-1"), "spec.models[0].perMillion.input", PRICE),
    "a price of a hundred thousand": Malformed(priced(input="100000"), "spec.models[0].perMillion.input", PRICE),
    "a price without quotes": Malformed(priced(cacheRead=1), "spec.models[0].perMillion.cacheRead", PRICE),
    "a price with a currency": Malformed(book(tools=[{"name": "a", "perCall": "$1"}]), "spec.tools[0].perCall", PRICE),
    "a fallback without quotes": Malformed(
        book(unknownModels="Fallback", fallback={"perMillion": {"input": "1", "output": "1"}, "perRequest": 1}),
        "spec.fallback.perRequest",
        PRICE,
    ),
    "a tenant's name in capitals": Malformed(
        resource("TokenBudget", {"tenantRef": {"name": "Research"}}),
        "spec.tenantRef.name",
        "a name: write lower-case letters, digits and -",
    ),
}

FLOATS: dict[str, Malformed] = {
    "money": Malformed(budget(allocation=25.5), "spec.allocation", f"25.5 is not an amount: {AMOUNT}"),
    "a rollover": Malformed(
        budget(rollover={"maximum": 5.5}, **ROLLOVER), "spec.rollover.maximum", f"5.5 is not an amount: {AMOUNT}"
    ),
    "a minimum": Malformed(budget(minimumBalance=-0.12), "spec.minimumBalance", f"-0.12 is not an amount: {AMOUNT}"),
    "a count": Malformed(quota(amount=2.5), "spec.limits[0].amount", f"2.5 is not {COUNT}"),
    "a weight": Malformed(weighted(output=0.5), "spec.limits[0].weights.output", f"0.5 is not {WEIGHT}"),
    "a grant": Malformed(grant(amount=25.5), "spec.amount", f"25.5 is not {ABOVE}"),
    "a price": Malformed(priced(output=1.25), "spec.models[0].perMillion.output", f"1.25 is not {PRICE}"),
    "a tool's price": Malformed(book(tools=[{"name": "a", "perCall": 0.04}]), "spec.tools[0].perCall", PRICE),
}


def faults_of(raw: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(InvalidResource) as refusal:
        parse(raw)
    return {fault.path: fault.says for fault in refusal.value.faults}


def test_an_amount_of_many_digits_is_told_what_the_most_is() -> None:
    says = faults_of(budget(allocation="9" * 40))["spec.allocation"]
    assert says == f"{'9' * 40!r}… has 40 characters: shorten it to 32; it must be an amount: {AMOUNT}"


@pytest.mark.parametrize("sentence", MALFORMED)
def test_parse_says_what_is_wrong_and_what_to_write(sentence: str) -> None:
    row = MALFORMED[sentence]
    faults = faults_of(row.raw)
    assert list(faults) == [row.path]
    assert row.words in faults[row.path]


@pytest.mark.parametrize("sentence", FLOATS)
def test_parse_says_of_a_number_with_decimals_that_it_needs_quotes(sentence: str) -> None:
    row = FLOATS[sentence]
    assert row.words in faults_of(row.raw)[row.path]


@pytest.mark.cluster
@pytest.mark.parametrize("sentence", MALFORMED)
def test_the_api_server_says_the_same_in_one_line_and_shows_no_pattern(admission: Any, sentence: str) -> None:
    row = MALFORMED[sentence]
    taken, said = admission.verdict(row.raw)
    assert not taken
    assert re.search(rf"(^|: ){re.escape(row.path)}: Invalid value: ", said), said
    assert row.words in said
    assert said.count("Invalid value") == 1, said
    for raw_word in ("should match", "must be of type", "failed rule", "evaluating", "^"):
        assert raw_word not in said


@pytest.mark.cluster
@pytest.mark.parametrize("sentence", FLOATS)
def test_the_api_server_refuses_numbers_with_decimals_by_their_type(admission: Any, sentence: str) -> None:
    """No rule of a schema sees them: the webhook, which is asked before, has the words (`tests/webhook`)."""
    row = FLOATS[sentence]
    taken, said = admission.verdict(row.raw)
    assert not taken
    assert row.path in said


@pytest.mark.cluster
def test_a_numbers_type_is_no_obstacle_to_server_side_apply(installed: Kubectl, namespace: str) -> None:
    """Typed patches are made before admission: an amount that they refused would never get our words."""
    raw = {
        "apiVersion": API_VERSION,
        "kind": "PriceBook",
        "metadata": {"name": "apply"},
        "spec": priced(output=4)["spec"],
    }
    with pytest.raises(KubectlError, match=r"spec\.models\[0\]\.perMillion\.output: Invalid value: 4: must be money"):
        installed("apply", "--server-side", "-f", "-", input=json.dumps(raw), namespace=namespace)


def test_no_spec_has_a_pattern_or_a_format_that_would_speak_in_place_of_words() -> None:
    for definition in crd.crds():
        schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        spec = json.dumps(schema["properties"].get("spec", {}))
        assert '"pattern": "' not in spec  # a field of this name is an object
        assert '"format": "date-time"' not in spec
