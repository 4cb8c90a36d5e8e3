"""What can go wrong in the console.

- `ConsoleError` (a `TollkeeperError`): the console cannot start or check itself; one line: what, where, what to do.
- `NotFound` (a `TollkeeperError`): what was asked for is not there.
"""

from tollkeeper.errors import TollkeeperError


class ConsoleError(TollkeeperError):
    """The console cannot start, or its files cannot be checked."""


class NotFound(TollkeeperError):
    """A budget, quota, account or usage that does not exist."""
