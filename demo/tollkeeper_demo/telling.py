"""How the story is shown: steps, commands as typed with what they print, and a table at the end."""

from collections.abc import Iterable
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH_WITHOUT_TERMINAL = 130


class StoryError(Exception):
    """A step of the story did not hold, or could not be taken. One line: what, where, what to do."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the closing table; `held` is None for what is only told. What only a busy machine fails does not `decide`."""

    name: str
    value: str
    goal: str = ""
    held: bool | None = None
    decides: bool = True


class Teller:
    """Prints the story. Colours only on a terminal."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        if not self._console.is_terminal:
            self._console.width = WIDTH_WITHOUT_TERMINAL
        self._step = 0

    def step(self, title: str) -> None:
        """Begin a step."""
        self._step += 1
        self._console.print()
        self._console.print(Text(f"{self._step}. {title}", style="bold"))

    def say(self, text: str) -> None:
        """A plain line."""
        self._console.print(Text(text))

    def command(self, line: str, output: str) -> None:
        """A command as typed, and what it printed."""
        self._console.print(Text(f"$ {line}", style="cyan"))
        if output.strip():
            self._console.print(Text(output.rstrip()))

    def table(self, figures: Iterable[Figure]) -> None:
        """The closing table."""
        table = Table(title="What was measured", title_justify="left", box=box.SIMPLE_HEAD)
        for column in ("", "measured", "asked for", "held"):
            table.add_column(column)
        for figure in figures:
            held = {None: "", True: "yes", False: "NO"}[figure.held]
            table.add_row(figure.name, figure.value, figure.goal, held, style="red" if figure.held is False else "")
        self._console.print()
        self._console.print(table)
