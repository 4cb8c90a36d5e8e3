"""How far a build is, and how that is shown: one updating line on a terminal, sparse plain lines elsewhere."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

# Below this share of the work the rate is noise, and no time left is shown.
_MEASURABLE_SHARE = 0.02
_PLAIN_LINE_EVERY_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class BuildState:
    """A moment of a build.

    `share` is the part of all compile work that is done (0 to 1), or None while nothing can be measured (fetching,
    waiting). `elapsed_seconds` counts from the start of the step that `share` measures. `detail` is a number worth
    seeing beside it.
    """

    doing: str
    elapsed_seconds: float
    share: float | None = None
    detail: str = ""

    @property
    def remaining_seconds(self) -> float | None:
        """The time left at the rate so far, or None while too little is done to tell."""
        if self.share is None or self.share < _MEASURABLE_SHARE:
            return None
        return self.elapsed_seconds * (1 - self.share) / self.share


Progress = Callable[[BuildState], None]


def silent(_state: BuildState) -> None:
    """Show nothing."""


def described(state: BuildState) -> str:
    """One line about `state`: what is done, how far it is, how long it takes still."""
    parts = [state.doing, *([state.detail] if state.detail else [])]
    if state.share == 1:
        return f"{state.doing} in {_duration(state.elapsed_seconds)}"
    if state.share is not None:
        parts.append(f"{int(state.share * 100)} %")
    if (left := state.remaining_seconds) is not None:
        parts.append(f"about {_duration(left)} left")
    else:
        parts.append(f"{_duration(state.elapsed_seconds)} so far")
    return " · ".join(parts)


def shown_on(stream: TextIO | None = None) -> Progress:
    """A progress display that suits `stream` (standard error when not given)."""
    target = sys.stderr if stream is None else stream
    return _TerminalLine(target) if target.isatty() else _PlainLines(target)


def _duration(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02} s"


class _TerminalLine:
    """Rewrites one line, and ends it when the work is done.

    The cursor waits at the start of the line, so that whatever is written next stands over it.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, state: BuildState) -> None:
        width = shutil.get_terminal_size().columns - 1
        self._stream.write("\r" + described(state)[:width].ljust(width) + "\r")
        if state.share == 1:
            self._stream.write("\n")
        self._stream.flush()


class _PlainLines:
    """Writes a line when another thing is done, and else one every 20 seconds."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._doing = ""
        self._written_at = 0.0

    def __call__(self, state: BuildState) -> None:
        news = state.doing != self._doing or state.share == 1
        if not news and 0 <= state.elapsed_seconds - self._written_at < _PLAIN_LINE_EVERY_SECONDS:
            return
        self._doing, self._written_at = state.doing, state.elapsed_seconds
        self._stream.write(described(state) + "\n")
        self._stream.flush()
