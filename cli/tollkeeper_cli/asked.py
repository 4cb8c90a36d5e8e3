"""What the control socket can be asked, read and checked as far as no ledger is needed for it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from tollkeeper.amounts import LARGEST, TooLarge, Unit, parse_amount
from tollkeeper.errors import InvalidValue, shown
from tollkeeper.limits import LimitRef
from tollkeeper.usage import LONGEST_NAME, is_name
from tollkeeper_cli.errors import WrongRequest
from tollkeeper_ledger.corrections import LONGEST_REASON


def _encodable(text: object) -> object:
    """The text itself. Raises `ValueError` where bytes that are no text stand in it: neither socket nor ledger takes them."""
    if isinstance(text, str) and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError(f"{text!r} has bytes that are no text in UTF-8: write it in UTF-8")
    return text


_ENCODABLE = BeforeValidator(_encodable)
Given = Annotated[str, _ENCODABLE]
Text = Annotated[str, Field(min_length=1, max_length=500), _ENCODABLE]
Reason = Annotated[str, Field(pattern=r"\S", max_length=LONGEST_REASON), _ENCODABLE]
Whole = Annotated[int, Field(ge=-LARGEST, le=LARGEST, strict=True)]

_ANY_AMOUNT = "write dollars such as 25.00, or a whole number of tokens or requests such as 2M"
_WRITE = {
    True: "dollars with at most 9 decimals, such as 25.00",
    False: "a whole number, or one with k, M or G, such as 2M",
}
_EMPTY = {
    "amount": f"is empty: {_ANY_AMOUNT}",
    "reason": "is empty: say why; it stands in the ledger for good",
    "reference": "is empty: name what the correction goes back to, such as a ticket, or leave the option out",
}

_OPTIONS = {*_EMPTY, "key", "limit"}


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Adjust(_Asked):
    """Correct one account. `limit` empty: a budget, else a quota's limit. `at` picks the window; left out: now's."""

    do: Literal["adjust"] = "adjust"
    namespace: Text
    name: Text
    limit: Given = ""
    key: tuple[Given, ...] = ()
    at: datetime | None = None
    unit: Unit | None = None
    amount: Text
    reason: Reason
    reference: Text | None = None
    unreconciled: bool = False

    @property
    def ref(self) -> LimitRef:
        """The limit that is meant."""
        return LimitRef("TokenQuota" if self.limit else "TokenBudget", self.namespace, self.name, self.limit)

    def amount_in(self, unit: Unit) -> int:
        """The amount in the unit that the limit counts. Raises `WrongRequest` with that unit and how to write it."""
        return _amount(self.amount, unit, f"{self.ref} counts {unit}")

    def check_names(self) -> None:
        """Raise `WrongRequest` for a key that no request can count under, since the gateway refuses it."""
        for value in self.key:
            if not is_name(value):
                shown = repr(value) if len(value) <= LONGEST_NAME else f"{value[:20]!r}… ({len(value)} characters)"
                raise WrongRequest(f"--key {shown} is not a name: write at most {LONGEST_NAME} printable characters")

    def check(self) -> None:
        """Raise `WrongRequest` for an amount that is none in whatever unit, or that changes nothing."""
        if not (readings := tuple(_readings(self.amount))):
            raise WrongRequest(f"--amount {shown(self.amount)} is not an amount: {_ANY_AMOUNT}")
        if 0 in readings:
            raise WrongRequest(f"--amount {self.amount}: a correction of 0 changes nothing; name what is to change")
        if self.unreconciled and min(readings) < 0:
            raise WrongRequest(
                f"--amount {self.amount}: --unreconciled only gives back; write the amount without its -, "
                "or leave --unreconciled out to charge it"
            )


class Refund(_Asked):
    """Give a request back; `amount` is the part of its cost in dollars, left out: all."""

    do: Literal["refund"] = "refund"
    request: Text
    amount: Text | None = None
    reason: Reason

    @property
    def cost(self) -> int | None:
        """The part in nano-dollars; None: all. Raises `WrongRequest`."""
        return None if self.amount is None else _amount(self.amount, Unit.USD, "a part of a request's cost is in USD")

    def check(self) -> None:
        """Raise `WrongRequest` for an amount that is no money above zero."""
        if self.cost is not None and self.cost <= 0:
            raise WrongRequest(f"--amount {self.amount}: a refund gives back more than 0; leave the option out for all")


class Correct(_Asked):
    """Book one correction of a reconciliation, unless its mark is booked. It may change no account."""

    do: Literal["correct"] = "correct"
    mark: Text
    changes: Annotated[tuple[tuple[Text, Whole], ...], Field(max_length=20_000)]
    reason: Reason
    details: dict[str, Any] = {}

    def check(self) -> None:
        """Nothing: its amounts are computed."""


Asked = Adjust | Refund | Correct
_ASKED: TypeAdapter[Asked] = TypeAdapter(Annotated[Asked, Field(discriminator="do")])


def read(raw: Mapping[str, Any]) -> Asked:
    """A request. Raises `WrongRequest` with all that is wrong with its form."""
    try:
        asked = _ASKED.validate_python(raw)
    except ValidationError as error:
        raise WrongRequest("; ".join(_wrong(one) for one in error.errors())) from error
    asked.check()
    return asked


def read_asked(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """A request as it is sent: what is None left out, everything checked. Raises `WrongRequest`."""
    given = {name: value for name, value in raw.items() if value is not None}
    return read(given).model_dump(mode="json", exclude_none=True)


def _wrong(error: ErrorDetails) -> str:
    """One fault, under the name of the command's option where there is one."""
    field = ".".join(map(str, error["loc"][1:])) or "do"
    option = f"--{error['loc'][1]}" if error["loc"][1:2] and error["loc"][1] in _OPTIONS else field
    match error["type"]:
        case "string_too_short" | "string_pattern_mismatch":
            return f"{option} {_EMPTY.get(field, 'is empty: name it')}"
        case "string_too_long":
            most = error.get("ctx", {}).get("max_length")
            return f"{option} has {len(error['input'])} characters: shorten it to {most}"
        case _:
            return f"{option}: {error['msg'].removeprefix('Value error, ')}"


def _amount(text: str, unit: Unit, counted: str) -> int:
    try:
        return parse_amount(text.removeprefix("+"), unit)
    except TooLarge as error:
        raise WrongRequest(f"--amount {error}") from error
    except InvalidValue as error:
        raise WrongRequest(f"--amount {shown(text)}: {counted}; write {_WRITE[unit.is_money]}") from error


def _readings(text: str) -> list[int]:
    """What an amount comes to in each kind of unit that it can be one of; what is too large is one of them."""
    readings = []
    for unit in (Unit.USD, Unit.TOKENS):
        try:
            readings.append(parse_amount(text.removeprefix("+"), unit))
        except TooLarge:
            readings.append(-LARGEST if text.startswith("-") else LARGEST)
        except InvalidValue:
            continue
    return readings
