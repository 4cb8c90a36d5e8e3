"""Whether a request is let in, and what has to be held for it: gather from the policy, decide, no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tollkeeper.amounts import Unit
from tollkeeper.keys import ApiKey
from tollkeeper.limits import Limit, Target
from tollkeeper.policy import BoundAccount, PolicySet, TenantNode
from tollkeeper.prices import Price
from tollkeeper.usage import Caller
from tollkeeper_sidecar import refusals
from tollkeeper_sidecar.callers import caller_of, named_by
from tollkeeper_sidecar.demand import Demand, demand_of, tokens_of
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
    """The accounts of a target, while its windows last."""

    policy: PolicySet
    since: datetime
    until: datetime | None
    bound: tuple[tuple[str, BoundAccount], ...]


class Admission:
    """Decides for one gateway; remembers the accounts of recent targets while policy and windows stay the same."""

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
        bound = self._accounts(policy, Target(caller, provider, chat.model), now)
        hard = [(account, one) for account, one in bound if one.limit.is_hard]
        price = _price(policy, provider, chat.model, [one for _, one in hard], now)
        demand = self._demand(policy, tenant, provider, chat, price, hard)
        counts_output = any(one.limit.unit not in _WITHOUT_OUTPUT for _, one in hard)
        limited = counts_output and (tenant.output_limit == LOWER or chat.output_limit is not None)
        return Plan(caller, named.tool, tuple((text, one.limit) for text, one in bound), price, demand, limited)

    def _demand(
        self,
        policy: PolicySet,
        tenant: TenantNode,
        provider: str,
        chat: ChatRequest,
        price: Price | None,
        hard: list[tuple[str, BoundAccount]],
    ) -> Demand:
        window = policy.prices.context_window(provider, chat.model) if hard else None
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

    def _accounts(self, policy: PolicySet, target: Target, now: datetime) -> tuple[tuple[str, BoundAccount], ...]:
        found = self._found.get(target)
        if found is None or found.policy is not policy or now < found.since or (found.until and now >= found.until):
            found = _find(policy, target, now)
            if len(self._found) >= _MOST_REMEMBERED:
                self._found.clear()
            self._found[target] = found
        return found.bound


def _find(policy: PolicySet, target: Target, now: datetime) -> _Found:
    bound, refused = policy.accounts_for(target, now)
    if refused:
        raise refusals.not_named(refused[0])
    ends = [one.window.end for one in bound if one.window.end is not None]
    return _Found(policy, now, min(ends, default=None), tuple((one.account.text, one) for one in bound))


def _price(policy: PolicySet, provider: str, model: str, hard: list[BoundAccount], now: datetime) -> Price | None:
    """The model's price. Without one it is refused where money must hold, and counted as unpriced elsewhere (M6)."""
    price = policy.prices.find(provider, model, now)
    money = next((one.limit for one in hard if one.limit.unit is Unit.USD), None)
    if price is None and money is not None:
        raise refusals.not_priced(model, provider, money)
    return price
