"""From what a request used to the record that is booked. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tollkeeper.limits import Limit
from tollkeeper.prices import Price
from tollkeeper.usage import Buckets, Caller, Charge, Outcome, UsageRecord
from tollkeeper_sidecar.demand import Hold, Tokens


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that was let in: whose it is, what it falls under (accounts and their limits), and what is held for it."""

    id: str
    holder: str
    caller: Caller
    provider: str
    model: str
    tool: str | None
    streamed: bool
    accounts: tuple[tuple[str, Limit], ...]
    tokens: Tokens
    price: Price | None
    hold: Hold
    admitted_at: datetime


@dataclass(frozen=True, slots=True)
class Ending:
    """How a request ended. `buckets` is `None` when nothing was used; `status` is what the client was sent."""

    buckets: Buckets | None
    outcome: Outcome
    status: int
    upstream_id: str | None = None
    estimated: bool = False


def record_of(admitted: Admitted, ending: Ending, finished_at: datetime) -> UsageRecord:
    """The record of an ended request; one that used nothing charges no account."""
    buckets = ending.buckets or Buckets()
    cost = admitted.price.cost(buckets) if admitted.price and ending.buckets is not None else None
    return UsageRecord(
        id=admitted.id,
        upstream_id=ending.upstream_id,
        holder=admitted.holder,
        caller=admitted.caller,
        provider=admitted.provider,
        model=admitted.model,
        tool=admitted.tool,
        buckets=buckets,
        cost=0 if ending.buckets is None else cost,
        price=admitted.price.label if admitted.price else None,
        admitted_at=admitted.admitted_at,
        finished_at=finished_at,
        status=ending.status,
        outcome=ending.outcome,
        streamed=admitted.streamed,
        estimated=ending.estimated,
        charges=_charges(admitted.accounts, admitted.hold, buckets, cost) if ending.buckets is not None else (),
        unit_prices=admitted.price.unit_prices(buckets) if admitted.price and ending.buckets is not None else {},
    )


def used_of(record: UsageRecord, hold: Hold) -> tuple[int, ...]:
    """What a record takes from leases, at each place of its hold; one that charges nothing takes nothing."""
    if not record.charges:
        return hold.unused
    return tuple([limit.amount_of(record.buckets, record.cost) for limit in hold.hard.limits])


def estimated(tokens: Tokens, hold: Hold, output_bytes: int) -> Buckets:
    """The usage of an answer that did not tell it (M7): the prompt's bound, and what was generated before our eyes.

    A token stands for at least one byte, so output has at most as many tokens as bytes were seen, and never more than the
    limit that was held for: an error is on the safe side, and within the hold.
    """
    output = min(output_bytes, tokens.output(hold.output_limit)) if hold.each else output_bytes
    return Buckets(input=tokens.prompt, output=output)


def _charges(
    accounts: Sequence[tuple[str, Limit]], hold: Hold, buckets: Buckets, cost: int | None
) -> tuple[Charge, ...]:
    held = hold.amounts
    return tuple(Charge(account, limit.amount_of(buckets, cost), held.get(account, 0)) for account, limit in accounts)
