"""Kopf's connections to the API server, in a session whose ends can be waited for.

Kopf closes its watches without waiting for TLS to say goodbye, which takes as long as the network and the server do.
Its loop must not end before: a connection that outlives its loop is never closed at all.
"""

import asyncio
import socket
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import kopf

CLOSED = -1
_LOOK_AGAIN_SECONDS = 0.01


@dataclass(slots=True)
class Connections:
    """The sockets of all sessions that were opened here. Everything belongs to Kopf's loop."""

    _sockets: list[socket.socket] = field(default_factory=list)

    def open(self, way: kopf.ConnectionInfo) -> kopf.AiohttpSession:
        """A session that goes this way, for Kopf to use and to close."""
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=way.as_ssl_context(), socket_factory=self._socket),
            headers=way.as_http_headers(),
            trust_env=way.trust_env,
        )
        return kopf.AiohttpSession(server=way.server, aiohttp_session=session)

    async def closed(self, seconds: float) -> bool:
        """Wait until all connections are closed, so long at most; whether they are."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while self._drop_closed() and loop.time() < deadline:  # noqa: ASYNC110 - sockets tell nobody that they closed
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        return not self._drop_closed()

    def _socket(self, address: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, *_ = address
        made = socket.socket(family, kind, protocol)
        self._drop_closed()
        self._sockets.append(made)
        return made

    def _drop_closed(self) -> int:
        """Forget what is closed; how many are open still."""
        self._sockets = [one for one in self._sockets if one.fileno() != CLOSED]
        return len(self._sockets)
