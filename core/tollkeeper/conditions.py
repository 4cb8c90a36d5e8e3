"""Conditions of a resource's status, as the Kubernetes API conventions and kstatus read them.

- `lastTransitionTime` changes only when a condition's `status` does, so the pure functions are given what stood before.
- `Ready` alone says whether an object is in force; a budget that is used up is Ready and not WithinLimit.
- `Stalled` stands only on objects that a person must change (kstatus: Failed); one that waits is merely not Ready.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tollkeeper.windows import format_time

MESSAGE_LIMIT = 1024
"""Longer messages are cut: the API server takes 32768 characters, a person reads the first lines."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition; `status` None is Unknown. `reason` is CamelCase, for programs; `message` is for people."""

    type: str
    status: bool | None
    reason: str
    message: str


def written(
    conditions: Iterable[Condition], *, before: Sequence[Mapping[str, Any]], generation: int, now: datetime
) -> list[dict[str, Any]]:
    """The conditions as status holds them, sorted by type; a time of transition is kept while the status is the same."""
    stood = {condition.get("type"): condition for condition in before}
    return [
        {
            "type": condition.type,
            "status": _word(condition.status),
            "reason": condition.reason,
            "message": _cut(condition.message),
            "observedGeneration": generation,
            "lastTransitionTime": _since(condition, stood.get(condition.type), now),
        }
        for condition in sorted(conditions, key=lambda condition: condition.type)
    ]


def status_of(status: Mapping[str, Any], condition_type: str) -> str | None:
    """What a written condition says: "True", "False", "Unknown", or None where it does not stand."""
    return next(
        (
            condition.get("status")
            for condition in status.get("conditions", ())
            if condition.get("type") == condition_type
        ),
        None,
    )


def message_of(status: Mapping[str, Any], condition_type: str) -> str:
    """What a written condition tells people; empty where it does not stand."""
    stood = status.get("conditions") or ()
    return next((str(one.get("message", "")) for one in stood if one.get("type") == condition_type), "")


def to_second(when: datetime) -> str:
    """RFC 3339 in UTC without a fraction, as the API server's own times are."""
    return format_time(when.replace(microsecond=0))


def _word(status: bool | None) -> str:
    return "Unknown" if status is None else str(status)


def _since(condition: Condition, stood: Mapping[str, Any] | None, now: datetime) -> str:
    if stood is not None and stood.get("status") == _word(condition.status) and stood.get("lastTransitionTime"):
        return str(stood["lastTransitionTime"])
    return to_second(now)


def _cut(message: str) -> str:
    return message if len(message) <= MESSAGE_LIMIT else message[: MESSAGE_LIMIT - 1] + "…"
