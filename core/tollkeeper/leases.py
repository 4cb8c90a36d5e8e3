"""Leases: amounts set aside for one holder, out of which it holds for requests on its own.

A lease is identified by holder and account; its `outstanding` amount is what the holder may still spend. It grows by
grants, shrinks by reports (what was used) and returns (what was not). The sum of all outstanding amounts of an account
is the account's `held`. A lease that outlives its time lapses: its amount counts as unreconciled until the holder's
records or its closing say what really happened.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, Protocol

from tollkeeper.accounts import Account, Phase
from tollkeeper.amounts import Unit
from tollkeeper.counters import Counters
from tollkeeper.errors import InvalidValue
from tollkeeper.limits import Limit, LimitRef
from tollkeeper.usage import UsageRecord

LEASE_TIME = timedelta(seconds=60)
"""How long a lease lives without its holder being heard of."""

RECALL_SECONDS = 2.0
"""Within this time what other holders have left over comes back (H4), and a caller waits for it at most so long."""

CONTENDED_WITHIN = timedelta(seconds=60)
"""Room that may come back within this time is contended, not used up (F1)."""

SHARE_AHEAD = 16
"""At most this part of what is left is given out ahead of need, so that leases shrink as the cap comes near."""


@dataclass(frozen=True, slots=True)
class Want:
    """What a holder asks of one account: at least `need`, for this request up to `desired`, and `ahead` for those to come.

    `account` names the window too: the one in which the request is admitted (B6). Raises `InvalidValue` for amounts that
    no holder can mean: below 0, or less desired than needed.
    """

    account: str
    need: int
    desired: int
    ahead: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.need <= self.desired and self.ahead >= 0):
            raise InvalidValue(
                f"a want of {self.account} has need {self.need}, desired {self.desired}, ahead {self.ahead}: "
                "it takes 0 <= need <= desired and ahead >= 0"
            )


@dataclass(frozen=True, slots=True)
class LeaseRequest:
    """One batch of a holder. `sequence` grows with each; `returns` are unused amounts by account.

    `answers` are the accounts whose recall was heard before the call was made: all that was free there is in `returns`.
    Of the wants, `last` are those that nobody waits for once this is answered: what is recalled for them comes too late.
    """

    holder: str
    sequence: int
    wants: tuple[Want, ...] = ()
    returns: Mapping[str, int] = field(default_factory=dict)
    answers: frozenset[str] = frozenset()
    last: frozenset[str] = frozenset()


class Reason(StrEnum):
    """Why a limit refuses: the first two are F1's, and so is `ENDED`: its window is over, and who tries again counts in the
    next one. `UNKNOWN_ACCOUNT` and `FAULT` are no caller's fault."""

    CONTENDED = "contended"
    USED_UP = "used_up"
    ENDED = "ended"
    UNKNOWN_ACCOUNT = "unknown_account"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Standing:
    """How a limit stood when it was asked for `need`. Amounts are integers of `unit`; what is borrowed is in the balance.

    `available` is what could be set aside, `lendable` what a loan would still add once others give back what they hold of
    the lender's room, or what it lent them for. `resets` is the end of the account's window, `None` where there is none.
    """

    account: str
    ref: LimitRef
    tenants: frozenset[str]
    unit: Unit
    phase: Phase
    balance: int
    minimum: int
    available: int
    need: int
    resets: datetime | None
    lendable: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal(Standing):
    """A limit that refused: the answer to "why" is data.

    `lent_to` are the accounts that borrowed what it lacks, for what is held there: with that it may come back (`lendable`).
    `fault` is for those who run this, where the reason is one: what is wrong with this account alone. It may tell amounts.
    """

    reason: Reason
    lent_to: tuple[str, ...] = ()
    fault: str = ""

    @property
    def held_by_others(self) -> bool:
        """Whether there is room for what is needed once others give back what they hold; nothing is needed by nobody."""
        if self.reason is Reason.ENDED or not self.need:
            return False
        is_open = self.phase is not Phase.INSUFFICIENT or self.lendable > 0
        return is_open and self.balance - self.minimum + self.lendable >= self.need


class Granted(NamedTuple):
    """`amount` more is outstanding on the account, until `expires`."""

    account: str
    amount: int
    expires: datetime


@dataclass(frozen=True, slots=True)
class LeaseReply:
    """The answer to one batch, want by want: granted or refused. A fault with one account refuses that want alone.

    Where anything was refused, `others` says how the limits stood that granted: every limit that was looked at has its numbers.
    On the accounts of `recalling` other holders were asked for what they have left over, and have not all answered yet.
    """

    granted: tuple[Granted, ...] = ()
    refused: tuple[Refusal, ...] = ()
    others: tuple[Standing, ...] = ()
    recalling: frozenset[str] = frozenset()


