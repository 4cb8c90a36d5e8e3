"""Whether the demo's ports are free, asked before a cluster is built or started for it."""

from contextlib import ExitStack, closing

from tollkeeper_cli.listening import bound, reason
from tollkeeper_demo.settings import PORTS, DemoSettings
from tollkeeper_demo.telling import StoryError

LOOPBACK = "127.0.0.1"


def require_free_ports(settings: DemoSettings) -> None:
    """Raises `StoryError` that names the variable which moves the server whose port cannot be had."""
    variables: dict[int, str] = {}
    with ExitStack() as held:
        for server, port in settings.ports.items():
            variable = PORTS[server][0]
            if other := variables.get(port):
                raise StoryError(f"{other} and {variable} are both {port}: give each server a port of its own")
            variables[port] = variable
            host = settings.webhook_host or LOOPBACK if server == "webhook" else LOOPBACK
            try:
                held.enter_context(closing(bound(host, port)))
            except OSError as error:
                raise StoryError(
                    f"{server.replace('_', ' ')}: cannot listen on {host}:{port}: {reason(error)}; end what listens there, "
                    f"or choose another port, such as `make demo {variable}={_another(port)}`"
                ) from error


def _another(port: int) -> int:
    return port + 1000 if port < 64536 else port - 1000
