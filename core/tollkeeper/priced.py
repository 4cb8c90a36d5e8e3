"""How usage without a price is told: by the condition `Priced`, and by Events (M6, K8).

Pure. Such usage counts as costing nothing, so somebody has to be told. What is told ends when the model has a price, or
with the window: nothing is priced anew.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from tollkeeper.conditions import Condition, message_of
from tollkeeper.notices import Notice, Reason
from tollkeeper.unpriced import Unpriced, UnpricedModel
from tollkeeper.windows import Window

PRICED = "Priced"
"""The condition. It stands, False, only where there is something to tell."""

NAMED = 4
"""How many models a status names, those that were used first: callers make names up, so the number must have a bound."""

_LONGEST_NAME = 100
_SHORTEST_SPAN = timedelta(hours=23)
"""A day where clocks change."""

_REMEDY = "add it to spec.models of a PriceBook, or give one book fallback prices (spec.unknownModels: Fallback)"


def span_of(windows: Iterable[Window], now: datetime) -> str:
    """What bounds Events to one for each model: the longest of an object's windows, at least a day (UTC)."""
    widest_window = max(windows, key=lambda window: (window.end is None, _length(window)), default=None)
    if widest_window is None or (widest_window.end is not None and _length(widest_window) < _SHORTEST_SPAN):
        return now.astimezone(UTC).date().isoformat()
    return widest_window.key()


def priced(unpriced: Unpriced) -> tuple[Condition, ...]:
    """The condition that tells of it; none where every model has a price."""
    told = ", ".join(f"{_name(one)} ({_used(one)})" for one in unpriced.models[:NAMED])
    unnamed = sum(one.requests for one in unpriced.models[NAMED:]) + unpriced.others
    if not told and not unnamed:
        return ()
    more = f"{_requests(unnamed)} of other models" if unnamed else ""
    used = " and ".join(part for part in (told, more) if part)
    message = f"used without a price, which counts as costing nothing: {used}; for each model: {_REMEDY}"
    return (Condition(PRICED, False, "UnknownModels", message),)


def unpriced_notices(before: Mapping[str, Any], unpriced: Unpriced, span: str) -> Iterator[Notice]:
    """One notice for each model that the status before did not name, and so for each model and span one Event."""
    told = message_of(before, PRICED)
    for one in unpriced.models[:NAMED]:
        name = _name(one)
        # With the space before it: another provider's name may end like this one's.
        if f" {name} (" not in told:
            message = f"{name} has no price: so far {_used(one)} count as costing nothing; {_REMEDY}"
            yield Notice(Reason.UNPRICED, message, f"{span}/{one.provider}/{one.model}")


def _name(model: UnpricedModel) -> str:
    """The model as it is told: one line, cut where it is too long."""
    name = f"{model.provider}/{model.model}"
    shown = name if name.isprintable() else ascii(name)
    return shown if len(shown) <= _LONGEST_NAME else shown[: _LONGEST_NAME - 1] + "…"


def _used(model: UnpricedModel) -> str:
    """How much was used of it, in words."""
    return f"{_requests(model.requests)}, {model.tokens} tokens"


def _length(window: Window) -> timedelta:
    return window.end - window.start if window.end else timedelta.max


def _requests(count: int) -> str:
    return "1 request" if count == 1 else f"{count} requests"
