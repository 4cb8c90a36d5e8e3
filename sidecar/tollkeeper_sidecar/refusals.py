"""What a refused caller is told: which limit, why, until when, and what helps (F1, F4). Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from tollkeeper.accounts import Phase
from tollkeeper.amounts import Unit, format_amount
from tollkeeper.leases import CONTENDED_WITHIN, Reason, Refusal, Standing, deciding
from tollkeeper.limits import LONGEST_ACCOUNT, AccountId, Limit
from tollkeeper.policy import PolicySet
from tollkeeper.usage import Caller
from tollkeeper.windows import format_time
from tollkeeper_sidecar.errors import Denial, RequestRefused

LONGEST_RETRY_SECONDS = 60
_OURS = {
    Reason.UNKNOWN_ACCOUNT: "is not known to the authority yet: its policy is being published",
    Reason.FAULT: (
        "cannot be counted for this request: the authority met a fault with this account, and with no other. "
        "Its log says which; whoever runs the gateway has to see to it"
    ),
}
"""Reasons for which a limit refuses that are no caller's fault, as they go on after the limit's name (F2)."""

_NOUNS = {
    Unit.USD: "USD",
    Unit.TOKENS: "tokens",
    Unit.INPUT_TOKENS: "input tokens",
    Unit.OUTPUT_TOKENS: "output tokens",
    Unit.WEIGHTED_TOKENS: "weighted tokens",
    Unit.REQUESTS: "requests",
}


def judged(refusal: Refusal, need: int, unreported: int, now: datetime) -> Refusal:
    """The refusal of a request that needs `need` in all, when so much usage has not been booked yet (F1).

    The authority saw only what was missing here. Room that others hold helps if it is enough for the whole request.
    """
    if refusal.reason in _OURS or refusal.reason is Reason.ENDED:
        return replace(refusal, need=need)
    room = refusal.balance - refusal.minimum - unreported + refusal.lendable
    may_come_back = (refusal.phase is not Phase.INSUFFICIENT or refusal.lendable > 0) and room >= need
    resets_soon = refusal.resets is not None and refusal.resets - now <= CONTENDED_WITHIN
    reason = Reason.CONTENDED if may_come_back or resets_soon else Reason.USED_UP
    return replace(refusal, need=need, reason=reason, balance=refusal.balance - unreported)


def noted(standing: Standing, need: int, unreported: int) -> Standing:
    """How a limit that does not refuse stands for a request that needs `need`, when so much usage is not booked yet."""
    return replace(standing, need=need, balance=standing.balance - unreported)


def refused_by(
    refusals: Sequence[Refusal],
    others: Sequence[Standing],
    limits: Mapping[str, Limit],
    policy: PolicySet,
    caller: Caller,
    now: datetime,
) -> RequestRefused:
    """The one refusal to tell, of those of several limits: that which lasts longest (F4). `limits` by account.

    Every limit that was looked at goes with it as data, `others` too, which do not refuse.
    """
    refusal = deciding(refusals)
    if (why := _OURS.get(refusal.reason)) is not None:
        return RequestRefused(Denial.OURS, f"{refusal.ref} {why}", retry_after=1)
    told = tuple(
        looked_at(one, decides=one is refusal, amounts=_may_see(one, limits.get(one.account), policy, caller))
        for one in (*refusals, *others)
    )
    numbers = _numbers(refusal) if _may_see(refusal, limits.get(refusal.account), policy, caller) else ""
    if refusal.reason is Reason.ENDED:
        message = f"{refusal.ref} has no room in this window, which has just ended. Retry in 1 s."
        return RequestRefused(Denial.CONTENDED, message, retry_after=1, limits=told)
    if refusal.reason is Reason.CONTENDED:
        wait = _retry_after(refusal, now)
        why = "what is left is held by requests in flight" if refusal.held_by_others else f"it {_gone(refusal)}"
        message = f"{refusal.ref} has no room right now: {why}{numbers}. Retry in {wait} s."
        return RequestRefused(Denial.CONTENDED, message, retry_after=wait, limits=told)
    message = f"{refusal.ref} {_gone(refusal)}{numbers}. {_reset_of(refusal)} {_remedy(refusal)}"
    return RequestRefused(Denial.USED_UP, message, resets=refusal.resets, limits=told)


def looked_at(standing: Standing, *, decides: bool, amounts: bool) -> dict[str, object]:
    """A limit as programs read it; money is a decimal string, everything else a whole number, times are RFC 3339.

    `available` is what could be set aside for this request; a limit that refuses says why in `reason`.
    """
    told: dict[str, object] = {
        "limit": str(standing.ref),
        "refuses": isinstance(standing, Refusal),
        "decides": decides,
        "unit": standing.unit.value,
        "resets": format_time(standing.resets) if standing.resets else None,
    }
    if isinstance(standing, Refusal):
        told["reason"] = standing.reason.value
    if amounts:
        shown = ("need", "available", "balance", "minimum")
        told |= {name: _told(getattr(standing, name), standing.unit) for name in shown} | {
            "phase": standing.phase.value
        }
    return told


def _told(amount: int, unit: Unit) -> str | int:
    return format_amount(amount, unit) if unit is Unit.USD else amount


def not_named(limit: Limit) -> RequestRefused:
    """A limit that counts by somebody and refuses callers who do not say who they are (B9)."""
    per = " and ".join(dimension.value for dimension in limit.per)
    return RequestRefused(
        Denial.NOT_PERMITTED,
        f"{limit.ref} counts per {per} and takes no request without: name it in the Tollkeeper- headers, or use a key that does",
        code="caller_not_named",
    )


def named_at_length(limit: Limit) -> RequestRefused:
    """What a limit counts by has names so long that no ledger can keep an account for them."""
    per = " and ".join(dimension.value for dimension in limit.per)
    return RequestRefused(
        Denial.BAD_REQUEST,
        f"{limit.ref} counts per {per}, and the names of this request are too long together: "
        f"percent-encoded they make an account of more than {LONGEST_ACCOUNT} characters. Use shorter names",
        code="names_too_long",
    )


def not_priced(model: str, provider: str, limit: Limit) -> RequestRefused:
    """A model without a price where a limit in money must hold (M6)."""
    return RequestRefused(
        Denial.MODEL_NOT_PRICED,
        f"model {model} of {provider} has no price, and {limit.ref} is a hard limit in USD: "
        "add it to a PriceBook (spec.models), or set unknownModels: Fallback there",
        param="model",
    )


def stale(limit: Limit) -> RequestRefused:
    """The authority is away and the limit fails closed (I5)."""
    return RequestRefused(
        Denial.OURS,
        f"the ledger cannot be reached and {limit.ref} fails closed (whenStale: FailClosed). Retry in a moment.",
        code="usage_stale",
        retry_after=1,
    )


def _may_see(standing: Standing, limit: Limit | None, policy: PolicySet, caller: Caller) -> bool:
    """Amounts are told of the caller's own tenant and those below it (F4)."""

    def is_below(tenant: str) -> bool:
        node = policy.tenants.get(tenant)
        return node is not None and caller.tenant in node.chain

    if limit is not None and limit.each_tenant:
        # Each tenant has an account of its own, which its key names first: others' amounts are not in it.
        return is_below(AccountId.parse(standing.account).key[0])
    return all(is_below(tenant) for tenant in standing.tenants)


