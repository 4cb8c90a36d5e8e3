"""The usage rows of a transaction: how requests are written into the chain, and read out of it (C2).

A report is one transaction, and its usage the list of its requests. Ledgers of older releases have one request a
transaction, and the request itself where the list stands now.
"""

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import orjson

from tollkeeper.usage import BUCKETS, Caller, UsageRecord

_BUCKETS = sorted(BUCKETS)
_CALLER = sorted(Caller.__slots__)
_counts_of = attrgetter(*_BUCKETS)
_who_is = attrgetter(*_CALLER)


def written(records: Iterable[UsageRecord]) -> bytes:
    """The rows as canonical JSON: keys in their order, as the hash is taken over them."""
    callers: dict[tuple[str | None, ...], dict[str, str]] = {}
    rows = []
    for record in records:
        who = _who_is(record.caller)
        caller = callers.get(who)
        if caller is None:
            caller = callers[who] = {name: value for name, value in zip(_CALLER, who, strict=True) if value is not None}
        rows.append(
            {
                "admitted_at": record.admitted_at,
                "buckets": {n: count for n, count in zip(_BUCKETS, _counts_of(record.buckets), strict=True) if count},
                "caller": caller,
                # Three keys in their order: as dictionaries they are written several times as fast as data classes are.
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
    return orjson.dumps(rows)


def rows_of(transaction: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The usage rows of a transaction of kind `usage`, in their order."""
    usage = transaction["usage"]
    return usage if isinstance(usage, list) else [usage]


def record_of(row: Mapping[str, Any]) -> UsageRecord:
    """The request of a usage row. Raises `InvalidValue` when it is damaged, `KeyError` when it has no name."""
    return UsageRecord.from_json(
        {name: value for name, value in row.items() if name != "request_id"} | {"id": row["request_id"]}
    )
