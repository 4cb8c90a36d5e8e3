"""Regular expressions that people write: those of RE2, which no text can make hang (https://github.com/google/re2/wiki/Syntax).

RE2's time for one search grows with the text times the states of the pattern, and both are bounded here. It has no lookaround
and no back-references, which is what that takes; the API server's own CEL knows the same syntax. Python's interpreter goes
on while it searches. To find all places may take as many searches as there are places, each through most of the text
(`a.*b|a` in a row of a's), so whoever looks for what others wrote bounds it by `within`.
"""

import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, Final

import re2

from tollkeeper.errors import InvalidValue, TollkeeperError, shown

LONGEST_PATTERN: Final = 256
"""Characters of a pattern."""

MOST_STATES: Final = 2000
"""Of a pattern; a search takes up to so many steps for each byte of a text."""

_MOST_MEMORY: Final = 2**20
_COMPILED: Final = 1024
_SINGLE_BYTE: Final = re.compile(r"(?<!\\)(?:\\\\)*\\C")
_SURROGATES: Final = re.compile("[\ud800-\udfff]")


class TookTooLong(TollkeeperError):
    """A search was not done within the time that it had; says whether for a kind known by name or a pattern of the tenant's."""


class Deadline:
    """When searches have to be over: so many seconds from now, or earlier where somebody says so, on whatever thread."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    def end_now(self) -> None:
        """It is over."""
        self._at = -math.inf

    @property
    def is_over(self) -> bool:
        """Whether it is."""
        return time.monotonic() > self._at


_deadline: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


@contextmanager
def within(deadline: Deadline) -> Iterator[None]:
    """Let no search of the block go on after the deadline: it raises `TookTooLong`."""
    token = _deadline.set(deadline)
    try:
        yield
    finally:
        _deadline.reset(token)


def check_pattern(pattern: str) -> None:
    """Raise `InvalidValue`, with what to do, for what RE2 cannot read, and what is found everywhere or takes too long."""
    if _SINGLE_BYTE.search(pattern):
        raise InvalidValue(f"{shown(pattern)} has \\C, which cuts characters apart: write . instead")
    try:
        compiled = _compiled(pattern)
    except re2.error as error:
        raise InvalidValue(f"{shown(pattern)} is not a regular expression that RE2 reads: {_reason(error)}") from error
    if compiled.search("") is not None:
        raise InvalidValue(f"{shown(pattern)} matches the empty text, so it would be found everywhere: write + for *")
    if compiled.programsize > MOST_STATES:
        raise InvalidValue(
            f"{shown(pattern)} has more than {MOST_STATES} states: lower its repetitions such as {{1,100}}"
        )


def spans_of(pattern: str, text: str, ours: str | None = None) -> Iterator[tuple[int, int]]:
    """Where a pattern that `check_pattern` took is found in a text, from left to right; none of them is empty.

    `ours`: what a pattern looks for that no tenant wrote. Raises `TookTooLong` in a block of `within`.
    """
    _check_pattern_time(pattern, ours)
    # Half of a pair is no character that RE2 knows; what stands for it is as long.
    for match in _compiled(pattern).finditer(_SURROGATES.sub("\ufffd", text)):
        _check_pattern_time(pattern, ours)
        start, end = match.span()
        if end > start:
            yield start, end


def check_time(ours: str) -> None:
    """Raise `TookTooLong` if the time is over in a block of `within`; `ours` says for what, which is no tenant's pattern."""
    if _is_over():
        raise TookTooLong(f"{ours}, which is no pattern of the tenant's own, takes too long in this body")


def _check_pattern_time(pattern: str, ours: str | None) -> None:
    if ours is not None:
        check_time(ours)
    elif _is_over():
        raise TookTooLong(
            f"the pattern {shown(pattern)} takes too long: write it so that less of a text fits its beginning"
        )


def _is_over() -> bool:
    deadline = _deadline.get()
    return deadline is not None and deadline.is_over


@lru_cache(maxsize=_COMPILED)
def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MOST_MEMORY
    return re2.compile(pattern, options)


def _reason(error: Exception) -> str:
    said = error.args[0] if error.args else ""
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)
