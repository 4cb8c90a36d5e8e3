"""Whether every address can be listened on, asked before anything is started or changed in a cluster.

Somebody else may still take a port between this question and its use; then the server itself says so.
"""

import errno
import socket
from contextlib import ExitStack, closing

from tollkeeper.errors import Unavailable
from tollkeeper_cli.settings import InvalidSettings, Settings


def require_free_ports(settings: Settings, webhook_host: str) -> None:
    """Raises `InvalidSettings` for a port that two servers are to have, `Unavailable` for an address that cannot be had."""
    ports: dict[str, int] = settings.ports.model_dump()
    _require_different(ports)
    with ExitStack() as held:
        for server, port in ports.items():
            host = webhook_host if server == "webhook" else settings.host
            try:
                held.enter_context(closing(bound(host, port)))
            except OSError as error:
                what = f"{server.replace('_', ' ')}: cannot listen on {host}:{port}: {reason(error)}"
                raise Unavailable(f"{what}; {_remedy(error, server)}") from error


def _require_different(ports: dict[str, int]) -> None:
    first: dict[int, str] = {}
    for server, port in ports.items():
        if port and first.setdefault(port, server) != server:
            other = first[port]
            raise InvalidSettings(
                f"ports.{other} and ports.{server} are both {port}: give each server a port of its own, or 0 for a free one"
            )


def bound(host: str, port: int) -> socket.socket:
    """A socket on an address, as a server would have it, that does not listen. Raises `OSError`."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    opened = socket.socket(family, kind, protocol)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
    except OSError:
        opened.close()
        raise
    return opened


def reason(error: OSError) -> str:
    """Why an address cannot be had, in a few words."""
    if error.errno == errno.EADDRINUSE:
        return "the port is taken"
    return (error.strerror or str(error)).lower()


def _remedy(error: OSError, server: str) -> str:
    if error.errno in (errno.EADDRINUSE, errno.EACCES):
        option = f"--{server.replace('_', '-')}-port"
        return f"choose another with {option} or ports.{server} (0 takes a free one), or end what listens there"
    named = "--webhook-host" if server == "webhook" else "host in the settings"
    return f"name an address of this machine ({named})"
