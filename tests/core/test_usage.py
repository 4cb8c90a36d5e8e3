"""Usage records: read back as they were written, or refused with what is damaged."""

from typing import Any

import pytest

from tests.ledger.builders import record
from tollkeeper.errors import InvalidValue
from tollkeeper.usage import Charge, UsageRecord

ONE = record("g", Charge("account", 5, 7), cost=5, unit_prices={"input": "1.25"})


def test_a_record_reads_back_as_it_was_written() -> None:
    assert UsageRecord.from_json(ONE.to_json()) == ONE


def test_a_record_of_an_older_release_has_no_unit_prices() -> None:
    raw = {name: value for name, value in ONE.to_json().items() if name != "unit_prices"}
    assert UsageRecord.from_json(raw).unit_prices == {}


@pytest.mark.parametrize(
    "damage",
    [
        {"cost": 1.5},
        {"cost": "5"},
        {"cost": float("nan")},
        {"charges": [{"account": "a", "amount": float("nan"), "held": 0}]},
        {"charges": [{"account": "a", "amount": 1, "held": True}]},
        {"charges": [{"account": "a", "amount": None, "held": 1}]},
        {"buckets": {"input": -1}},
        {"buckets": {"input": 1.0}},
        {"buckets": {"inputs": 1}},
        {"outcome": "lost"},
        {"admitted_at": "yesterday"},
    ],
)
def test_a_record_with_a_value_that_cannot_be_is_refused(damage: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue):
        UsageRecord.from_json(ONE.to_json() | damage)