class Authority(Protocol):
    """Who grants leases and takes usage. Whatever a method has returned is durable."""

    async def lease(self, request: LeaseRequest) -> LeaseReply:
        """Grant or refuse each want, take back the returns, and prolong the holder's leases.

        Raises `Unavailable` when the ledger cannot be written; nothing was done then, unless it is `OutcomeUnknown`.
        """
        ...

    async def recalled(self, holder: str) -> Collection[str]:
        """Wait until others are short of accounts on which this holder has leases; which these are. Each is told once.

        The holder gives back what it has free there with its next call, which names them as `answers`.
        """
        ...

    async def report(self, records: Sequence[UsageRecord], counters: Counters | None = None) -> None:
        """Book settled requests, each once however often it is reported (I3). Raises `Unavailable`.

        `counters` are what the holder has counted when it reports: all that it has settled, those that still wait as well.
        """
        ...

    async def close(self, holder: str, kept: Mapping[str, int]) -> None:
        """End a holder: what `kept` names stays as unreconciled, the rest of its leases is given back.

        Called for a holder that stopped in order (nothing kept) and for one that died, whose requests in flight are kept.
        """
        ...


def decide(limit: Limit, account: Account, want: Want, now: datetime, lendable: int = 0) -> int | Refusal:
    """The amount to lease, at least `want.need`, or the refusal with its numbers. Pure; books nothing.

    Near the cap leases shrink: what is asked ahead of need gets at most a 16th of what is left after this request.
    `lendable` is what no loan could add now but may soon (see `Refusal`). A window that has ended grants what is free there
    to requests that were admitted before (B6), as long as it has not handed that on (`too_late`); its refusals are `ENDED`.
    """
    available = account.available(limit)
    phase = account.phase(limit)
    if phase is not Phase.INSUFFICIENT and available >= want.need:
        return sized(want, available)
    standing = standing_of(limit, account, want.need, lendable)
    return _refused(standing, _reason(limit, account, want, phase, now, lendable))


def sized(want: Want, available: int) -> int:
    """How much is leased for a want out of what is available: at least as much as it needs."""
    desired, ahead = want.desired, want.ahead
    if desired >= available:
        return available
    share = (available - desired) // SHARE_AHEAD
    return desired + (min(share, ahead))


def too_late(limit: Limit, account: Account, want: Want) -> Refusal:
    """The refusal of a window that has ended and handed on what it had left: who tries again counts in the next one."""
    return _refused(replace(standing_of(limit, account, want.need), available=0), Reason.ENDED)


def unanswerable(account: str, ref: LimitRef, need: int, reason: Reason, fault: str = "") -> Refusal:
    """The refusal of an account of which nothing can be told: it is not known, or there is a fault with it."""
    return Refusal(
        account=account,
        ref=ref,
        tenants=frozenset(),
        unit=Unit.REQUESTS,
        phase=Phase.INSUFFICIENT,
        balance=0,
        minimum=0,
        available=0,
        need=need,
        resets=None,
        reason=reason,
        fault=fault,
    )


def _refused(standing: Standing, reason: Reason) -> Refusal:
    return Refusal(**{name: getattr(standing, name) for name in Standing.__slots__}, reason=reason)


def standing_of(limit: Limit, account: Account, need: int, lendable: int = 0) -> Standing:
    """How a limit stands when it is asked for `need`."""
    return Standing(
        account=account.id,
        ref=limit.ref,
        tenants=limit.tenants,
        unit=limit.unit,
        phase=account.phase(limit),
        balance=account.balance,
        minimum=limit.minimum,
        available=account.available(limit),
        need=need,
        resets=account.window_end,
        lendable=lendable,
    )


def _reason(limit: Limit, account: Account, want: Want, phase: Phase, now: datetime, lendable: int) -> Reason:
    """F1: contended when waiting a minute may help, used up otherwise; in a window that has ended nobody waits."""
    if account.window_end is not None and account.window_end <= now:
        return Reason.ENDED
    is_open = phase is not Phase.INSUFFICIENT or lendable > 0
    held_by_others = is_open and account.room(limit) + lendable >= want.need
    resets_soon = account.window_end is not None and account.window_end - now <= CONTENDED_WITHIN
    return Reason.CONTENDED if held_by_others or resets_soon else Reason.USED_UP


def deciding(refusals: Sequence[Refusal]) -> Refusal:
    """Of several refusals, the one that lasts longest (F4): used up before contended, then the latest reset."""
    if not refusals:
        raise ValueError("no refusal to decide between")

    def lasts(refusal: Refusal) -> tuple[bool, bool, float]:
        resets = refusal.resets.timestamp() if refusal.resets else 0.0
        return (refusal.reason is Reason.USED_UP, refusal.resets is None, resets)

    return max(refusals, key=lasts)
