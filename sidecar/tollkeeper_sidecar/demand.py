"""What a request may take from each hard account, as a function of its output limit. Pure (H1, H2).

The rule for the prompt: a token of a byte-level tokenizer stands for at least one byte, so a prompt has no more tokens
than its body has bytes; to that come 16 for each message and 64 for the request, for the marks that chat formats put in.
Content by reference is bounded by the model's context window, or by a stated default where that is unknown.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Final, NamedTuple

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
class Tokens:
    """The most tokens of a request: its prompt, its number of choices, and output that no limit bounds (predictions)."""

    prompt: int
    choices: int
    unlimited_output: int

    def output(self, limit: int) -> int:
        """The most output tokens over all choices with this output limit."""
        return self.choices * (limit + self.unlimited_output)


class HardAccounts:
    """The hard accounts that a target falls under (`bound`), and all that its requests have in common there.

    Found once for many requests: nothing in it depends on what one of them asks for. Of accounts whose limits count the
    same, every request takes the same amount: they share a place in what is held and used, unless they stand `apart`.
    `places` are the accounts with theirs, `limits` says what each place counts. Compared by identity, so that the desk's
    pools find at once which of them a request takes from.
    """

    __slots__ = ("bound", "limits", "places")

    def __init__(self, accounts: Iterable[tuple[str, BoundAccount]], *, apart: Collection[str] = ()) -> None:
        self.bound = tuple(accounts)
        measures = [account if account in apart else _measure(bound.limit) for account, bound in self.bound]
        place = {measure: number for number, measure in enumerate(dict.fromkeys(measures))}
        counts = {measure: bound.limit for measure, (_, bound) in zip(measures, self.bound, strict=True)}
        self.limits = tuple(counts.values())
        self.places = tuple(
            (account, place[measure]) for measure, (account, _) in zip(measures, self.bound, strict=True)
        )

    def hold(self, price: Price | None, tokens: Tokens, output_limit: int) -> "Hold":
        """What a request with this output limit can take at most."""
        each = [greatest_amount(limit, price, tokens, output_limit) for limit in self.limits]
        return Hold(output_limit, self, tuple(each))

    def by_account(self, each: Sequence[int]) -> dict[str, int]:
        """An amount for each place, as amounts of the accounts."""
        return {account: each[place] for account, place in self.places}


class Hold(NamedTuple):
    """What is set aside for one request: an amount at each place, enough for `output_limit` tokens in each choice."""

    output_limit: int
    hard: HardAccounts
    each: tuple[int, ...]

    @property
    def amounts(self) -> dict[str, int]:
        """What is set aside by account."""
        return self.hard.by_account(self.each)

    @property
    def unused(self) -> tuple[int, ...]:
        """What a request uses that comes to nothing: 0 at each place."""
        return (0,) * len(self.each)

    def without(self, accounts: Collection[str]) -> "Hold":
        """The same hold, but for these accounts, from which nothing is held."""
        hard = HardAccounts(self.hard.bound, apart=accounts)
        amounts = self.amounts | dict.fromkeys(accounts, 0)
        places = {place: account for account, place in hard.places}
        return Hold(self.output_limit, hard, tuple(amounts[places[place]] for place in range(len(places))))


def _measure(limit: Limit) -> tuple[Unit, frozenset[tuple[str, Decimal]]]:
    """What a limit counts: a unit, and where tokens are weighted the weights."""
    return limit.unit, frozenset(limit.weights.items() if limit.unit is Unit.WEIGHTED_TOKENS else ())


class AccountNeed(NamedTuple):
    """What a request needs of one hard account: at least `least`, in full `most`."""

    id: str
    bound: BoundAccount
    least: int
    most: int


class Demand(NamedTuple):
    """A request's needs. `least` and `most` are the output limits between which its hold may lie; `full` is the hold for
    the whole of `most`."""

    tokens: Tokens
    price: Price | None
    least: int
    most: int
    hard: HardAccounts
    full: Hold

    @property
    def needs(self) -> tuple[AccountNeed, ...]:
        """What it needs of each account. Only who waits has to know."""
        least, most = self._hold(self.least).amounts, self.full.amounts
        return tuple(AccountNeed(account, bound, least[account], most[account]) for account, bound in self.hard.bound)

    def within(self, available: Mapping[str, int]) -> Hold | None:
        """The hold with the largest output limit that fits these amounts (accounts left out are without bound).

        `None` when not even the smallest does.
        """

        def fits(hold: Hold) -> bool:
            return all(amount <= available.get(account, amount) for account, amount in hold.amounts.items())

        low, high = self.least, self.most
        if not fits(self._hold(low)):
            return None
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits(self._hold(middle)) else (low, middle - 1)
        return self._hold(low)

    def _hold(self, output_limit: int) -> Hold:
        return self.hard.hold(self.price, self.tokens, output_limit)


def demand_of(
    tokens: Tokens, price: Price | None, asked: int | None, most: int, hard: HardAccounts, *, lower: bool
) -> Demand:
    """The demand of a request that asked for an output limit, or for none and then takes `most`.

    With `lower` the limit may come down to 16, never below what was asked for if that is less (H2).
    """
    full = asked if asked is not None else most
    least = min(SMALLEST_OUTPUT, full) if lower else full
    return Demand(tokens, price, least, full, hard, hard.hold(price, tokens, full))


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
