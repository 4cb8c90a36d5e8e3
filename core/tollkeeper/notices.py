"""Notices: which changes of a status are told as Kubernetes Events (K8), and in which words (R47, R49).

Pure: a notice follows from two statuses of one object, the one before and the one now. `identity` is the same whenever
the same change is seen again, after a restart too, so that it becomes one Event.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tollkeeper.accounts import Account, Phase
from tollkeeper.amounts import format_amount
from tollkeeper.conditions import message_of, status_of
from tollkeeper.limits import AccountId, Limit
from tollkeeper.windows import format_column_time


class Reason(StrEnum):
    """The reasons of Events (K8)."""

    THRESHOLD_CROSSED = "ThresholdCrossed"
    BUDGET_LOW = "BudgetLow"
    BUDGET_INSUFFICIENT = "BudgetInsufficient"
    BUDGET_RESTORED = "BudgetRestored"
    GRANT_BOOKED = "GrantBooked"
    GRANT_EXPIRED = "GrantExpired"
    USAGE_STALE = "UsageStale"
    GATE_CLOSED = "GateClosed"
    GATE_OPENED = "GateOpened"
    OVERSHOOT = "Overshoot"
    UNPRICED = "Unpriced"


_WARNINGS = frozenset(
    {
        Reason.THRESHOLD_CROSSED,
        Reason.BUDGET_LOW,
        Reason.BUDGET_INSUFFICIENT,
        Reason.USAGE_STALE,
        Reason.GATE_CLOSED,
        Reason.OVERSHOOT,
        Reason.UNPRICED,
    }
)


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell about an object: `identity` makes it unique among all that is told about that object."""

    reason: Reason
    message: str
    identity: str

    @property
    def type(self) -> str:
        """The Event's type: Warning where somebody may have to act."""
        return "Warning" if self.reason in _WARNINGS else "Normal"


Status = Mapping[str, Any]


def budget_notices(before: Status, now: Status) -> Iterator[Notice]:
    """What changed in a TokenBudget: its phase, the freshness of its numbers, its overshoot."""
    window = (now.get("period") or {}).get("start", "forever")
    yield from _phase_notice(before, now)
    yield from _stale_notice(before, now)
    if now.get("overshoot", "0") not in (before.get("overshoot", _zero_like(now)), _zero_like(now)):
        message = f"Spending passed what may be spent by {now['overshoot']} at most in this period"
        yield Notice(Reason.OVERSHOOT, message, f"{window}/{now['overshoot']}")


def quota_notices(before: Status, now: Status) -> Iterator[Notice]:
    """What changed in a TokenQuota: the freshness of its numbers. Its limits tell by thresholds."""
    yield from _stale_notice(before, now)


def grant_notices(before: Status, now: Status) -> Iterator[Notice]:
    """What became of a TokenGrant: booked, expired."""
    if now.get("booked") and not before.get("booked"):
        yield Notice(Reason.GRANT_BOOKED, message_of(now, "Ready"), "booked")
    if _reason(now, "Ready") == "Expired" != _reason(before, "Ready"):
        yield Notice(Reason.GRANT_EXPIRED, message_of(now, "Ready"), "expired")


def gate_notices(before: Status, now: Status) -> Iterator[Notice]:
    """Whether a gate closed or opened. A gate that is new and open is not told of."""
    was_open, is_open = before.get("open", True), now.get("open", True)
    if was_open and not is_open:
        yield Notice(Reason.GATE_CLOSED, str(now.get("message", "")), f"closed/{now.get('since')}")
    if is_open and not was_open:
        yield Notice(Reason.GATE_OPENED, "New metered workloads may start again", f"opened/{now.get('since')}")


def thresholds_reached(limit: Limit, account: Account) -> frozenset[int]:
    """The thresholds of a limit that an account has reached (R8). Which of them are new, the ledger knows.

    Of nothing no part is used: a budget without a grant would tell all of them at once, and never again.
    """
    if account.is_empty:
        return frozenset()
    reached = account.utilization(limit)
    return frozenset(threshold for threshold in limit.thresholds if threshold <= reached)


def threshold_notice(threshold: int, limit: Limit, account: Account) -> Notice:
    """That so many percent of what may be spent are gone, of which limit, for whom, and how much is left (R8)."""
    name = f" of {limit.ref.limit}" if limit.ref.limit else ""
    key = AccountId.parse(account.id).key
    whose = f" for {','.join(key)}" if key else ""
    left, credit = format_amount(account.balance, limit.unit), format_amount(account.credit, limit.unit)
    zone = limit.calendar.zone
    until = f" until {format_column_time(account.window_end, zone)} {zone}" if account.window_end else ""
    message = f"{threshold}%{name} is used{whose}: {left} {limit.unit} is left of {credit}{until}"
    return Notice(Reason.THRESHOLD_CROSSED, message, f"{account.id}/{threshold}")


def _phase_notice(before: Status, now: Status) -> Iterator[Notice]:
    was, phase = before.get("phase", Phase.SUFFICIENT), now.get("phase")
    if phase is None or was == phase:
        return
    story = message_of(now, "WithinLimit")
    identity = f"{phase}/{_since(now, 'WithinLimit')}/{now.get('spent')}/{now.get('granted')}"
    if phase == Phase.INSUFFICIENT:
        yield Notice(Reason.BUDGET_INSUFFICIENT, story, identity)
    elif was == Phase.INSUFFICIENT:
        yield Notice(Reason.BUDGET_RESTORED, f"{story}; it refuses nothing any more", identity)
    elif phase == Phase.LOW:
        yield Notice(Reason.BUDGET_LOW, f"{story}; a TokenGrant tops it up", identity)


def _stale_notice(before: Status, now: Status) -> Iterator[Notice]:
    if status_of(now, "UsageFresh") == "False" and status_of(before, "UsageFresh") != "False":
        yield Notice(Reason.USAGE_STALE, message_of(now, "UsageFresh"), f"stale/{_since(now, 'UsageFresh')}")


def _zero_like(status: Status) -> str:
    """How zero is written in the status's unit."""
    return "0.00" if "." in str(status.get("balance", "")) else "0"


def _condition(status: Status, condition_type: str) -> Mapping[str, Any]:
    stood = status.get("conditions") or ()
    return next((condition for condition in stood if condition.get("type") == condition_type), {})


def _reason(status: Status, condition_type: str) -> str:
    return str(_condition(status, condition_type).get("reason", ""))


def _since(status: Status, condition_type: str) -> str:
    return str(_condition(status, condition_type).get("lastTransitionTime", ""))
