"""What the webhook's servers are told at start."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """Addresses. `hosts` are the names and addresses that the API server uses: the certificate is made for them.

    Port 0 takes any free one.
    """

    host: str = "127.0.0.1"
    port: int = 8443
    health_host: str = "127.0.0.1"
    health_port: int = 8081
    hosts: tuple[str, ...] = ("127.0.0.1", "localhost")
