"""How a failure leaves the program: one line on standard error and an exit code."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from tollkeeper.errors import TollkeeperError
from tollkeeper_cli.errors import WrongRequest
from tollkeeper_ledger.captures.errors import CaptureDamaged
from tollkeeper_ledger.errors import BooksDiffer, ChainBroken


class Failed(click.ClickException):
    """What was asked for was not done."""

    exit_code = 1

    def format_message(self) -> str:
        """One line, whatever the cause wrote."""
        return " ".join(self.message.split())


class WrongUsage(Failed):
    """What was given, options or settings, cannot be; nothing was tried."""

    exit_code = 2


class Violation(Failed):
    """A check found what must not be."""

    exit_code = 3


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """Turn what a person can act on into its line and exit code; anything else is a bug and keeps its traceback."""
    try:
        yield
    except (ChainBroken, BooksDiffer, CaptureDamaged) as error:
        raise Violation(str(error)) from error
    except WrongRequest as error:
        raise WrongUsage(str(error)) from error
    except (TollkeeperError, OSError) as error:
        raise (WrongUsage if _is_of_settings(error) else Failed)(_words(error)) from error
    except BaseExceptionGroup as group:
        # Parts that run side by side fail as a group; the first that a person can act on stands for it.
        known, others = group.split((TollkeeperError, OSError))
        if known is None or others is not None:
            raise
        raise Failed(_words(_first(known))) from group


def _is_of_settings(error: Exception) -> bool:
    from tollkeeper_cli.settings import InvalidSettings  # it loads pydantic, which most commands need not wait for

    return isinstance(error, InvalidSettings)


def _words(error: BaseException) -> str:
    """What an error says; the system's own without their number, the file in front."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
