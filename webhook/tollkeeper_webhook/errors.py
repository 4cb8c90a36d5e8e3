"""The errors of the webhook's servers.

- `PortTaken`: an address that it must listen on is in use or not permitted (an `Unavailable` of the domain).
"""

from tollkeeper.errors import Unavailable


class PortTaken(Unavailable):
    """An address cannot be listened on."""
