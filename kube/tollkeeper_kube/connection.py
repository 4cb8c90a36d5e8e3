"""How to reach the API server: kubeconfig, named context, or the pod's own service account."""

import asyncio
import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import yaml
from kubernetes_asyncio.client.configuration import Configuration
from kubernetes_asyncio.client.rest import RESTClientObject
from kubernetes_asyncio.config import ConfigException, load_incluster_config, load_kube_config

from tollkeeper_kube.errors import NoCluster, one_line

_IN_CLUSTER = "KUBERNETES_SERVICE_HOST"
_DAMAGED = (ValueError, TypeError, AttributeError, AssertionError)
_READ_BUFFER = 2**21  # an object may be 1.5 MiB, and a watch sends it as one line


@dataclass(frozen=True, slots=True)
class Credentials:
    """What another client needs to reach the same server as the same user; a token as it is now. Files hold PEM."""

    server: str
    verify: bool
    ca_file: str | None
    certificate_file: str | None
    key_file: str | None
    token: str | None = field(repr=False)


async def credentials_of(configuration: Any) -> Credentials:
    """The credentials in use; tokens of login plugins are renewed when they are about to end."""
    bearer = (await configuration.auth_settings()).get("BearerToken", {}).get("value", "")
    return Credentials(
        server=str(configuration.host),
        verify=bool(configuration.verify_ssl),
        ca_file=configuration.ssl_ca_cert or None,
        certificate_file=configuration.cert_file or None,
        key_file=configuration.key_file or None,
        token=bearer.removeprefix("Bearer ") or None,
    )


async def configure(context: str | None, kubeconfig: Path | None) -> Any:
    """The client library's configuration. Named things first, then $KUBECONFIG, the pod's own account, ~/.kube/config.

    Raises `NoCluster`.
    """
    configuration: Any = Configuration()
    try:
        named = context is not None or kubeconfig is not None or "KUBECONFIG" in os.environ
        if not named and _IN_CLUSTER in os.environ:
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            return configuration
        await _from_file(configuration, context, _shown(kubeconfig))
    # The loader meets hand-written files: what it does not check itself surfaces as a plain Python error.
    except (ConfigException, yaml.YAMLError, OSError, LookupError, *_DAMAGED) as cause:
        where = f"context {context!r} of {_shown(kubeconfig)}" if context else _shown(kubeconfig)
        reason = one_line(str(cause)) or type(cause).__name__
        remedy = "name a context with --context, or a file with KUBECONFIG"
        raise NoCluster(f"no connection from {where}: {reason}; {remedy}") from cause
    return configuration


async def _from_file(configuration: Any, context: str | None, path: str) -> None:
    if not _is_there(path):
        raise FileNotFoundError("there is no such file")
    loader = await load_kube_config(
        config_file=path, context=context, client_configuration=configuration, persist_config=False
    )
    if not getattr(configuration, "host", "").startswith(("https://", "http://")):
        raise ValueError("the cluster has no server address")
    # Tokens of login plugins end: asked before each request, the loader renews them when they are about to.
    configuration.refresh_api_key_hook = loader.load_and_set


def open_session(configuration: Any) -> aiohttp.ClientSession:
    """The HTTP session that the library's REST client makes of its configuration. Must be called on the event loop.

    Requests are not made through that client: it writes bodies as text that the API server does not read everywhere alike.
    """
    asyncio.get_running_loop()
    session: aiohttp.ClientSession = RESTClientObject(configuration).pool_manager
    if is_loopback(configuration.host):
        # A proxy set for the outside world cannot reach this machine's own addresses; kubectl skips it as well.
        connector = session.connector
        session.detach()
        session = aiohttp.ClientSession(connector=connector, read_bufsize=_READ_BUFFER)
    return session


def server_options(configuration: Any) -> dict[str, Any]:
    """What the configuration wants of each request: a proxy, another name for the server in TLS."""
    options = {
        "proxy": configuration.proxy,
        "proxy_headers": configuration.proxy_headers,
        "server_hostname": configuration.tls_server_name,
    }
    return {name: value for name, value in options.items() if value}


def is_loopback(url: str) -> bool:
    """Whether an address is on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_there(path: str) -> bool:
    return any(Path(part).is_file() for part in path.split(os.pathsep))


def _default_file() -> str:
    return os.environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())


def _shown(kubeconfig: Path | None) -> str:
    return str(kubeconfig) if kubeconfig else _default_file()
