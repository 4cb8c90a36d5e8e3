"""What a request may take from each hard account, as a function of its output limit. Pure (H1, H2).

The rule for the prompt: a token of a byte-level tokenizer stands for at least one byte, so a prompt has no more tokens
than its body has bytes; to that come 16 for each message and 64 for the request, for the marks that chat formats put in.
Content by reference is bounded by the model's context window, or by a stated default where that is unknown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Final

from tollkeeper.amounts import Unit
from tollkeeper.limits import Limit
from tollkeeper.policy import BoundAccount
from tollkeeper.prices import INPUT_SIDE, OUTPUT_SIDE, Price
from tollkeeper_sidecar.openai_chat import ChatRequest

SMALLEST_OUTPUT: Final = 16
"""An output limit is never lowered below this (H2)."""

MARKS_PER_MESSAGE: Final = 16
MARKS_PER_REQUEST: Final = 64


@dataclass(frozen=True, slots=True)
class Hold:
    """What is set aside for one request: amounts by account, enough for `output_limit` tokens in each choice."""

    output_limit: int
    amounts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class AccountNeed:
    """What a request needs of one hard account: at least `least`, in full `most`."""

    id: str
    bound: BoundAccount
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Tokens:
    """The most tokens of a request: its prompt, its number of choices, and output that no limit bounds (predictions)."""

    prompt: int
    choices: int
    unlimited_output: int

    def output(self, limit: int) -> int:
        """The most output tokens over all choices with this output limit."""
        return self.choices * (limit + self.unlimited_output)


@dataclass(frozen=True, slots=True)
class Demand:
    """A request's needs. `least` and `most` are the output limits between which its hold may lie; `full` is the hold for
    the whole of `most`."""

    tokens: Tokens
    price: Price | None
    least: int
    most: int
    needs: tuple[AccountNeed, ...]
    full: Hold

    def within(self, available: Mapping[str, int]) -> Hold | None:
        """The hold with the largest output limit that fits these amounts (accounts left out are without bound).

        `None` when not even the smallest does.
        """
        bounding = [need for need in self.needs if need.id in available]
        if any(need.least > available[need.id] for need in bounding):
            return None
        low, high = self.least, self.most
        while low < high:
            middle = (low + high + 1) // 2
            fits = all(self._amount(need, middle) <= available[need.id] for need in bounding)
            low, high = (middle, high) if fits else (low, middle - 1)
        return Hold(low, {need.id: self._amount(need, low) for need in self.needs})

    def _amount(self, need: AccountNeed, output_limit: int) -> int:
        return greatest_amount(need.bound.limit, self.price, self.tokens, output_limit)


def demand_of(
    tokens: Tokens,
    price: Price | None,
    asked: int | None,
    most: int,
    hard: Sequence[tuple[str, BoundAccount]],
    *,
    lower: bool,
) -> Demand:
    """The demand of a request that asked for an output limit, or for none and then takes `most`.

    With `lower` the limit may come down to 16, never below what was asked for if that is less (H2).
    """
    full = asked if asked is not None else most
    least = min(SMALLEST_OUTPUT, full) if lower else full
    amounts: dict[Unit, tuple[int, int]] = {}
    needs = []
    for account, bound in hard:
        unit = bound.limit.unit
        if unit not in amounts or unit is Unit.WEIGHTED_TOKENS:
            # Only weights differ from limit to limit.
            amounts[unit] = (
                greatest_amount(bound.limit, price, tokens, least),
                greatest_amount(bound.limit, price, tokens, full),
            )
        needs.append(AccountNeed(account, bound, *amounts[unit]))
    return Demand(tokens, price, least, full, tuple(needs), Hold(full, {need.id: need.most for need in needs}))


def tokens_of(chat: ChatRequest, context_window: int | None, default_context: int) -> Tokens:
    """The most tokens that a request can have (H1)."""
    if chat.by_reference:
        return Tokens(context_window or default_context, chat.choices, chat.prediction_bytes)
    prompt = chat.prompt_bytes + MARKS_PER_MESSAGE * chat.messages + MARKS_PER_REQUEST
    return Tokens(prompt, chat.choices, chat.prediction_bytes)


def greatest_amount(limit: Limit, price: Price | None, tokens: Tokens, output_limit: int) -> int:
    """The most that a request can take from a limit, in the limit's unit."""
    output = tokens.output(output_limit)
    match limit.unit:
        case Unit.USD:
            return price.bound(tokens.prompt, output) if price else 0
        case Unit.TOKENS:
            return tokens.prompt + output
        case Unit.INPUT_TOKENS:
            return tokens.prompt
        case Unit.OUTPUT_TOKENS:
            return output
        case Unit.WEIGHTED_TOKENS:
            most_in, most_out = _greatest(limit, INPUT_SIDE), _greatest(limit, OUTPUT_SIDE)
            return int((tokens.prompt * most_in + output * most_out).to_integral_value(rounding=ROUND_CEILING))
        case Unit.REQUESTS:
            return 1


def _greatest(limit: Limit, side: Sequence[str]) -> Decimal:
    return max(limit.weights.get(name, Decimal(1)) for name in side)