def _numbers(refusal: Refusal) -> str:
    noun = _NOUNS[refusal.unit]

    def shown(amount: int) -> str:
        told = format_amount(amount, refusal.unit)
        return f"{told} {noun.removesuffix('s') if told == '1' else noun}"

    if refusal.phase is Phase.INSUFFICIENT and refusal.balance - refusal.minimum >= refusal.need:
        # Rule B3: this request would fit, and the account is blocked all the same.
        why = "less is left than its requests cost on average"
    else:
        why = f"this request needs at least {shown(refusal.need)}"
    return f" (balance {shown(refusal.balance)}, minimum {shown(refusal.minimum)}, {why})"


def _gone(refusal: Refusal) -> str:
    """Whether nothing is left for anybody, or only too little for this request."""
    return "is used up" if refusal.phase is Phase.INSUFFICIENT else "has too little left for this request"


def _retry_after(refusal: Refusal, now: datetime) -> int:
    """A second where requests in flight may give back; the time until the reset where only that helps."""
    if refusal.resets is None or refusal.held_by_others:
        return 1
    return min(LONGEST_RETRY_SECONDS, max(1, -((now - refusal.resets) // timedelta(seconds=1))))


def _reset_of(refusal: Refusal) -> str:
    return (
        "It is prepaid and does not reset."
        if refusal.resets is None
        else f"It resets at {format_time(refusal.resets)}."
    )


def _remedy(refusal: Refusal) -> str:
    if refusal.ref.kind == "TokenBudget":
        return f"A TokenGrant for budget {refusal.ref.name} in namespace {refusal.ref.namespace} opens it at once."
    return "Its owner can raise the limit's amount."
