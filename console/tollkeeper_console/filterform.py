"""The filter as the page shows it: its fields with what was written into them, what there is to choose, what is wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from tollkeeper.views import UsageChoices, UsageFilter
from tollkeeper_console.display import moment, wall
from tollkeeper_console.filters import NAMES, TEXTS, BadFilter, filter_of, is_clock_reading

MOST_VALUES = 100
"""So many values of a dimension are offered, those in most usages; where there may be more, any can be written."""

_LABELS = {
    "model": "Model",
    "tool": "Tool",
    "assistant": "Assistant",
    "api_key": "API key",
    "user": "User",
    "feature": "Feature",
    "status": "Status",
    "outcome": "Outcome",
    "from": "From",
    "to": "Before",
}


@dataclass(frozen=True, slots=True)
class Field:
    """One field: `options` are values and words; `is_open` ones take other values too."""

    name: str
    label: str
    value: str
    options: Sequence[tuple[str, str]]
    is_open: bool
    problem: str


@dataclass(frozen=True, slots=True)
class FilterForm:
    """What an address asks for. With a `problem`, `wanted` leaves all open and must not be shown as an answer."""

    zone: str
    written: Mapping[str, str]
    wanted: UsageFilter = field(default_factory=UsageFilter)
    problem: str = ""
    problem_of: str = ""

    @property
    def labels(self) -> Mapping[str, str]:
        """What is active, in words: by name, field and value."""
        return {name: f"{_LABELS[name]}: {self._words(name)}" for name in self.written}

    def dimensions(self, choices: UsageChoices) -> list[Field]:
        """The fields to choose a value in. Dimensions that no usage has are left out, unless they were asked for."""
        found = {
            **{name: [(value, value) for value in getattr(choices, name)] for name in TEXTS},
            "status": _statuses(choices.status),
            "outcome": [(one.value, _spaced(one.value)) for one in choices.outcome],
        }
        return [
            self._field(name, options, is_open=name in TEXTS and len(options) >= MOST_VALUES)
            for name, options in found.items()
            if options or name in self.written
        ]

    def times(self) -> list[Field]:
        """The two fields of the time range, as the zone's clock reads them."""
        return [self._field(name, (), is_open=True) for name in ("from", "to")]

    def _field(self, name: str, options: Sequence[tuple[str, str]], *, is_open: bool) -> Field:
        value = self._reading(name) if name in ("from", "to") else self.written.get(name, "")
        # What was asked for is shown as chosen, even where no usage has it any more.
        if value and not is_open and value not in dict(options):
            options = [(value, _spaced(value) if name == "outcome" else value), *options]
        problem = self.problem if name == self.problem_of else ""
        return Field(name, _LABELS[name], value, options, is_open, problem)

    def _reading(self, name: str) -> str:
        text = self.written.get(name, "")
        when = self.wanted.since if name == "from" else self.wanted.until
        return text if when is None or is_clock_reading(text) else wall(when, self.zone)

    def _words(self, name: str) -> str:
        when = {"from": self.wanted.since, "to": self.wanted.until}.get(name)
        if when is not None:
            return moment(when, self.zone)
        return _spaced(self.written[name]) if name == "outcome" else self.written[name]


def form_of(query: Mapping[str, str], zone: str) -> FilterForm:
    """The filter of a page's address. A bad one is told by the form, at its field."""
    written = {name: query[name] for name in NAMES if name in query}
    try:
        return FilterForm(zone, written, filter_of(query, zone))
    except BadFilter as bad:
        return FilterForm(zone, written, problem=str(bad), problem_of=bad.name)


def _statuses(statuses: Sequence[int]) -> list[tuple[str, str]]:
    """Each status, and before those of a class with several the class itself."""
    options: list[tuple[str, str]] = []
    for hundred, grouped in groupby(statuses, lambda status: status // 100):
        members = [(str(status), str(status)) for status in grouped]
        options += [(f"{hundred}xx", f"any {hundred}xx"), *members] if len(members) > 1 else members
    return options


def _spaced(word: str) -> str:
    return word.replace("_", " ")
