"""What a measurement says: a value, a peer's value from the same run, and what was asked for. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

PEER = "peer"


@dataclass(frozen=True, slots=True)
class Goal:
    """At least, or at most, so much; without a value, as much as the peer."""

    sign: Literal["≥", "≤"]
    value: float | None = None

    def __str__(self) -> str:
        return f"{self.sign} {PEER if self.value is None else figure(self.value)}"

    def held_by(self, value: float, peer_value: float | None) -> bool:
        """Whether a value keeps the goal. One that the peer sets is not kept while the peer is not measured."""
        asked = peer_value if self.value is None else self.value
        if asked is None:
            return False
        return value >= asked if self.sign == "≥" else value <= asked


def at_least(value: float | None = None) -> Goal:
    """The more the better."""
    return Goal("≥", value)


def at_most(value: float | None = None) -> Goal:
    """The less the better."""
    return Goal("≤", value)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `name` is what documents refer to; `peer` says what the peer is, or how to get it."""

    name: str
    value: float
    unit: str
    peer: str | None = None
    peer_value: float | None = None
    goal: Goal | None = None

    @property
    def ratio(self) -> float | None:
        """Our value over the peer's."""
        return self.value / self.peer_value if self.peer_value else None

    @property
    def held(self) -> bool | None:
        """Whether the goal is kept; `None` where nothing was asked for."""
        return None if self.goal is None else self.goal.held_by(self.value, self.peer_value)

    def to_json(self) -> dict[str, Any]:
        """The row as `bench/results/latest.json` has it, numbers to four digits."""
        return {
            "name": self.name,
            "value": rounded(self.value),
            "unit": self.unit,
            "peer": self.peer,
            "peer_value": rounded(self.peer_value),
            "ratio": rounded(self.ratio),
            "goal": None if self.goal is None else str(self.goal),
            "held": self.held,
        }


def rounded(value: float | None) -> float | int | None:
    """Four significant digits: more would say more than was measured."""
    if value is None:
        return None
    short = float(f"{value:.4g}")
    return int(short) if short.is_integer() else short


def figure(value: float | None) -> str:
    """A number as the table shows it."""
    if value is None:
        return ""
    short = rounded(value)
    return f"{short:,}" if isinstance(short, int) else f"{short:,.4g}"


def lines(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The cells of the table, from rows as JSON has them."""
    held = {True: "yes", False: "NO", None: ""}
    return [
        (
            row["name"],
            figure(row["value"]),
            row["unit"],
            row["peer"] or "",
            figure(row["peer_value"]),
            figure(row["ratio"]),
            row["goal"] or "",
            held[row["held"]],
        )
        for row in rows
    ]


HEADINGS = ("", "measured", "unit", "peer", "measured", "ratio", "asked for", "held")
