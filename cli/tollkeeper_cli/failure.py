"""How a failure leaves the program: one line on standard error and an exit code."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from tollkeeper.errors import TollkeeperError
from tollkeeper_ledger.errors import ChainBroken

FAILED, VIOLATION = 1, 3


class OneLine(click.ClickException):
    """A failure as its user sees it."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        setattr(self, "exit_code", exit_code)  # noqa: B010 - click declares it for the class

    def format_message(self) -> str:
        """One line, whatever the cause wrote."""
        return " ".join(self.message.split())


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """Turn what a person can act on into its line and exit code; anything else is a bug and keeps its traceback."""
    try:
        yield
    except ChainBroken as error:
        raise OneLine(str(error), VIOLATION) from error
    except (TollkeeperError, OSError) as error:
        raise OneLine(str(error), FAILED) from error
    except BaseExceptionGroup as group:
        # Parts that run side by side fail as a group; the first that a person can act on stands for it.
        known, others = group.split((TollkeeperError, OSError))
        if known is None or others is not None:
            raise
        raise OneLine(str(_first(known)), FAILED) from group


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
