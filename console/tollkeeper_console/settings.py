"""What the console can be told, checked when it is built."""

from dataclasses import dataclass
from ipaddress import ip_address

from tollkeeper_console.errors import ConsoleError

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


@dataclass(frozen=True, slots=True)
class ConsoleSettings:
    """Where the console listens and how it pages. Raises `ConsoleError` for an address that other machines can reach.

    There are no roles yet (R38), so whoever reaches the console sees everything: it serves this machine alone. Port 0
    takes a free one. `refresh_seconds` is the shortest time between two events to one page.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    page_size: int = 20
    refresh_seconds: float = 1.0

    def __post_init__(self) -> None:
        if not _is_loopback(self.host):
            raise ConsoleError(
                f"console.host is {self.host!r}: the console has no sign-in yet and serves this machine alone; write "
                "127.0.0.1, and reach it from elsewhere by kubectl port-forward or an SSH tunnel"
            )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
