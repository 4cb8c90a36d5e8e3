"""What a command refuses before anything is tried. `failure` says how it ends the program.

- `WrongRequest`: what is asked for cannot be done as it is written.
- `settings.InvalidSettings`: the settings cannot be as they are.
"""

from tollkeeper.errors import InvalidValue


class WrongRequest(InvalidValue):
    """What is asked for cannot be done as it is written, whatever stands in the ledger."""
