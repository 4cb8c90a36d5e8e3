"""The usage rows of a transaction: how requests are written into the chain, and read out of it (C2).

A report is one transaction, and its usage the list of its requests. Ledgers of older releases have one request a
transaction, and the request itself where the list stands now.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tollkeeper.usage import UsageRecord

PLACES = 1 << 20
"""How many usages one transaction can have: a usage's place is the transaction's `seq` times this, plus its number."""


def written(records: Iterable[UsageRecord]) -> bytes:
    """The rows as canonical JSON: keys in their order, as the hash is taken over them.

    A record that was in a spool has its text from there: each usage is written as text once.
    """
    return b"[" + b",".join([record.text for record in records]) + b"]"


def rows_of(transaction: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The usage rows of a transaction of kind `usage`, in their order."""
    usage = transaction["usage"]
    return usage if isinstance(usage, list) else [usage]


def record_of(row: Mapping[str, Any]) -> UsageRecord:
    """The request of a usage row. Raises `InvalidValue` when it is damaged, `KeyError` when it has no name."""
    return UsageRecord.from_json(
        {name: value for name, value in row.items() if name != "request_id"} | {"id": row["request_id"]}
    )
