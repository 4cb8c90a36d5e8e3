"""Notices: which changes of a status are told as Kubernetes Events (K8), and in which words (R47, R49).

Pure: a notice follows from two statuses of one object, the one before and the one now. `identity` is the same whenever
the same change is seen again, after a restart too, so that it becomes one Event.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from heapq import nlargest
from typing import Any

from tollkeeper.accounts import Account, Phase
from tollkeeper.amounts import format_amount
from tollkeeper.conditions import message_of, status_of
from tollkeeper.counted import is_keyed
from tollkeeper.errors import MOST_NAMED, listed
from tollkeeper.limits import AccountId, Limit
from tollkeeper.windows import format_column_time, format_time

LONGEST_KEY = 100
"""Of a key's names so much is told."""

_HOUR = timedelta(hours=1)


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
    """One thing to tell about an object: `identity` makes it unique among all that is told about that object.

    One with `times` stands for a series: so often it happened since it was told last. Its Event counts them, and where
    there is a word for what it `counts`, its message does so too.
    """

    reason: Reason
    message: str
    identity: str
    times: int | None = None
    counts: str = ""

    def says(self, count: int) -> str:
        """The message of an Event that happened so often in all."""
        return f"{self.message}; {count} {self.counts}" if self.counts and count > 1 else self.message

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
        message = f"Requests used {now['overshoot']} past what may be spent in this period"
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
    return Notice(Reason.THRESHOLD_CROSSED, _one_reached(threshold, limit, account), f"{account.id}/{threshold}")


@dataclass(frozen=True, slots=True)
class Series:
    """What is told of a threshold as one: of all keys of a window, and of all windows of an hour. `begins` is that hour's.

    As Kubernetes' own recorders do, one Event stands for what differs by its message alone, and counts it.
    """

    limit: Limit
    threshold: int
    account: str
    begins: datetime | None

    @property
    def identity(self) -> str:
        """The notices' identity."""
        return f"{self.account}/{self.threshold}"

    def notice(self, latest: Account, accounts: Sequence[Account], times: int) -> Notice:
        """What is to be told now: it was reached so often since it was told last, by `latest` in the end, and `accounts` are
        the limit's in the same window."""
        reached = [one for one in accounts if self.threshold in thresholds_reached(self.limit, one)]
        if len(reached) > 1:
            message = _many_reached(self.threshold, self.limit, reached)
        else:
            message = _one_reached(self.threshold, self.limit, latest)
        return Notice(Reason.THRESHOLD_CROSSED, message, self.identity, times, self._counts())

    def _counts(self) -> str:
        if self.begins is None:
            return ""
        whose = "windows of its keys" if is_keyed(self.limit) else "windows"
        zone = self.limit.calendar.zone
        return f"{whose} reached it in the hour from {format_column_time(self.begins, zone)} {zone}"


def series_of(threshold: int, limit: Limit, account: Account) -> Series | None:
    """The series that an account's crossing belongs to; None where it is told by itself."""
    start, end = account.window_start, account.window_end
    is_short = start is not None and end is not None and end - start < _HOUR
    if not is_short and not is_keyed(limit):
        return None
    identity = AccountId.parse(account.id)
    begins = start.replace(minute=0, second=0, microsecond=0) if is_short and start else None
    window = format_time(begins) if begins else identity.window
    return Series(limit, threshold, AccountId(limit.ref, (), window, limit.unit).text, begins)


def _one_reached(threshold: int, limit: Limit, account: Account) -> str:
    key = _key_of(account)
    left, credit = format_amount(account.balance, limit.unit), format_amount(account.credit, limit.unit)
    whose = f" for {key}" if key else ""
    return f"{_used(threshold, limit)}{whose}: {left} {limit.unit} is left of {credit}{_until(limit, account)}"


def _many_reached(threshold: int, limit: Limit, reached: Sequence[Account]) -> str:
    worst = nlargest(MOST_NAMED, reached, key=lambda one: (one.utilization(limit), one.id))
    named = listed([f"{_key_of(one)} ({one.utilization(limit)}%)" for one in worst], len(reached))
    return f"{_used(threshold, limit)} for {len(reached)} keys{_until(limit, worst[0])}: {named}"


def _used(threshold: int, limit: Limit) -> str:
    return f"{threshold}% of {limit.ref.limit} is used" if limit.ref.limit else f"{threshold}% is used"


def _until(limit: Limit, account: Account) -> str:
    zone = limit.calendar.zone
    return f" until {format_column_time(account.window_end, zone)} {zone}" if account.window_end else ""


def _key_of(account: Account) -> str:
    key = ",".join(AccountId.parse(account.id).key)
    return key if len(key) <= LONGEST_KEY else key[: LONGEST_KEY - 1] + "…"


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
