"""Builders of what comes to a lease desk, and what it answered."""

from collections.abc import Mapping

from tests.sidecar.builders import NOW, PRICES
from tests.sidecar.reference import ReferenceAuthority
from tollkeeper.limits import Limit
from tollkeeper.policy import BoundAccount
from tollkeeper_sidecar.demand import Demand, HardAccounts, Hold, Tokens, demand_of
from tollkeeper_sidecar.desk import Desk
from tollkeeper_sidecar.waiting import Waiting

PRICE = PRICES.find("openai", "gpt-5", NOW)


def bound_to(one: Limit) -> tuple[str, BoundAccount]:
    account, window = one.account_at((), NOW)
    return account.text, BoundAccount(one, account, window)


def demand(prompt: int, output: int, *limits: Limit, lower: bool = True) -> Demand:
    hard = HardAccounts([bound_to(one) for one in limits])
    return demand_of(Tokens(prompt, 1, 0), PRICE, output, output, hard, lower=lower)


def held(place: Hold | Waiting) -> tuple[int, Mapping[str, int]]:
    """The output limit and the amounts that a request was served with."""
    hold = place.outcome if isinstance(place, Waiting) else place
    assert isinstance(hold, Hold)
    return hold.output_limit, hold.amounts


def answered(desk: Desk, authority: ReferenceAuthority, mono: float) -> None:
    request = desk.next_request(NOW, mono)
    assert request is not None
    desk.answered(authority.lease_now(request, NOW), NOW, mono)


def holding_and_free(quota: Limit, authority: ReferenceAuthority) -> Desk:
    """A desk with a hold of 100, and 300 free."""
    desk = Desk("one", 10)
    places = [desk.arrive(demand(tokens - 16, 16, quota), 1.0) for tokens in (100, 300)]
    answered(desk, authority, 1.0)
    assert isinstance(places[1], Waiting)
    assert isinstance(places[1].outcome, Hold)
    desk.settle(places[1].outcome, places[1].outcome.unused, 1.0)
    return desk


def leave_over(desk: Desk, authority: ReferenceAuthority, of: Demand, mono: float) -> None:
    """A request waits for its lease, gets it and uses nothing of it, a tenth of a second later: all that lies idle."""
    place = desk.arrive(of, mono)
    answered(desk, authority, mono)
    assert isinstance(place, Waiting)
    assert isinstance(place.outcome, Hold)
    desk.settle(place.outcome, place.outcome.unused, mono + 0.1)
