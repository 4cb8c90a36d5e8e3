"""The console: pages for people and a JSON API for programs, over what is booked. It reads and never writes.

Its one entrance is `Console(settings, reader, policy, subscribe)`; errors are listed in `tollkeeper_console.errors`.
"""

from tollkeeper_console.errors import ConsoleError
from tollkeeper_console.server import Console, RunningConsole
from tollkeeper_console.settings import ConsoleSettings

__all__ = ["Console", "ConsoleError", "ConsoleSettings", "RunningConsole"]
