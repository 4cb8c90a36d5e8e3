"""Whether a request is let in, and what has to be held for it: gather from the policy, decide, no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tollkeeper.amounts import Unit
from tollkeeper.keys import ApiKey
from tollkeeper.limits import LONGEST_ACCOUNT, Limit, Target
from tollkeeper.policy import PolicySet, TenantNode
from tollkeeper.prices import Price
from tollkeeper.usage import Caller
from tollkeeper_sidecar import refusals
from tollkeeper_sidecar.callers import caller_of, named_by
from tollkeeper_sidecar.demand import Demand, HardAccounts, demand_of, tokens_of
from tollkeeper_sidecar.openai_chat import ChatRequest
from tollkeeper_sidecar.settings import GatewaySettings

LOWER: Final = "Lower"
_MOST_REMEMBERED: Final = 4096
_WITHOUT_OUTPUT: Final = frozenset({Unit.REQUESTS, Unit.INPUT_TOKENS})


@dataclass(frozen=True, slots=True)
class Plan:
    """A request that may go on once `demand` is held. `limited`: its body's output limit must be what is held for."""

    caller: Caller
    tool: str | None
    accounts: tuple[tuple[str, Limit], ...]
    price: Price | None
    demand: Demand
    limited: bool


@dataclass(frozen=True, slots=True)
class _Found:
    """What all requests of a target have in common, while its windows last. `money`: a hard limit in USD, if there is one."""

    policy: PolicySet
    since: datetime
    until: datetime | None
    accounts: tuple[tuple[str, Limit], ...]
    hard: HardAccounts
    money: Limit | None
    counts_output: bool


class Admission:
    """Decides for one gateway; remembers what a recent target's requests have in common, while policy and windows stay."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._found: dict[Target, _Found] = {}

    def plan(
        self,
        policy: PolicySet,
        key: ApiKey,
        tenant: TenantNode,
        headers: Mapping[str, str],
        provider: str,
        chat: ChatRequest,
        now: datetime,
    ) -> Plan:
        """The plan for a chat completion. Raises `RequestRefused`."""
        named = named_by(headers, chat.fields)
        caller = caller_of(key, tenant, named, chat.model)
        found = self._of(policy, Target(caller, provider, chat.model), now)
        price = _price(policy, provider, chat.model, found.money, now)
        demand = self._demand(policy, tenant, provider, chat, price, found.hard)
        limited = found.counts_output and (tenant.output_limit == LOWER or chat.output_limit is not None)
        return Plan(caller, named.tool, found.accounts, price, demand, limited)

    def _demand(
        self,
        policy: PolicySet,
        tenant: TenantNode,
        provider: str,
        chat: ChatRequest,
        price: Price | None,
        hard: HardAccounts,
    ) -> Demand:
        window = policy.prices.context_window(provider, chat.model) if hard.bound else None
        tokens = tokens_of(chat, window, self._settings.default_context_tokens)
        lower = tenant.output_limit == LOWER
        return demand_of(tokens, price, chat.output_limit, self._most_output(window, lower=lower), hard, lower=lower)

    def _most_output(self, window: int | None, *, lower: bool) -> int:
        """The output limit of a request that names none.

        With Lower it gets one, so a stated default will do; with Keep it gets none, and only its context bounds it (H2).
        """
        if lower:
            return min(self._settings.default_output_tokens, window or self._settings.default_output_tokens)
        return window or self._settings.default_context_tokens

    def _of(self, policy: PolicySet, target: Target, now: datetime) -> _Found:
        found = self._found.get(target)
        if found is None or found.policy is not policy or now < found.since or (found.until and now >= found.until):
            found = _find(policy, target, now)
            if len(self._found) >= _MOST_REMEMBERED:
                self._found.clear()
            self._found[target] = found
        return found


def _find(policy: PolicySet, target: Target, now: datetime) -> _Found:
    bound, refused = policy.accounts_for(target, now)
    if refused:
        raise refusals.not_named(refused[0])
    if long := next((one.limit for one in bound if len(one.account.text) > LONGEST_ACCOUNT), None):
        raise refusals.named_at_length(long)
    hard = [one for one in bound if one.limit.is_hard]
    return _Found(
        policy,
        since=now,
        until=min((one.window.end for one in bound if one.window.end is not None), default=None),
        accounts=tuple((one.account.text, one.limit) for one in bound),
        hard=HardAccounts([(one.account.text, one) for one in hard]),
        money=next((one.limit for one in hard if one.limit.unit is Unit.USD), None),
        counts_output=any(one.limit.unit not in _WITHOUT_OUTPUT for one in hard),
    )


def _price(policy: PolicySet, provider: str, model: str, money: Limit | None, now: datetime) -> Price | None:
    """The model's price. Without one it is refused where money must hold, and counted as unpriced elsewhere (M6)."""
    price = policy.prices.find(provider, model, now)
    if price is None and money is not None:
        raise refusals.not_priced(model, provider, money)
    return price
